"""Pose: upright boxes, each with the keypoints of its object."""

from __future__ import annotations

import numpy as np

from ..detections import Detections
from ..errors import InputError
from ..imaging.letterbox import Letterbox
from ..thresholds import Thresholds
from .reading import Outputs, TaskFacts, points_to_source, to_source
from .selection import select

__all__ = ["read"]


def read(outputs: Outputs, letterbox: Letterbox, thresholds: Thresholds, facts: TaskFacts) -> Detections:
    """Return boxes and keypoints of one image in source pixels; arguments as ``tasks.decode``.

    Points are clipped to the frame, as boxes are. Where the model does not say whether a point is visible, it counts as
    visible.

    Raises:
        InputError: If the model does not say which keypoints it has.
    """
    spec = facts.keypoints
    if spec is None:
        raise InputError("the model does not say which keypoints it has", expected="the keypoints of a pose model")
    chosen = select(outputs["boxes"], outputs["scores"], thresholds)
    xyxy, usable = to_source(outputs["boxes"].T[chosen.index], letterbox)
    values = outputs["keypoints"].T[chosen.index].reshape(-1, spec.count, spec.dimensions)
    usable &= np.isfinite(values).all(axis=(1, 2))
    height, width = letterbox.source_hw
    keypoints = np.ones((len(values), spec.count, 3), np.float32)
    np.clip(points_to_source(values[..., :2], letterbox), 0, np.array((width, height)), out=keypoints[..., :2])
    if spec.dimensions == 3:
        keypoints[..., 2] = values[..., 2]
    found = Detections(xyxy, chosen.confidence, chosen.class_id, keypoints=keypoints)
    return found if usable.all() else found[usable]
