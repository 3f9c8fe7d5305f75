"""COCO's tables of precision and recall for overlaps that faster-coco-eval does not know.

The rules are COCO's, and upright boxes get the same numbers: a detection takes the free object that it overlaps most;
objects of another size than the one looked at are ignored, and so are detections matched with those, and detections of
another size that match nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from .coco import SIZES
from .curves import interpolate
from .matching import best_per_class, candidate_pairs, match_pairs
from .overlap import CocoTables, Overlap
from .target import Target

__all__ = ["tables_of"]

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_MOST = (1, 10, 100)

Floats = npt.NDArray[np.float64]
Area = Callable[[Detections | Target], Floats]


def tables_of(
    overlap: Overlap, area: Area, predictions: Sequence[Detections], targets: Sequence[Target], num_classes: int
) -> CocoTables:
    """Return COCO's tables.

    Args:
        overlap: How objects are compared.
        area: Of each object of an image, square pixels.
        predictions: Detections per image, in source pixels.
        targets: Labelled objects per image, in source pixels.
        num_classes: How many classes there are.
    """
    kept = [best_per_class(found) for found in predictions]
    pairs = candidate_pairs(kept, targets, overlap, least=float(_THRESHOLDS[0]), same_class=True)
    found_class, true_class = _joined([part.class_id for part in kept]), _joined([t.class_id for t in targets])
    confidence = np.concatenate([np.zeros(0, np.float32), *(part.confidence for part in kept)])
    order = np.argsort(-confidence, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    # Class after class, the most confident first.
    order = order[np.argsort(found_class[order], kind="stable")]
    ends = np.searchsorted(found_class[order], np.arange(num_classes + 1))
    of_class = [order[ends[index] : ends[index + 1]] for index in range(num_classes)]
    place = np.concatenate([np.zeros(0, np.int64), *(_place_in_class(part) for part in kept)])
    found_area = np.concatenate([np.zeros(0), *map(area, kept)])
    true_area = np.concatenate([np.zeros(0), *map(area, targets)])

    precision, recall = np.full((10, 101, num_classes, 4), -1.0), np.full((10, num_classes, 3), -1.0)
    for size, (low, high) in enumerate(SIZES):
        ignored = (true_area < low) | (true_area > high)
        elsewhere = (found_area < low) | (found_area > high)
        counted = np.bincount(true_class[~ignored], minlength=num_classes)
        for step, least in enumerate(_THRESHOLDS):
            chosen = pairs.least(float(least)).ignoring(ignored)
            matched = match_pairs(chosen, rank[chosen.detection], detections=len(rank), targets=len(true_class))
            hit = matched >= 0
            right = hit & ~np.append(ignored, False)[matched]
            counts = right | (~hit & ~elsewhere)
            for index in np.flatnonzero(counted):
                own = of_class[index][counts[of_class[index]]]
                found = np.cumsum(right[own])
                shares = found / counted[index]
                precision[step, :, index, size] = interpolate(shares, found / np.arange(1, len(found) + 1))
                if size == 0:
                    recall[step, index] = [(right[own] & (place[own] < most)).sum() / counted[index] for most in _MOST]
    return CocoTables(precision, recall)


def _joined(parts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _place_in_class(found: Detections) -> npt.NDArray[np.int64]:
    """Return how many detections of its class in the image are more confident than each."""
    order = np.lexsort((-found.confidence, found.class_id))
    class_id = found.class_id[order]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(class_id, class_id)
    return place
