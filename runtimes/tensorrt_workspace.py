"""``TensorRtWorkspace``: frames go to the GPU as they are, and are letterboxed there into the engine's input."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import BackendError, InputError
from ..frame import Color
from ..imaging.letterbox import Letterbox
from ..preprocess import Preprocessor, check_frame, to_8_bits
from .cuda.device_array import DeviceArray, device_array, is_on_device
from .cuda.driver import CudaDevice, HostMemory
from .cuda.letterbox import PIXEL_BYTES
from .tensorrt_lane import Lane, array_on
from .tensorrt_plan import LoadedPlan, active, quietly

__all__ = ["TensorRtWorkspace", "find_on_device"]


class TensorRtWorkspace:
    """A ``Workspace`` whose input lies on the GPU alone; ``TensorRtBackend.workspace`` makes one.

    ``fill`` puts the copy of a frame and the letterbox kernel into the stream and does not wait, so that ``run`` takes
    their time too. Frames of 16 bits become 8 bits on the CPU. Frames that lie on the GPU are read where they are.
    """

    def __init__(self, plan: LoadedPlan, preprocessor: Preprocessor, batch: int, *, capture: bool) -> None:
        spec = preprocessor.spec
        wanted = (spec.name, spec.shape(batch), spec.dtype)
        takes = [(t.info.name, t.shape(batch), t.info.dtype) for t in plan.tensors if t.is_input]
        if takes != [wanted] or plan.letterbox.spec != spec:
            raise BackendError(f"the engine takes {takes}", expected=f"{[wanted]}, as the manifest says")
        self._plan = plan
        self._kept: list[object] = []  # frames of others on the GPU that the stream still reads
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
        try:
            return self._fill(frame, color, index)
        except BaseException:
            self._give_back_frames()
            raise

    def run(self) -> object:
        """As ``Workspace`` has it."""
        try:
            with self._lane as lane:
                lane.run()
            self._kept.clear()
        finally:
            self._give_back_frames()
        return self

    def wait(self) -> None:
        """Wait until what was filled in lies in the engine's input, for measuring."""
        with self._lane as lane:
            self._plan.device.synchronize(lane.stream)

    def close(self) -> None:
        """Give the memory back; nobody may use it any more."""
        if self._plan.is_ours():
            self._stack.close()

    def __del__(self) -> None:
        if hasattr(self, "_stack"):
            self.close()

    def _fill(self, frame: Any, color: Color, index: int) -> Letterbox:
        on_device = isinstance(frame, DeviceArray) or (not isinstance(frame, np.ndarray) and is_on_device(frame))
        if not on_device:
            check_frame(frame, color)
            if color.endswith("16"):
                frame, color = to_8_bits(frame), cast(Color, color.removesuffix("16"))
        with self._lane as lane:
            if on_device:
                address, pitch, height, width = self._on_device(frame, color, lane.stream)
            else:
                address = self._pictures[index].take(frame, lane.stream)
                height, width = frame.shape[:2]
                pitch = frame.nbytes // height
            letterbox = self._plan.letterbox
            output = lane.addresses[letterbox.spec.name] + index * letterbox.output_bytes
            return letterbox.launch(address, pitch, height, width, color, output, lane.stream)

    def _give_back_frames(self) -> None:
        """Let the GPU read the frames of others to their end where no run has: after an error they are theirs again."""
        if self._kept:
            with active(self._plan.device, closing=True):
                quietly(self._plan.device.synchronize, self._lane.stream)
            self._kept.clear()

    def _on_device(self, frame: Any, color: Color, stream: int) -> tuple[int, int, int, int]:
        """Return address, pitch, height and width of a frame on the GPU, and let the stream wait until it is there."""
        found = frame if isinstance(frame, DeviceArray) else find_on_device(frame, self._plan, stream)
        height, width, channels = found.shape
        if PIXEL_BYTES.get(color) != channels:
            fits = [name for name, count in PIXEL_BYTES.items() if count == channels]
            raise InputError(
                f"the frame on the GPU has shape {found.shape}, and its colour is said to be {color!r}",
                expected="one of " + ", ".join(map(repr, fits)),
                remedy=f"say color={fits[0]!r}",
            )
        self._kept.append(found.keep_alive)
        return found.address, found.pitch, height, width

    def _forget_pictures(self) -> None:
        with active(self._plan.device, closing=True):  # this thread may be another
            quietly(self._plan.device.synchronize, self._lane.stream)
            for picture in self._pictures:
                picture.free()
        self._kept.clear()


def find_on_device(frame: Any, plan: LoadedPlan, stream: int) -> DeviceArray:
    """Find a frame on the GPU, and let a stream wait until it is there.

    Raises:
        InputError: If it is no picture on this GPU.
        BackendError: If the device fails.
    """
    device = plan.device
    found = device_array(frame, stream=stream, device=plan.index)
    if found.device is None and not device.reaches(found.address):
        raise InputError(
            f"the frame does not lie on CUDA device {plan.index}",
            expected="memory of that device",
            remedy="copy it there, or open the device that it lies on",
        )
    if found.stream is not None:
        event = device.event()
        try:
            device.record(event, found.stream)
            device.wait(stream, event)
        finally:
            device.destroy_event(event)
    return found


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
