"""``DeviceLetterbox``: what ``Preprocessor`` does to a frame, done by the GPU to a frame that lies on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from types import TracebackType

from ...errors import InputError
from ...frame import Color
from ...imaging.letterbox import Letterbox, plan_letterbox
from ...manifest import InputSpec
from .driver import CudaDevice

__all__ = ["PIXEL_BYTES", "DeviceLetterbox"]

PIXEL_BYTES: dict[Color, int] = {"bgr": 3, "rgb": 3, "gray": 1, "bgra": 4, "rgba": 4}
"""The colours that a frame on the device may have, and the bytes of a pixel."""

_RED_GREEN_BLUE = {"bgr": (2, 1, 0), "rgb": (0, 1, 2), "gray": (0, 0, 0), "bgra": (2, 1, 0), "rgba": (0, 1, 2)}
_LARGEST = 2**31  # the kernel counts in 32 bits


@dataclass(frozen=True, slots=True)
class _Facts:
    name: str
    shared: int
    threads: int  # of a block
    rows: int  # that a block writes
    columns: int


class DeviceLetterbox:
    """Letterbox, BGR to RGB, ``pixel * scale``, HWC to CHW in one kernel; for pixels input, the letterbox alone.

    The pictures are those of ``Preprocessor`` to the bit for all common sizes; at a few odd pairs of sizes, some values
    differ by one grey level. A launch allocates nothing, so threads may share it, each with a stream of its own.
    Its arguments follow the frame's size: put it into the stream before a graph, not into the graph.

    Args:
        device: Where; active in this thread, and in each thread that launches or closes.
        spec: The input of the manifest.

    Raises:
        BackendError: If the driver cannot compile the kernel.
    """

    def __init__(self, device: CudaDevice, spec: InputSpec) -> None:
        self.spec = spec
        self._device = device
        text = (
            files(__package__)
            .joinpath("letterbox_uint8.ptx" if spec.pixels else "letterbox_float32.ptx")
            .read_text("ascii")
        )
        self._kernel = _Facts(**json.loads(text.splitlines()[0].removeprefix("//")))
        self._module: int | None = device.load_module(text.encode())
        try:
            self._function = device.function(self._module, self._kernel.name)
        except BaseException:
            self.close()
            raise

    @property
    def output_bytes(self) -> int:
        """What one picture takes in the tensor."""
        return 3 * self.spec.height * self.spec.width * (1 if self.spec.pixels else 4)

    def launch(
        self,
        source_address: int,
        pitch: int,
        height: int,
        width: int,
        color: Color,
        output_address: int,
        stream: int,
    ) -> Letterbox:
        """Put the preparation of one frame into a stream.

        Args:
            source_address: The first byte of the frame on the device, uint8, channels last; it must stay as it is until
                the stream gets past here.
            pitch: Bytes from row to row, at least ``width`` pixels.
            height: Of the frame, pixels.
            width: Of the frame, pixels.
            color: Order and number of the channels, one of ``PIXEL_BYTES``.
            output_address: Where this picture begins in the tensor; ``output_bytes`` are written, padding included.
            stream: Where to.

        Returns:
            The geometry that brings boxes back.

        Raises:
            InputError: If the frame cannot be such a one.
            BackendError: If CUDA refuses.
        """
        if color not in PIXEL_BYTES:
            raise InputError(
                f"a frame on the device cannot be {color!r}",
                expected=", ".join(map(repr, PIXEL_BYTES)),
                remedy="bring it to 8 bits first, or give it as a NumPy array",
            )
        spec = self.spec
        plan = plan_letterbox((height, width), (spec.height, spec.width))
        step = PIXEL_BYTES[color]
        if pitch < width * step:
            raise InputError(
                f"a row of the frame is {pitch} bytes apart from the next", expected=f"{width * step} or more"
            )
        resized_height, resized_width = plan.resized_hw
        largest = max((2 * spec.height + 2) * height, (2 * spec.width + 2) * width, width * step, pitch)
        if largest >= _LARGEST:
            raise InputError(f"a frame of {height} x {width} is too large", remedy="make it smaller first")
        red, green, blue = _RED_GREEN_BLUE[color]
        whole = [pitch, height, width, step, red, green, blue, spec.height, spec.width]
        whole += [plan.pad_top, plan.pad_left, resized_height, resized_width, spec.pad_value]
        arguments: list[tuple[str, int | float]] = [("ptr", source_address), ("ptr", output_address)]
        arguments += [("i32", value) for value in whole]
        if not spec.pixels:
            arguments.append(("f32", spec.scale))
        kernel = self._kernel
        self._device.launch(
            self._function,
            grid=(-(-spec.width // kernel.columns), -(-spec.height // kernel.rows), 1),
            block=(kernel.threads, 1, 1),
            shared=kernel.shared,
            stream=stream,
            arguments=arguments,
        )
        return plan

    def close(self) -> None:
        """Give the kernel back; what was launched must be done. May be called twice."""
        module, self._module = self._module, None
        if module is not None:
            self._device.unload_module(module)

    def __enter__(self) -> DeviceLetterbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
