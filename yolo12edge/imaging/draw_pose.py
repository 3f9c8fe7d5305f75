"""Keypoints in a picture: the object's box, its skeleton, and the points that are visible."""

from __future__ import annotations

import cv2
import numpy as np

from ..detections import Detections
from ..keypoints import KeypointSpec
from .draw_detect import paint as paint_box
from .drawing import Color, Image, darker

__all__ = ["paint"]

_VISIBLE = 0.5


def paint(canvas: Image, found: Detections, index: int, color: Color, line: int, spec: KeypointSpec | None) -> None:
    """Paint one object; arguments as ``draw.Paint``. A line of the skeleton is drawn if both its ends are visible."""
    paint_box(canvas, found, index, color, line, spec)
    if found.keypoints is None:
        return
    height, width = canvas.shape[:2]
    points = found.keypoints[index]
    visible = np.isfinite(points).all(axis=1) & (points[:, 2] >= _VISIBLE)
    places = np.clip(np.nan_to_num(points[:, :2]), 0, (width - 1, height - 1)).round().astype(int).tolist()
    for first, second in [] if spec is None else spec.skeleton:
        if max(first, second) < len(points) and visible[first] and visible[second]:
            cv2.line(canvas, places[first], places[second], darker(color), line + 2, cv2.LINE_AA)
            cv2.line(canvas, places[first], places[second], color, line, cv2.LINE_AA)
    for number in np.flatnonzero(visible).tolist():
        cv2.circle(canvas, places[number], line + 2, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(canvas, places[number], line + 1, color, -1, cv2.LINE_AA)
