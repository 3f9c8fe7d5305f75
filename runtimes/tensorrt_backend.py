"""TensorRT and TensorRT for RTX as a ``Backend``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..manifest import Manifest
from ..preprocess import Preprocessor
from .backend import TensorInfo, Workspace
from .cuda.device_array import is_on_device
from .tensorrt_lane import Lane
from .tensorrt_library import Flavor
from .tensorrt_plan import LoadedPlan, active, quietly
from .tensorrt_workspace import TensorRtWorkspace, find_on_device

__all__ = ["TensorRtBackend"]


class TensorRtBackend:
    """One engine on one GPU; ``infer`` may be called from several threads.

    Each inference that runs at the same time as others has an execution context, a stream and page-locked memory of
    its own, which are kept for later ones. Memory is copied to and from the device beside what others compute; where
    CPU and GPU share it, as on Jetson, nothing is copied.

    Args:
        plan: The engine as TensorRT wrote it, a file or its content; or the ``.onnx`` file that it is built from, which
            is done once for a device and can take minutes.
        manifest: Of the artifact; ``manifest.engine`` says what an engine was built with and for.
        flavor: The library.
        device: ``"auto"`` and ``"cuda"`` are the first GPU as CUDA orders them, ``"cuda:1"`` the second. It is used or
            refused.
        cache: Folder where engines are kept that are built here; None is the user's. What lies there is trusted.

    Raises:
        InputError: If there can be no such device.
        MissingDependencyError: If the library, or one that binds CUDA, is not installed.
        BackendError: If the GPU is not to be had.
        ArtifactError: If the engine is damaged, was built for another GPU or version, or needs a plugin that there is
            not.
    """

    threads = 1  # of the CPU: it only puts work into a stream
    parallel = 2  # while one computes, what another needs is copied

    def __init__(
        self, plan: Path | bytes, *, manifest: Manifest, flavor: Flavor, device: str = "auto", cache: Path | None = None
    ) -> None:
        self._plan = LoadedPlan(plan, manifest, flavor=flavor, device=device, cache=cache)
        # How much work suppression is depends on the boxes, so that it cannot be recorded once for all.
        self._capture = manifest.nms_iou is None
        facts = self._plan.device.facts
        self.name = self._plan.name
        self.device = f"cuda:{self._plan.index} ({facts.name}, {facts.architecture})"
        self.inputs = tuple(tensor.info for tensor in self._plan.tensors if tensor.is_input)
        self.outputs = tuple(tensor.info for tensor in self._plan.tensors if not tensor.is_input)
        self._lock = threading.RLock()
        self._idle: list[Lane] = []  # of ``infer``
        self._bound: WeakSet[Lane] = WeakSet()

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once. The outputs are the caller's own.

        Raises:
            BackendError: If the backend is closed, the feeds are not the inputs, or the engine or the device fails.
        """
        lane = self._take(self._batch_of(feeds))
        try:
            with lane:
                for name, array in feeds.items():
                    np.copyto(lane.inputs[name], array)
                lane.run()
                return {name: array.copy() for name, array in lane.outputs.items()}
        finally:
            self._idle.append(lane)
            if self._plan.closed:
                self.close()

    def bind(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]
    ) -> Callable[[], object]:
        """Return a function that runs the model from and into these very arrays, by way of page-locked memory.

        Raises:
            BackendError: If the backend is closed, the arrays are not inputs and outputs, or there is too little
                memory.
        """
        batch = self._batch_of(feeds)
        lane = self._lane(batch)
        expected = {name: (array.dtype, array.shape) for name, array in lane.outputs.items()}
        if expected != (found := {name: (array.dtype, array.shape) for name, array in outputs.items()}):
            lane.close()
            raise BackendError(f"the outputs are {_shown(found)}", expected=_shown(expected))
        self._bound.add(lane)
        feeds, outputs = dict(feeds), dict(outputs)

        def run() -> object:
            with lane:
                for name, array in feeds.items():
                    np.copyto(lane.inputs[name], array)
                lane.run()
                for name, array in outputs.items():
                    np.copyto(array, lane.outputs[name])
            return self

        return run

    def workspace(self, preprocessor: Preprocessor, batch: int) -> Workspace:
        """Return memory for a batch of frames, which the GPU letterboxes.

        Raises:
            BackendError: If the backend is closed, the batch is not in the engine's profile, or there is too little
                memory.
        """
        return TensorRtWorkspace(self._plan, preprocessor, batch, capture=self._capture)

    def receive(self, frame: Any) -> Any:
        """Wait until a frame is there that lies on the GPU, and return where; return others as they are.

        Raises:
            InputError: If it is no picture on this GPU.
            BackendError: If the backend is closed, or the device fails.
        """
        if isinstance(frame, np.ndarray) or not is_on_device(frame):
            return frame
        plan = self._plan
        plan.join()
        try:
            with active(plan.device):
                stream = plan.device.stream()
                try:
                    found = find_on_device(frame, plan, stream)
                    plan.device.synchronize(stream)
                finally:
                    quietly(plan.device.destroy_stream, stream)
        finally:
            plan.leave()
        return replace(found, stream=None)

    def close(self) -> None:
        """Let go of the engine and the device; running calls finish first."""
        self._plan.close()
        with self._lock:
            lanes = [*self._idle, *self._bound]
            self._idle.clear()
        for lane in lanes:
            lane.close()

    def _take(self, batch: int) -> Lane:
        with self._lock:
            self._plan.check_open()
            for index, lane in enumerate(self._idle):
                if lane.batch == batch:
                    return self._idle.pop(index)
        return self._lane(batch)

    def _lane(self, batch: int) -> Lane:
        return Lane(self._plan, batch, host_inputs=True, capture=self._capture)

    def _batch_of(self, feeds: Mapping[str, npt.NDArray[Any]]) -> int:
        """Refuse what are not the inputs; return how many images they hold."""
        self._plan.check_open()
        batch = next((len(array) for array in feeds.values() if array.ndim), 0)
        expected = {tensor.name: (np.dtype(tensor.dtype), _sizes(tensor, batch)) for tensor in self.inputs}
        if expected != (found := {name: (array.dtype, array.shape) for name, array in feeds.items()}):
            raise BackendError(f"the feeds are {_shown(found)}", expected=_shown(expected))
        return batch


def _sizes(tensor: TensorInfo, batch: int) -> tuple[int | None, ...]:
    return (batch if tensor.shape[0] is None else tensor.shape[0], *tensor.shape[1:])


def _shown(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int | None, ...]]]) -> str:
    return ", ".join(f"{name}: {dtype} {shape}" for name, (dtype, shape) in tensors.items()) or "none"
