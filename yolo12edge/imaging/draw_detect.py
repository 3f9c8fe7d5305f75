"""An upright box in a picture."""

from __future__ import annotations

import cv2

from ..detections import Detections
from ..keypoints import KeypointSpec
from .drawing import Color, Image, corners_in, darker

__all__ = ["paint"]


def paint(canvas: Image, found: Detections, index: int, color: Color, line: int, spec: KeypointSpec | None) -> None:
    """Paint one box; arguments as ``draw.Paint``."""
    left, top, right, bottom = corners_in(found.xyxy[index : index + 1], canvas)[0].tolist()
    if line > 1:  # a thin dark rim keeps light colours visible on light ground
        cv2.rectangle(canvas, (left, top), (right, bottom), darker(color), line + 2, cv2.LINE_8)
    cv2.rectangle(canvas, (left, top), (right, bottom), color, line, cv2.LINE_8)
