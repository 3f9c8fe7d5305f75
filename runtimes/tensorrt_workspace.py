"""``TensorRtWorkspace``: frames go to the GPU as they are, and are letterboxed there into the engine's input."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from ..frame import Color
from ..imaging.letterbox import Letterbox
from ..preprocess import Preprocessor, check_frame, to_8_bits
from .cuda.driver import CudaDevice, HostMemory
from .tensorrt_lane import Lane, array_on
from .tensorrt_plan import LoadedPlan, quietly

__all__ = ["TensorRtWorkspace"]


class TensorRtWorkspace:
    """A ``Workspace`` whose input lies on the GPU alone; ``TensorRtBackend.workspace`` makes one.

    ``fill`` puts the copy of a frame and the letterbox kernel into the stream and does not wait, so that ``run`` takes
    their time too. Frames of 16 bits become 8 bits on the CPU.
    """

    def __init__(self, plan: LoadedPlan, preprocessor: Preprocessor, batch: int, *, capture: bool) -> None:
        spec = preprocessor.spec
        wanted = (spec.name, spec.shape(batch), spec.dtype)
        takes = [(t.info.name, t.shape(batch), t.info.dtype) for t in plan.tensors if t.is_input]
        if takes != [wanted] or plan.letterbox.spec != spec:
            raise BackendError(f"the engine takes {takes}", expected=f"{[wanted]}, as the manifest says")
        self._plan = plan
        with ExitStack() as stack:
            self._lane = Lane(plan, batch, host_inputs=False, capture=capture)
            stack.callback(self._lane.close)
            self._pictures = [_Picture(plan.device, mapped=self._lane.mapped) for _ in range(batch)]
            stack.callback(self._forget_pictures)
            if batch > 1:  # places that nobody fills
                grey = np.full((1, 1, 3), spec.pad_value, np.uint8)
                for index in range(batch):
                    self.fill(grey, "bgr", index)
            self._stack = stack.pop_all()

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[Any]]:
        """As ``Workspace`` has it."""
        return self._lane.outputs

    def fill(self, frame: Any, color: Color = "bgr", index: int = 0) -> Letterbox:
        """As ``Workspace`` has it."""
        check_frame(frame, color)
        if color.endswith("16"):
            frame, color = to_8_bits(frame), cast(Color, color.removesuffix("16"))
        with self._lane as lane:
            address = self._pictures[index].take(frame, lane.stream)
            height, width = frame.shape[:2]
            letterbox = self._plan.letterbox
            output = lane.addresses[letterbox.spec.name] + index * letterbox.output_bytes
            return letterbox.launch(address, frame.nbytes // height, height, width, color, output, lane.stream)

    def run(self) -> object:
        """As ``Workspace`` has it."""
        with self._lane as lane:
            lane.run()
        return self

    def close(self) -> None:
        """Give the memory back; nobody may use it any more."""
        if self._plan.is_ours():
            self._stack.close()

    def __del__(self) -> None:
        if hasattr(self, "_stack"):
            self.close()

    def _forget_pictures(self) -> None:
        quietly(self._plan.device.activate)  # this thread may be another
        quietly(self._plan.device.synchronize, self._lane.stream)
        for picture in self._pictures:
            picture.free()


class _Picture:
    """Page-locked memory for a frame, and for its copy on the device; both grow with the frames."""

    def __init__(self, device: CudaDevice, *, mapped: bool) -> None:
        self._device, self._mapped = device, mapped
        self._host: HostMemory | None = None
        self._address = 0

    def take(self, frame: npt.NDArray[np.uint8], stream: int) -> int:
        """Put the copy of a frame into the stream; return where the device finds it."""
        if self._host is None or self._host.size < frame.nbytes:
            self._device.synchronize(stream)  # what reads the old memory
            self.free()
            if not self._mapped:
                self._address = self._device.allocate(frame.nbytes)
            self._host = self._device.allocate_host(frame.nbytes, mapped=self._mapped)
        np.copyto(array_on(self._host, frame.shape, "uint8"), frame)
        if self._mapped:
            return self._host.device_address
        self._device.copy_to_device(self._address, self._host.address, frame.nbytes, stream)
        return self._address

    def free(self) -> None:
        """Give both back; what uses them must be done."""
        host, self._host = self._host, None
        address, self._address = self._address, 0
        if address:
            quietly(self._device.free, address)
        if host is not None:
            quietly(self._device.free_host, host)
