"""``open_workspace``: memory for an inference, prepared by OpenCV on the CPU or by an engine that does that itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..frame import Color
from ..imaging.letterbox import Letterbox
from ..manifest import Manifest
from ..preprocess import Preprocessor
from .backend import Backend, Workspace, bind, prepares_frames

__all__ = ["Workspaces", "open_workspace"]


class Workspaces:
    """The workspaces of one batch size that are not in use, and the way to a new one.

    Any thread may take and give back.

    Args:
        backend: The engine.
        preprocessor: How frames are prepared.
        manifest: Of the model.
        batch: How many frames a workspace is for.
    """

    def __init__(self, backend: Backend, preprocessor: Preprocessor, manifest: Manifest, batch: int) -> None:
        self.batch = batch
        self.idle: list[Workspace] = []
        self._new = backend, preprocessor, manifest
        self._closed = False

    def take(self) -> Workspace:
        """Return an idle workspace, or a new one.

        Raises:
            BackendError: If the backend is closed, or has no memory for another.
        """
        try:
            return self.idle.pop()  # a list's pop and append are atomic
        except IndexError:
            return open_workspace(*self._new, self.batch)

    def give_back(self, workspace: Workspace) -> None:
        """Keep a workspace for the next call."""
        self.idle.append(workspace)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close what is idle now, and later what is given back. May be called again, by any thread."""
        self._closed = True
        while True:
            try:
                workspace = self.idle.pop()
            except IndexError:
                return
            workspace.close()


def open_workspace(backend: Backend, preprocessor: Preprocessor, manifest: Manifest, batch: int) -> Workspace:
    """Return memory for a batch of frames.

    Raises:
        BackendError: If the backend is closed, or has no memory left.
    """
    if prepares_frames(backend, manifest.input):
        return backend.workspace(preprocessor, batch)
    outputs = {output.name: np.empty((batch, *output.shape[1:]), output.dtype) for output in manifest.outputs}
    return _HostWorkspace(backend, preprocessor, outputs, batch)


class _HostWorkspace:
    """Frames are prepared on the CPU, in the very array that the engine reads."""

    def __init__(
        self, backend: Backend, preprocessor: Preprocessor, outputs: dict[str, npt.NDArray[Any]], batch: int
    ) -> None:
        self._input = preprocessor.buffer(batch)
        self.outputs = outputs
        self._run = bind(backend, {preprocessor.spec.name: self._input.tensor}, outputs)

    def fill(self, frame: Any, color: Color = "bgr", index: int = 0) -> Letterbox:
        return self._input.fill(frame, color, index)

    def run(self) -> object:
        return self._run()

    def close(self) -> None:
        """The memory goes when nobody refers to it any more."""
