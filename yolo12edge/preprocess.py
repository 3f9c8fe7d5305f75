"""``Preprocessor``: from a camera frame to the network's input tensor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import Lock
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .frame import Color
from .imaging.letterbox import Letterbox, halved, plan_centre_crop, plan_letterbox
from .manifest import InputSpec

__all__ = ["InputBuffer", "Preprocessor", "check_frame", "to_8_bits"]

_COLORS: tuple[Color, ...] = get_args(Color)
_CHANNELS = {"bgr": 3, "rgb": 3, "gray": 1, "bgra": 4, "rgba": 4, "bgr16": 3, "rgb16": 3, "gray16": 1}
_TO_BGR = {
    "rgb": cv2.COLOR_RGB2BGR,
    "gray": cv2.COLOR_GRAY2BGR,
    "bgra": cv2.COLOR_BGRA2BGR,
    "rgba": cv2.COLOR_RGBA2BGR,
}


class Preprocessor:
    """Letterbox or centre crop, BGR to RGB, ``pixel * scale``, HWC to NCHW, as the manifest says.

    Calibration, parity checks and the Runtime all use this one. It holds no state between calls, so
    threads may share it.

    Args:
        spec: The input of the manifest.
        pixels: Whether to stop after the letterbox, for an engine that does the rest in its graph, even if the
            manifest does not say so: the tensors are then uint8, shape (n, spec.height, spec.width, 3), BGR, or RGB if
            the manifest's input is so.
    """

    def __init__(self, spec: InputSpec, *, pixels: bool = False) -> None:
        self.spec = spec
        self.pixels = pixels or spec.pixels

    def __call__(self, frame: npt.NDArray[Any], color: Color = "bgr") -> tuple[npt.NDArray[Any], Letterbox]:
        """Prepare one frame; the frame is never changed.

        Args:
            frame: uint8, shape (height, width, 3), BGR; views of any layout are fine.
            color: What the frame really is, if not BGR: another order or number of channels (gray may be (height,
                width)), or uint16 with 0 to 65,535.

        Returns:
            The tensor, float32, C-contiguous, shape (1, 3, spec.height, spec.width), the caller's own, and the
            geometry that brings boxes back.

        Raises:
            InputError: If the frame is of another type or shape, or empty, or there is no such colour.
        """
        buffer = self.buffer()
        return buffer.tensor, buffer.fill(frame, color)

    def batch(self, frames: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], list[Letterbox]]:
        """Prepare several frames, which may differ in size.

        Args:
            frames: At least one, each as in a single call.

        Returns:
            The tensor, float32, C-contiguous, shape (len(frames), 3, spec.height, spec.width), and one
            geometry a frame.

        Raises:
            InputError: If there is no frame, or one is of another type or shape, or empty.
        """
        if not len(frames):
            raise InputError("there is no frame to prepare", expected="at least one")
        prepared = [self(frame) for frame in frames]
        return np.concatenate([tensor for tensor, _ in prepared]), [letterbox for _, letterbox in prepared]

    def buffer(self, batch: int = 1) -> InputBuffer:
        """Return memory to prepare so many frames in."""
        return InputBuffer(self.spec, pixels=self.pixels, batch=batch)


class InputBuffer:
    """An input tensor that is filled again and again, so that nothing is allocated for a frame.

    Not for several threads at a time.

    Attributes:
        tensor: What the engine takes; each ``fill`` overwrites its place in the batch.
    """

    def __init__(self, spec: InputSpec, *, pixels: bool, batch: int = 1) -> None:
        self.tensor: npt.NDArray[Any]
        self._spec = spec
        self._scale = np.float32(spec.scale)
        self._letterboxes: list[Letterbox | None] = [None] * batch  # whose padding is painted
        self._canvas: npt.NDArray[np.uint8] | None = None  # where BGR is made, if it is not what the engine takes
        self._planes: npt.NDArray[np.uint8] | None = None
        if pixels:
            self._padding: Any = spec.pad_value
            if spec.pixels and spec.color == "RGB":
                self._canvas = np.empty((spec.height, spec.width, 3), np.uint8)
            self.tensor = np.full((batch, spec.height, spec.width, 3), self._padding, np.uint8)
        else:
            self._padding = np.float32(spec.pad_value) * self._scale
            self._canvas = np.empty((spec.height, spec.width, 3), np.uint8)
            self._planes = np.empty((3, spec.height, spec.width), np.uint8)
            self.tensor = np.full((batch, 3, spec.height, spec.width), self._padding, np.float32)

    def fill(self, frame: npt.NDArray[Any], color: Color = "bgr", index: int = 0) -> Letterbox:
        """Prepare a frame as ``Preprocessor`` does, into ``tensor[index]``; return the geometry that brings boxes back.

        Raises:
            InputError: If the frame is of another type or shape, or empty, or there is no such colour.
        """
        check_frame(frame, color)
        spec, place = self._spec, self.tensor[index]
        letterbox, frame, rows, columns = self._planned(frame)
        if letterbox != self._letterboxes[index]:
            self._letterboxes[index] = None  # in case that painting fails half way
            place[...] = self._padding
            self._letterboxes[index] = letterbox
        inside = (place if self._canvas is None else self._canvas)[rows, columns]
        try:
            with _ONE_THREAD:
                _resize_to_bgr(frame, color, inside, smooth=spec.resize == "centre-crop")
        except cv2.error as error:
            raise InputError(f"OpenCV cannot resize a frame of shape {frame.shape}: {error.err}") from error
        if self._planes is not None:
            blue_green_red = cv2.split(inside, [plane[rows, columns] for plane in self._planes])
            for plane, channel in zip(place, reversed(blue_green_red), strict=True):
                np.multiply(channel, self._scale, out=plane[rows, columns])
        elif self._canvas is not None:
            with _ONE_THREAD:
                cv2.cvtColor(inside, cv2.COLOR_BGR2RGB, dst=place[rows, columns])
        return letterbox

    def _planned(self, frame: npt.NDArray[Any]) -> tuple[Letterbox, npt.NDArray[Any], slice, slice]:
        """Return the geometry, what is resized, and the rows and columns of the input that it fills."""
        source, network = (frame.shape[0], frame.shape[1]), (self._spec.height, self._spec.width)
        if self._spec.resize == "centre-crop":
            letterbox, window = plan_centre_crop(source, network)
            return letterbox, frame[window], slice(None), slice(None)
        letterbox = plan_letterbox(source, network)
        (height, width), top, left = letterbox.resized_hw, letterbox.pad_top, letterbox.pad_left
        return letterbox, frame, slice(top, top + height), slice(left, left + width)


class _OneThread:
    """Keeps OpenCV from using its own threads; whatever it was set to before comes back.

    They save a tenth of a millisecond and then wait actively for more to do, on the cores where the engine begins:
    measured with two cores and YOLO12n, a frame takes 6 to 13 % longer with them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and cv2.getNumThreads() == 1:  # else somebody has set it meanwhile
                cv2.setNumThreads(self._before)

    def begin_anew(self) -> None:
        """Forget the threads of the process that this one was forked from."""
        inside, before = self._inside, self._before
        self.__init__()  # type: ignore[misc]  # its lock may be held by a thread that is not there
        if inside:
            cv2.setNumThreads(before)


