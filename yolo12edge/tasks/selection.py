"""``select``: from the scores of all candidates of an image to the few that are detections, for every dense task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..imaging.nms import nms
from ..thresholds import Thresholds

__all__ = ["MAX_CANDIDATES", "Chosen", "Suppress", "select", "wanted_classes"]

MAX_CANDIDATES = 30_000
"""At most this many candidates, the best ones, enter NMS; only ``multi_label`` at a very low
confidence gets there. Equal scores at the limit rank by class, then by position."""

_FEW = 2048

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Suppress(Protocol):
    """Non-maximum suppression of boxes of one kind, as ``imaging.nms``."""

    def __call__(
        self,
        boxes: Floats,
        scores: npt.NDArray[np.floating[Any]],
        *,
        iou_threshold: float,
        class_id: npt.NDArray[np.integer[Any]] | None,
        max_detections: int,
    ) -> Indices:
        """Return which to keep, best first."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which candidates are detections, best first.

    Attributes:
        index: int64, shape (k,), among the candidates; with ``multi_label`` one may be there several times.
        confidence: float32, shape (k,).
        class_id: int64, shape (k,).
    """

    index: Indices
    confidence: Floats
    class_id: Indices


def select(boxes: Floats, scores: Floats, thresholds: Thresholds, *, suppress: Suppress = nms) -> Chosen:
    """Choose the detections of one image.

    Candidates with a score or coordinate that is not finite are dropped.

    Args:
        boxes: float32, shape (rows, n): what ``suppress`` compares, such as left, top, right, bottom.
        scores: float32, shape (classes, n), probability of each class.
        thresholds: What counts as a detection.
        suppress: Which boxes are too much alike.

    Raises:
        InputError: If ``thresholds.classes`` names a class that there is not.
    """
    classes = wanted_classes(thresholds, len(scores))
    if classes is not None:
        scores = scores[classes]

    # Most candidates fall here, on one pass over the scores; a NaN makes the maximum NaN and fails too.
    best = scores.max(axis=0)
    survivors = np.flatnonzero((best >= np.float32(thresholds.confidence)) & (best < np.inf))
    # NMS goes best first and ends with ``max_detections``: the best few usually are enough, whatever the number.
    few = max(_FEW, 4 * thresholds.max_detections)
    if thresholds.multi_label:
        found = _settle_labels(boxes, scores, survivors, thresholds, suppress)
    else:
        if len(survivors) <= few:
            kept = _settle(boxes, scores, best, survivors, thresholds, suppress)
        else:
            first = np.zeros(len(survivors), np.bool_)
            first[_best(best[survivors], few)] = True
            kept = _settle(boxes, scores, best, survivors[first], thresholds, suppress)
            if len(kept) < thresholds.max_detections:
                # What is kept comes before all the rest, so that NMS goes on with both.
                rest = np.concatenate((kept, survivors[~first]))
                kept = _settle(boxes, scores, best, rest, thresholds, suppress)
        found = Chosen(kept, best[kept], scores[:, kept].argmax(axis=0))
    return found if classes is None else Chosen(found.index, found.confidence, classes[found.class_id])


def wanted_classes(thresholds: Thresholds, count: int) -> Indices | None:
    """Return the classes that are looked for, ascending; None for all.

    Raises:
        InputError: If one is not below ``count``.
    """
    if thresholds.classes is None:
        return None
    classes = np.unique(np.asarray(thresholds.classes, np.int64))
    if classes[-1] >= count:
        raise InputError(f"there is no class {classes[-1]}", expected=f"0 to {count - 1}")
    return classes


def _settle(
    boxes: Floats, scores: Floats, best: Floats, survivors: Indices, thresholds: Thresholds, suppress: Suppress
) -> Indices:
    """Let candidates suppress each other, each with its best class.

    Args:
        boxes: As in ``select``.
        scores: As in ``select``, of the classes that are looked for.
        best: float32, shape (n,), greatest score of each candidate.
        survivors: int64, which candidates take part; equal scores rank in this order.
        thresholds: As in ``select``.
        suppress: As in ``select``.

    Returns:
        int64, the candidates kept, best first.
    """
    survivors, candidates = _finite(boxes, survivors)
    kept = suppress(
        candidates,
        best[survivors],
        iou_threshold=thresholds.iou,
        class_id=None if thresholds.class_agnostic else scores[:, survivors].argmax(axis=0),
        max_detections=thresholds.max_detections,
    )
    return survivors[kept]


def _settle_labels(
    boxes: Floats, scores: Floats, survivors: Indices, thresholds: Thresholds, suppress: Suppress
) -> Chosen:
    """Let candidates suppress each other, each once for every class over the confidence; arguments as ``_settle``."""
    survivors, candidates = _finite(boxes, survivors)
    gathered = scores[:, survivors]
    class_id, row = np.nonzero(gathered >= np.float32(thresholds.confidence))
    confidence = gathered[class_id, row]
    if len(confidence) > MAX_CANDIDATES:
        chosen = _best(confidence, MAX_CANDIDATES)
        row, confidence, class_id = row[chosen], confidence[chosen], class_id[chosen]
    kept = suppress(
        candidates[row],
        confidence,
        iou_threshold=thresholds.iou,
        class_id=None if thresholds.class_agnostic else class_id,
        max_detections=thresholds.max_detections,
    )
    return Chosen(survivors[row[kept]], confidence[kept], class_id[kept])


def _finite(boxes: Floats, survivors: Indices) -> tuple[Indices, Floats]:
    """Return those whose boxes are finite, and their boxes, shape (n, rows)."""
    candidates = boxes.T[survivors]
    finite = np.isfinite(candidates).all(axis=1)
    return (survivors, candidates) if finite.all() else (survivors[finite], candidates[finite])


def _best(scores: Floats, count: int) -> Indices:
    """Return indices of the ``count`` greatest scores, ascending; ties by lower index."""
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > limit)
    equal = np.flatnonzero(scores == limit)[: count - len(above)]
    return np.sort(np.concatenate((above, equal)))
