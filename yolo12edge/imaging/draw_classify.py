"""Classes of the whole frame in a picture: the best ones, written into its corner."""

from __future__ import annotations

import numpy as np

from ..detections import Detections

__all__ = ["MOST", "classes_shown"]

MOST = 5
"""How many classes are written at most."""
_LEAST = 0.05  # a class that is less probable says nothing


def classes_shown(found: Detections) -> list[tuple[int, float]]:
    """Return the classes that are worth writing, with their probabilities, the best first.

    They are those that were found, and after a single one what else it may have been.
    """
    shown = list(zip(found.class_id.tolist(), found.confidence.tolist(), strict=True))
    if len(found) == 1 and found.probs is not None:
        probs = found.probs[0]
        best = np.argsort(-probs, kind="stable")[:MOST].tolist()
        shown += [(i, float(probs[i])) for i in best if probs[i] >= _LEAST and i != shown[0][0]]
    return shown[:MOST]
