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

    Where classes exclude each other that is the best one, whatever its confidence, or the best of those that are looked
    for, from the confidence on; else all from the confidence on.
    ``probs`` has the probabilities of all classes. One that is not finite counts as 0.
    """
    probabilities = np.nan_to_num(outputs["probabilities"], nan=0.0, posinf=0.0, neginf=0.0)
    wanted = wanted_classes(thresholds, len(probabilities))
    order = np.argsort(-probabilities, kind="stable")
    if wanted is not None:
        order = order[np.isin(order, wanted)]
    if facts.multi_label or wanted is not None:
        order = order[probabilities[order] >= np.float32(thresholds.confidence)]
    order = order[: thresholds.max_detections if facts.multi_label else 1]
    height, width = letterbox.source_hw
    return Detections(
        np.tile(np.array((0, 0, width, height), np.float32), (len(order), 1)),
        probabilities[order],
        order,
        probs=np.tile(probabilities, (len(order), 1)),
    )
