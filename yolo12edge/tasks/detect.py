"""Detect: upright boxes."""

from __future__ import annotations

from ..detections import Detections
from ..imaging.letterbox import Letterbox
from ..thresholds import Thresholds
from .reading import Floats, Outputs, TaskFacts, to_source
from .selection import select

__all__ = ["decode", "read"]


def decode(boxes: Floats, scores: Floats, thresholds: Thresholds) -> Detections:
    """Choose the detections of one image.

    Candidates with a score or coordinate that is not finite are dropped.

    Args:
        boxes: float32, shape (4, n), left, top, right, bottom in network pixels.
        scores: float32, shape (classes, n), probability of each class.
        thresholds: What counts as a detection.

    Returns:
        Detections in network pixels, best first.

    Raises:
        InputError: If ``thresholds.classes`` names a class that there is not.
    """
    chosen = select(boxes, scores, thresholds)
    return Detections(boxes.T[chosen.index], chosen.confidence, chosen.class_id)


def read(outputs: Outputs, letterbox: Letterbox, thresholds: Thresholds, facts: TaskFacts) -> Detections:
    """Return the boxes of one image in source pixels; arguments as ``tasks.decode``."""
    chosen = select(outputs["boxes"], outputs["scores"], thresholds)
    xyxy, inside = to_source(outputs["boxes"].T[chosen.index], letterbox)
    found = Detections(xyxy, chosen.confidence, chosen.class_id)
    return found if inside.all() else found[inside]
