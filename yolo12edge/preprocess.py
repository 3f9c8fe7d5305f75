"""``Preprocessor``: from a camera frame to the network's input tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .imaging.letterbox import Letterbox, letterbox_image, plan_letterbox
from .manifest import InputSpec

__all__ = ["Preprocessor"]


class Preprocessor:
    """Letterbox, BGR to RGB, ``pixel * scale``, HWC to NCHW, as the manifest says.

    Calibration, parity checks and the Runtime all use this one. It holds no state between calls, so
    threads may share it.

    Args:
        spec: The input of the manifest.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def __call__(self, frame: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], Letterbox]:
        """Prepare one frame; the frame is never changed.

        Args:
            frame: uint8, shape (height, width, 3), BGR; views of any layout are fine.

        Returns:
            The tensor, float32, C-contiguous, shape (1, 3, spec.height, spec.width), and the geometry
            that brings boxes back.

        Raises:
            InputError: If the frame is of another type or shape, or empty.
        """
        tensor, letterboxes = self.batch((frame,))
        return tensor, letterboxes[0]

    def batch(self, frames: Sequence[npt.NDArray[np.uint8]]) -> tuple[npt.NDArray[np.float32], list[Letterbox]]:
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
        spec = self.spec
        network_hw = (spec.height, spec.width)
        tensor = np.empty((len(frames), 3, *network_hw), np.float32)
        canvas = np.empty((*network_hw, 3), np.uint8)
        scale = np.float32(spec.scale)
        letterboxes = []
        for planes, frame in zip(tensor, frames, strict=True):
            _check(frame)
            letterbox = plan_letterbox((frame.shape[0], frame.shape[1]), network_hw)
            letterbox_image(frame, letterbox, pad_value=spec.pad_value, out=canvas)
            blue, green, red = cv2.split(canvas)
            for plane, channel in zip(planes, (red, green, blue), strict=True):
                np.multiply(channel, scale, out=plane)
            letterboxes.append(letterbox)
        return tensor, letterboxes


def _check(frame: Any) -> None:
    expected = "a uint8 array of shape (height, width, 3), BGR, as cv2.imread gives"
    if not isinstance(frame, np.ndarray):
        raise InputError(
            f"the frame is a {type(frame).__name__}",
            expected=expected,
            remedy="read the file first: yolo12edge.imaging.read_image(path)",
        )
    if frame.dtype != np.uint8:
        raise InputError(f"the frame has dtype {frame.dtype}", expected=expected, remedy="scale it to 0..255 as uint8")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"the frame has shape {frame.shape}",
            expected=expected,
            remedy="convert it with cv2.cvtColor: COLOR_GRAY2BGR or COLOR_BGRA2BGR",
        )
    if not frame.size:
        raise InputError(f"the frame is empty, shape {frame.shape}", expected=expected)
