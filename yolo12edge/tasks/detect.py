"""Detect: from the two output tensors of one image to ``Detections``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..imaging.nms import nms
from ..thresholds import Thresholds

__all__ = ["MAX_CANDIDATES", "decode"]

MAX_CANDIDATES = 30_000
"""At most this many candidates, the best ones, enter NMS; only ``multi_label`` at a very low
confidence gets there. Equal scores at the limit rank by class, then by position."""


def decode(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], thresholds: Thresholds) -> Detections:
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
    classes = None
    if thresholds.classes is not None:
        classes = np.unique(np.asarray(thresholds.classes, np.int64))
        if classes[-1] >= len(scores):
            raise InputError(f"there is no class {classes[-1]}", expected=f"0 to {len(scores) - 1}")
        scores = scores[classes]

    # Most candidates fall here, on one pass over the scores; a NaN makes the maximum NaN and fails too.
    best = scores.max(axis=0)
    survivors = np.flatnonzero((best >= np.float32(thresholds.confidence)) & (best < np.inf))
    candidates = boxes.T[survivors]
    finite = np.isfinite(candidates).all(axis=1)
    if not finite.all():
        survivors, candidates = survivors[finite], candidates[finite]

    if thresholds.multi_label:
        gathered = scores[:, survivors]
        class_id, row = np.nonzero(gathered >= np.float32(thresholds.confidence))
        confidence = gathered[class_id, row]
        candidates = candidates[row]
    else:
        class_id = scores[:, survivors].argmax(axis=0)
        confidence = best[survivors]

    if len(confidence) > MAX_CANDIDATES:
        chosen = _best(confidence, MAX_CANDIDATES)
        candidates, confidence, class_id = candidates[chosen], confidence[chosen], class_id[chosen]
    kept = nms(
        candidates,
        confidence,
        iou_threshold=thresholds.iou,
        class_id=None if thresholds.class_agnostic else class_id,
        max_detections=thresholds.max_detections,
    )
    class_id = class_id[kept]
    return Detections(candidates[kept], confidence[kept], class_id if classes is None else classes[class_id])


def _best(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return indices of the ``count`` greatest scores, ascending; ties by lower index."""
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > limit)
    equal = np.flatnonzero(scores == limit)[: count - len(above)]
    return np.sort(np.concatenate((above, equal)))
