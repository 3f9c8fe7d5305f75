"""A mask in a picture: its pixels tinted, its outline drawn."""

from __future__ import annotations

import cv2
import numpy as np

from ..detections import Detections
from ..errors import InputError
from ..keypoints import KeypointSpec
from .drawing import Color, Image, darker

__all__ = ["paint"]

_TINT = 0.45


def paint(canvas: Image, found: Detections, index: int, color: Color, line: int, spec: KeypointSpec | None) -> None:
    """Paint one mask; arguments as ``draw.Paint``.

    Raises:
        InputError: If the masks are of an image of another size.
    """
    if found.mask is None:
        return
    if found.mask.image_hw != canvas.shape[:2]:
        raise InputError(f"masks of {found.mask.image_hw} do not fit a picture of {canvas.shape[:2]}")
    crop, (left, top) = found.mask.crops[index], found.mask.offsets[index].tolist()
    place = canvas[top : top + crop.shape[0], left : left + crop.shape[1]]
    place[crop] = np.rint(place[crop] * (1 - _TINT) + np.array(color) * _TINT).astype(np.uint8)
    rings = [np.rint(ring - 0.5).astype(np.int32) for ring in found.mask[index : index + 1].contours()[0]]
    if line > 1:
        cv2.polylines(canvas, rings, True, darker(color), line + 2, cv2.LINE_8)
    cv2.polylines(canvas, rings, True, color, line, cv2.LINE_8)
