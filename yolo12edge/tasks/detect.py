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
    if thresholds.multi_label:
        found = _settle_labels(boxes, scores, survivors, thresholds)
    else:
        if len(survivors) <= few:
            kept = _settle(boxes, scores, best, survivors, thresholds)
        else:
            first = np.zeros(len(survivors), np.bool_)
            first[_best(best[survivors], few)] = True
            kept = _settle(boxes, scores, best, survivors[first], thresholds)
            if len(kept) < thresholds.max_detections:
                # What is kept comes before all the rest, so that NMS goes on with both.
                kept = _settle(boxes, scores, best, np.concatenate((kept, survivors[~first])), thresholds)
        found = Detections(boxes.T[kept], best[kept], scores[:, kept].argmax(axis=0))
    return found if classes is None else replace(found, class_id=classes[found.class_id])


def _settle(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    best: npt.NDArray[np.float32],
    survivors: npt.NDArray[np.int64],
    thresholds: Thresholds,
) -> npt.NDArray[np.int64]:
    """Let candidates suppress each other, each with its best class.

    Args:
        boxes: As in ``decode``.
        scores: As in ``decode``, of the classes that are looked for.
        best: float32, shape (n,), greatest score of each candidate.
        survivors: int64, which candidates take part; equal scores rank in this order.
        thresholds: As in ``decode``.

    Returns:
        int64, the candidates kept, best first.
    """
    survivors, candidates = _finite(boxes, survivors)
    kept = nms(
        candidates,
        best[survivors],
        iou_threshold=thresholds.iou,
        class_id=None if thresholds.class_agnostic else scores[:, survivors].argmax(axis=0),
        max_detections=thresholds.max_detections,
    )
    return survivors[kept]


def _settle_labels(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    survivors: npt.NDArray[np.int64],
    thresholds: Thresholds,
) -> Detections:
    """Let candidates suppress each other, each once for every class over the confidence; arguments as ``_settle``."""
    survivors, candidates = _finite(boxes, survivors)
    gathered = scores[:, survivors]
    class_id, row = np.nonzero(gathered >= np.float32(thresholds.confidence))
    confidence = gathered[class_id, row]
    candidates = candidates[row]
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


def _finite(
    boxes: npt.NDArray[np.float32], survivors: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return those whose boxes are finite, and their boxes, shape (n, 4)."""
    candidates = boxes.T[survivors]
    finite = np.isfinite(candidates).all(axis=1)
    return (survivors, candidates) if finite.all() else (survivors[finite], candidates[finite])


def _best(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return indices of the ``count`` greatest scores, ascending; ties by lower index."""
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > limit)
    equal = np.flatnonzero(scores == limit)[: count - len(above)]
    return np.sort(np.concatenate((above, equal)))
