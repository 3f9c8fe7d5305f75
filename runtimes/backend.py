"""``Backend``: the one thing an inference engine must be able to do, and what some can do beyond it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..frame import Color
from ..imaging.letterbox import Letterbox
from ..manifest import InputSpec
from ..preprocess import Preprocessor

__all__ = ["Backend", "BindingBackend", "FrameBackend", "TensorInfo", "Workspace", "bind", "prepares_frames"]


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
    def parallel(self) -> int:
        """How many inferences at a time get most done."""

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


@runtime_checkable
class BindingBackend(Backend, Protocol):
    """A backend that can run on memory which is named once: nothing is copied or allocated for a frame."""

    def bind(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]
    ) -> Callable[[], object]:
        """Return a function that runs the model once, from and into these very arrays.

        The function is for one thread at a time; functions of several bindings may run side by side. It raises
        ``BackendError`` once the backend is closed.

        Args:
            feeds: One C-contiguous array for each input, by name.
            outputs: One C-contiguous array for each output, by name.

        Raises:
            BackendError: If the backend is closed, or refuses the arrays.
        """


class Workspace(Protocol):
    """The memory of one inference, from frames to outputs, and the engine bound to it; for one thread at a time."""

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[Any]]:
        """By name, what ``run`` has brought; valid until the next ``run`` or ``close``."""

    def fill(self, frame: Any, color: Color = "bgr", index: int = 0) -> Letterbox:
        """Prepare a frame; return the geometry that brings boxes back.

        Args:
            frame: As in a call of the Runtime.
            color: What the frame really is.
            index: Place of the frame in the batch.

        Raises:
            InputError: If the frame is not such an image.
            BackendError: If the backend is closed or fails.
        """

    def run(self) -> object:
        """Run the model on what was filled in; other places hold grey, or what they held before.

        Raises:
            BackendError: If the backend is closed or fails.
        """

    def close(self) -> None:
        """Give the memory back; called once, when nobody uses it."""


@runtime_checkable
class FrameBackend(Backend, Protocol):
    """A backend that prepares frames where it runs: it brings the very picture there that a ``Preprocessor`` makes."""

    def receive(self, frame: Any) -> Any:
        """Return a frame that any thread may fill in, for one that another thread may not be able to wait for.

        Libraries that compute on a GPU know by thread what is still to be done before an array may be read.

        Args:
            frame: As in a call of the Runtime, from the thread that has it.

        Raises:
            InputError: If the frame is not such an image.
            BackendError: If the backend is closed or fails.
        """

    def workspace(self, preprocessor: Preprocessor, batch: int) -> Workspace:
        """Return memory for a batch of frames.

        Args:
            preprocessor: How frames are prepared.
            batch: How many frames.

        Raises:
            BackendError: If the backend is closed, or has no memory left.
        """


def prepares_frames(backend: Backend, spec: InputSpec) -> TypeGuard[FrameBackend]:
    """Return whether a backend prepares the frames of an input itself: it letterboxes, and cuts nothing out."""
    return isinstance(backend, FrameBackend) and spec.resize == "letterbox"


def bind(
    backend: Backend, feeds: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]
) -> Callable[[], object]:
    """Return a function that runs a backend from and into these arrays, with a copy where the backend needs one.

    Raises:
        BackendError: If the backend is closed, or refuses the arrays.
    """
    if isinstance(backend, BindingBackend):
        return backend.bind(feeds, outputs)

    def run() -> None:
        found = backend.infer(feeds)
        for name, place in outputs.items():
            value = found.get(name)
            if value is None or value.shape != place.shape:
                given = {name: value.shape for name, value in found.items()}
                raise BackendError(f"the engine gave {given}", expected=f"{name!r} of shape {place.shape}")
            np.copyto(place, value)

    return run
