"""``MilBackend``: a CoreML package as a ``Backend``, evaluated here instead of by Apple's engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BackendError, ExportError, InputError
from ...runtimes.backend import TensorInfo
from .evaluator import Evaluator
from .mil_types import type_named
from .program import Feature, MilProgram

__all__ = ["MilBackend"]


class MilBackend:
    """A package, run by the reference evaluator: what it computes is what a device should, its speed says nothing.

    A package with an image input takes pixels: uint8, shape (1, height, width, 3), RGB, as the manifests of CoreML
    artifacts say. One with a tensor input takes float32, shape (batch, 3, height, width). Where it takes several sizes,
    the default one is told as its input. ``infer`` may be called from several threads.

    Args:
        package: Path of the ``.mlpackage`` directory; or its files by relative path.

    Raises:
        MissingDependencyError: If coremltools or torch is not installed.
        ArtifactError: If the package is damaged, or is no ML Program.
        ExportError: If it has operators that are not known here.
    """

    def __init__(self, package: Path | Mapping[str, bytes]) -> None:
        program = MilProgram.load(package)
        self._evaluator: Evaluator | None = Evaluator(program)
        import torch

        self.name = "coreml (simulated)"
        self.device = "cpu (simulated)"
        self.threads = torch.get_num_threads()
        self.parallel = 1
        self._images = frozenset(one.name for one in program.inputs if one.color)
        self.inputs = tuple(_info(one) for one in program.inputs)
        shapes = {one.name: one.shape for one in program.outputs}
        if not all(shapes.values()):  # the description leaves some open: see what comes out by default
            blank = {one.name: np.zeros(_plain(one), _info(one).dtype) for one in program.inputs}
            shapes = {name: array.shape for name, array in self.infer(blank).items()}
        varies = any(one.shape[0] is None for one in self.inputs)
        self.outputs = tuple(
            TensorInfo(one.name, _batched(shapes[one.name], varies), _numpy(one.dtype)) for one in program.outputs
        )

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the program once. The outputs are the caller's own.

        Raises:
            BackendError: If the backend is closed, the feeds are not the inputs, or an operator cannot be computed.
        """
        evaluator = self._evaluator  # another thread may close the backend meanwhile
        if evaluator is None:
            raise BackendError("this backend is closed")
        try:
            return evaluator.run({name: self._fed(name, array) for name, array in feeds.items()})
        except (InputError, ExportError) as error:
            raise BackendError(error.fact, expected=error.expected, remedy=error.remedy) from error

    def close(self) -> None:
        """Let go of the program; running calls finish first."""
        self._evaluator = None

    def _fed(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what ``MilProgram.run`` takes: of an image no axis of the batch."""
        return array[0] if name in self._images and array.ndim == 4 and array.shape[0] == 1 else array


def _info(feature: Feature) -> TensorInfo:
    """Return an input as a Runtime knows it; its batch is None where the model takes several."""
    if feature.color is not None:
        return TensorInfo(feature.name, (1, *feature.shape[2:], 3), "uint8")
    batches = {shape[0] for shape in (feature.shape, *feature.choices)}
    varies = len(batches) > 1 or (bool(feature.bounds) and feature.bounds[0][0] != feature.bounds[0][1])
    return TensorInfo(feature.name, _batched(feature.shape, varies), _numpy(feature.dtype))


def _batched(shape: tuple[int, ...], varies: bool) -> tuple[int | None, ...]:
    return (None, *shape[1:]) if varies and shape else shape


def _plain(feature: Feature) -> tuple[int, ...]:
    return feature.shape if feature.color is None else (*feature.shape[2:], 3)


def _numpy(dtype: str) -> str:
    return np.dtype(type_named(dtype).array).name
