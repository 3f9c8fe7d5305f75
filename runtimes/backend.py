"""``Backend``: the one thing an inference engine must be able to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from ..errors import InputError

__all__ = ["Backend", "TensorInfo", "check_cuda_or_cpu"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, shape and numpy dtype name of one input or output of an engine.

    Attributes:
        shape: Sizes; None where the engine's model leaves the size open.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Backend(Protocol):
    """An engine with one loaded model. It never sees an image; it maps tensors to tensors."""

    @property
    def name(self) -> str:
        """The engine and its version, such as ``onnxruntime 1.23.0``."""

    @property
    def device(self) -> str:
        """What the model really runs on, such as ``cpu (CPUExecutionProvider)``."""

    @property
    def threads(self) -> int:
        """Threads of one inference on the CPU."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs, as the engine reports them."""

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs, as the engine reports them."""

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once; may be called from several threads at a time.

        Args:
            feeds: One array for each input, by name.

        Returns:
            One array for each output, by name.

        Raises:
            BackendError: If the engine refuses the feeds or fails.
        """

    def close(self) -> None:
        """Let go of the model; may be called twice."""


def check_cuda_or_cpu(device: str) -> None:
    """Refuse names that an engine for CPUs and NVIDIA GPUs does not know.

    Raises:
        InputError: If it is not ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {device!r} is not known here", expected="'auto', 'cpu' or 'cuda'")
