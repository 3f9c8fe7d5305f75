"""Classify: the class of the whole frame, or with ``multi_label`` every class it has."""

from __future__ import annotations

import numpy as np

from ..detections import Detections
from ..imaging.letterbox import Letterbox
from ..thresholds import Thresholds
from .reading import Outputs, TaskFacts
from .selection import wanted_classes

__all__ = ["read"]


def read(outputs: Outputs, letterbox: Letterbox, thresholds: Thresholds, facts: TaskFacts) -> Detections:
    """Return the classes of one image, each with the whole frame as its box; arguments as ``tasks.decode``.

    Where classes exclude each other that is the best one, whatever its confidence; else all from the confidence on.
    ``probs`` has the probabilities of all classes. One that is not finite counts as 0.
    """
    probabilities = np.nan_to_num(outputs["probabilities"], nan=0.0, posinf=0.0, neginf=0.0)
    classes = wanted_classes(thresholds, len(probabilities))
    if classes is None:
        classes = np.arange(len(probabilities))
    found = probabilities[classes]
    order = np.argsort(-found, kind="stable")
    if facts.multi_label:
        order = order[found[order] >= np.float32(thresholds.confidence)][: thresholds.max_detections]
    else:
        order = order[:1]
    height, width = letterbox.source_hw
    return Detections(
        np.tile(np.array((0, 0, width, height), np.float32), (len(order), 1)),
        found[order],
        classes[order],
        probs=np.tile(probabilities, (len(order), 1)),
    )