_ONE_THREAD = _OneThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ONE_THREAD.begin_anew)


def _resize_to_bgr(frame: npt.NDArray[Any], color: Color, out: npt.NDArray[np.uint8], *, smooth: bool) -> None:
    """Write a frame of any colour, resized, as uint8 BGR; only the few pixels that are left are converted.

    ``smooth``: every pixel of the frame counts, as classifiers have learned; detectors have learned from bilinear ones.
    """
    height, width = out.shape[:2]
    if smooth:
        frame = halved(frame, (height, width))
    plain = color == "bgr"
    resized: npt.NDArray[Any]
    if frame.shape[:2] == (height, width):
        resized = frame
        if plain:
            out[...] = frame
    else:
        resized = cv2.resize(frame, (width, height), dst=out if plain else None, interpolation=cv2.INTER_LINEAR)
    if plain:
        return
    if color.endswith("16"):
        resized = to_8_bits(resized)
    order = color.removesuffix("16")
    if order == "bgr":
        out[...] = resized
    else:
        out[...] = cv2.cvtColor(np.ascontiguousarray(resized), _TO_BGR[order])


def to_8_bits(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a uint16 image, 0 to 65,535, in 8 bits, rounded."""
    return np.asarray(cv2.convertScaleAbs(image, alpha=1 / 257), np.uint8)  # 65,535 / 257 = 255


def check_frame(frame: Any, color: Color) -> None:
    """Refuse what is no frame of this colour.

    Raises:
        InputError: If it is none, or there is no such colour.
    """
    if not isinstance(color, str) or color not in _CHANNELS:
        raise InputError(f"there is no colour {color!r}", expected=", ".join(map(repr, _COLORS)))
    channels, dtype = _CHANNELS[color], "uint16" if color.endswith("16") else "uint8"
    shape = "(height, width) or (height, width, 1)" if channels == 1 else f"(height, width, {channels})"
    expected = f"a {dtype} array of shape {shape}, {color.removesuffix('16').upper()}"
    if not isinstance(frame, np.ndarray):
        raise InputError(
            f"the frame is a {type(frame).__name__}",
            expected=expected,
            remedy="copy it to the CPU; only models of TensorRT that letterbox take frames from a GPU"
            if hasattr(frame, "__cuda_array_interface__")
            else "read the file first: yolo12edge.imaging.read_image(path)",
        )
    if frame.dtype != dtype:
        raise InputError(f"the frame has dtype {frame.dtype}", expected=expected, remedy=_dtype_remedy(frame))
    if not (frame.ndim == 3 and frame.shape[2] == channels) and not (frame.ndim == 2 and channels == 1):
        raise InputError(f"the frame has shape {frame.shape}", expected=expected, remedy=_shape_remedy(frame))
    if not frame.size:
        raise InputError(f"the frame is empty, shape {frame.shape}", expected=expected)


def _dtype_remedy(frame: npt.NDArray[Any]) -> str:
    if frame.dtype == np.uint8:
        return "say color='bgr', 'rgb' or 'gray'"
    if frame.dtype.kind == "u" and frame.dtype.itemsize == 2:
        return (
            "say color='bgr16', 'rgb16' or 'gray16', if its values go up to 65,535"
            if frame.dtype.isnative
            else "bring its bytes into this machine's order: frame.astype(np.uint16)"
        )
    return "scale it to 0..255 as uint8"


def _shape_remedy(frame: npt.NDArray[Any]) -> str:
    if frame.ndim == 4:
        return "give one frame, or a list of frames to batch"
    if frame.ndim == 3 and frame.shape[0] in (1, 3, 4) and frame.shape[2] not in (1, 3, 4):
        return "put the channels last: frame.transpose(1, 2, 0)"
    fits = {1: "'gray'", 3: "'bgr' or 'rgb'", 4: "'bgra' or 'rgba'"}
    said = fits.get(1 if frame.ndim == 2 else frame.shape[-1])
    return f"say color={said}" if said else "give height x width x channels"
