"""An oriented box in a picture."""

from __future__ import annotations

import cv2
import numpy as np

from ..detections import Detections
from ..keypoints import KeypointSpec
from .drawing import Color, Image, darker
from .rotated import corners_of_rotated

__all__ = ["paint"]

_FAR = 1 << 14  # pixels; OpenCV draws nothing that reaches beyond its integers


def paint(canvas: Image, found: Detections, index: int, color: Color, line: int, spec: KeypointSpec | None) -> None:
    """Paint one box; arguments as ``draw.Paint``."""
    if found.obb is None or not np.isfinite(found.obb[index]).all():
        return
    corners = np.clip(corners_of_rotated(found.obb[index : index + 1]), -_FAR, _FAR).round().astype(np.int32)
    if line > 1:
        cv2.polylines(canvas, [corners[0]], True, darker(color), line + 2, cv2.LINE_AA)
    cv2.polylines(canvas, [corners[0]], True, color, line, cv2.LINE_AA)
