"""Obb: oriented boxes, which suppress each other by their own overlap."""

from __future__ import annotations

import numpy as np

from ..detections import Detections
from ..imaging.boxes import clip_boxes
from ..imaging.letterbox import Letterbox
from ..imaging.rotated import hull_of_rotated, rotated_nms, stretch_rotated
from ..thresholds import Thresholds
from .reading import Outputs, TaskFacts, gains, points_to_source
from .selection import select

__all__ = ["read"]


def read(outputs: Outputs, letterbox: Letterbox, thresholds: Thresholds, facts: TaskFacts) -> Detections:
    """Return the oriented boxes of one image in source pixels; arguments as ``tasks.decode``.

    They may reach out of the frame; the upright boxes around them are clipped to it.
    """
    boxes = np.concatenate((outputs["rotated_boxes"], outputs["angles"]))
    chosen = select(boxes, outputs["scores"], thresholds, suppress=rotated_nms)
    found = boxes.T[chosen.index]
    moved = stretch_rotated(found, *gains(letterbox))
    moved[:, :2] = points_to_source(found[:, :2], letterbox)
    xyxy = clip_boxes(np.asarray(hull_of_rotated(moved), np.float32), letterbox.source_hw)
    usable = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1]) & np.isfinite(moved).all(axis=1)
    detections = Detections(xyxy, chosen.confidence, chosen.class_id, obb=np.asarray(moved, np.float32))
    return detections if usable.all() else detections[usable]
