"""Precision, recall and F1 as functions of each other and of the confidence threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from . import for_detect
from .matching import best_per_class, candidate_pairs, check_evaluable, match_pairs
from .overlap import Overlap
from .target import Target

__all__ = ["DetectionCurves", "detection_curves", "interpolate", "mean_over_classes", "middle_of_best"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_RECALL_GRID = np.linspace(0.0, 1.0, 101)  # COCO's
_CONFIDENCE_GRID = np.linspace(0.0, 1.0, 1001).round(3)  # 0.348, not 0.34800000000000003


@dataclass(frozen=True, slots=True, eq=False)
class DetectionCurves:
    """Curves of every class at one overlap threshold; rows of classes without objects are NaN.

    Attributes:
        class_names: Names by class index.
        iou: Least overlap at which a detection counts as right.
        recall_grid: Shape (101,), recall 0 to 1.
        precision_at_recall: Shape (classes, 101): best precision at this recall or more, 0 where
            the recall is never reached. Its mean is the class's average precision.
        confidence: Shape (1001,), confidence thresholds 0 to 1.
        precision: Shape (classes, 1001): share of detections that are right, at each threshold;
            NaN where there is no detection.
        recall: Shape (classes, 1001): share of objects that are found.
        f1: Shape (classes, 1001): harmonic mean of both, 0 where nothing is found.
        right: int64, shape (classes, 1001): number of right detections at each threshold; of all classes.
        wrong: int64, shape (classes, 1001): number of wrong ones; of all classes.
        instances: int64, shape (classes,): number of objects.
        measure: What the overlap is, such as ``IoU``; empty where nothing overlaps, as of classes of whole images.
    """

    class_names: tuple[str, ...]
    iou: float
    recall_grid: Floats
    precision_at_recall: Floats
    confidence: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    right: Ints
    wrong: Ints
    instances: Ints
    measure: str = "IoU"

    @property
    def condition(self) -> str:
        """When a detection counts as right besides its class, such as ``IoU 0.50``; or empty."""
        return f"{self.measure} {self.iou:.2f}" if self.measure else ""

    @property
    def best_index(self) -> int | None:
        """Index into ``confidence`` where the mean F1 of the classes is best; None without objects.

        Where a range of thresholds is equally good it is the middle, which forgives the most.
        """
        mean = mean_over_classes(self.f1)
        if np.isnan(mean).all():
            return None
        return middle_of_best(mean)


def middle_of_best(values: npt.NDArray[np.number[Any]]) -> int:
    """Return the middle of the first run of equal values that are the largest."""
    first = int(values.argmax())
    worse = np.flatnonzero(values[first:] < values[first])
    last = first + int(worse[0]) - 1 if worse.size else len(values) - 1
    return (first + last) // 2


def mean_over_classes(curves: Floats) -> Floats:
    """Return the mean of (classes, points) over the classes that are not NaN; NaN where all are."""
    known = ~np.isnan(curves)
    count = known.sum(axis=0)
    total = np.where(known, curves, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def detection_curves(
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    class_names: Sequence[str],
    *,
    overlap: Overlap | None = None,
    iou: float = 0.5,
) -> DetectionCurves:
    """Compute the curves of every class, matching as COCO does.

    Args:
        predictions: Detections per image, in source pixels.
        targets: Labelled objects per image, in source pixels.
        class_names: Names by class index.
        overlap: How detections and objects are compared; by their boxes if left out.
        iou: Least overlap at which a detection counts as right.

    Raises:
        InputError: If predictions and targets do not belong together.
    """
    check_evaluable(predictions, targets, len(class_names))
    overlap = overlap or for_detect.overlap()
    kept = [best_per_class(found) for found in predictions]
    found_class = np.concatenate([np.zeros(0, np.int64), *(found.class_id for found in kept)])
    true_class = np.concatenate([np.zeros(0, np.int64), *(target.class_id for target in targets)])
    ignored = np.concatenate([np.zeros(0, np.bool_), *(overlap.ignored(target) for target in targets)])
    instances = np.bincount(true_class[~ignored], minlength=len(class_names))

    confidences = np.concatenate([np.zeros(0, np.float32), *(found.confidence for found in kept)])
    order = np.argsort(-confidences, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    pairs = candidate_pairs(kept, targets, overlap, least=iou, same_class=True).ignoring(ignored)
    matched = match_pairs(pairs, rank[pairs.detection], detections=len(rank), targets=len(true_class))
    # what was matched with an ignored object is neither right nor wrong
    order = order[~np.append(ignored, False)[matched[order]]]
    order = order[np.argsort(found_class[order], kind="stable")]  # class after class

    classes = len(class_names)
    precision_at_recall = np.full((classes, len(_RECALL_GRID)), np.nan)
    right_above, wrong_above = (np.zeros((classes, len(_CONFIDENCE_GRID)), np.int64) for _ in range(2))
    precision, recall, f1 = (np.full((classes, len(_CONFIDENCE_GRID)), np.nan) for _ in range(3))
    right, confidence = matched[order] >= 0, confidences[order]
    ends = np.searchsorted(found_class[order], np.arange(classes + 1))
    for index in range(classes):
        own = slice(ends[index], ends[index + 1])
        found = np.cumsum(right[own])
        # detections at or above each threshold; float32 on both sides, or 0.9 would miss a confidence of 0.9
        above = np.searchsorted(-confidence[own], -_CONFIDENCE_GRID.astype(np.float32), side="right")
        found_above = np.append(0, found)[above]
        right_above[index], wrong_above[index] = found_above, above - found_above
        if not instances[index]:
            continue
        count = np.arange(1, len(found) + 1)
        precision_at_recall[index] = interpolate(found / instances[index], found / count)
        precision[index] = np.where(above > 0, found_above / np.maximum(above, 1), np.nan)
        recall[index] = found_above / instances[index]
        f1[index] = 2 * found_above / (above + instances[index])
    return DetectionCurves(
        tuple(class_names),
        iou,
        _RECALL_GRID,
        precision_at_recall,
        _CONFIDENCE_GRID,
        precision,
        recall,
        f1,
        right_above,
        wrong_above,
        instances,
        measure=overlap.name,
    )


def interpolate(recall: Floats, precision: Floats) -> Floats:
    """Return the best precision at each of COCO's 101 recalls or beyond, 0 past the last recall reached."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return envelope[np.searchsorted(recall, _RECALL_GRID, side="left")]
