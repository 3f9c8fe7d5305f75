"""Detect: from the two output tensors of one image to ``Detections``."""

from __future__ import annotations

from dataclasses import replace

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

_FEW = 2048


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
    # NMS goes best first and ends with ``max_detections``: the best few usually are enough, whatever the number.
    few = max(_FEW, 4 * thresholds.max_detections)
    if len(survivors) > few and not thresholds.multi_label:
        found = _settle(boxes, scores, survivors[_best(best[survivors], few)], best, thresholds)
        if len(found) < thresholds.max_detections:
            found = _settle(boxes, scores, survivors, best, thresholds)
    else:
        found = _settle(boxes, scores, survivors, best, thresholds)
    return found if classes is None else replace(found, class_id=classes[found.class_id])


def _settle(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    survivors: npt.NDArray[np.int64],
    best: npt.NDArray[np.float32],
    thresholds: Thresholds,
) -> Detections:
    """Let candidates suppress each other.

    Args:
        boxes: As in ``decode``.
        scores: As in ``decode``, of the classes that are looked for.
        survivors: int64, which candidates take part, ascending.
        best: float32, shape (n,), greatest score of each candidate.
        thresholds: As in ``decode``.

    Returns:
        Detections whose classes are rows of ``scores``.
    """
    candidates = boxes.T[survivors]
    finite = np.isfinite(candidates).all(axis=1)
    if not finite.all():
        survivors, candidates = survivors[finite], candidates[finite]

    gathered = scores[:, survivors]
    if thresholds.multi_label:
        class_id, row = np.nonzero(gathered >= np.float32(thresholds.confidence))
        confidence = gathered[class_id, row]
        candidates = candidates[row]
    else:
        class_id = gathered.argmax(axis=0)
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
    return Detections(candidates[kept], confidence[kept], class_id[kept])


def _best(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return indices of the ``count`` greatest scores, ascending; ties by lower index."""
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > limit)
    equal = np.flatnonzero(scores == limit)[: count - len(above)]
    return np.sort(np.concatenate((above, equal)))
