"""The confusion matrix: what is taken for what, what is missed, what is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from .matching import candidate_pairs, check_evaluable, match_pairs
from .target import Target

__all__ = ["ConfusionMatrix", "confusion_matrix"]


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """Counts of labelled against detected classes.

    Attributes:
        class_names: Names of the classes; the background comes after them.
        counts: int64, shape (classes + 1, classes + 1). Row: labelled class; column: detected
            class. The last column holds objects that were missed, the last row detections where
            nothing is labelled.
        confidence: Least confidence of the detections counted.
        iou: Least overlap at which a detection counts as finding an object.
    """

    class_names: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    confidence: float
    iou: float

    def normalised(self) -> npt.NDArray[np.float64]:
        """Return each row as shares of its sum, so that the diagonal is recall; empty rows are 0."""
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return shares


def confusion_matrix(
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    class_names: Sequence[str],
    *,
    confidence: float = 0.25,
    iou: float = 0.5,
) -> ConfusionMatrix:
    """Count which class each labelled object was detected as.

    Detections and objects are matched one to one whatever their classes, closest pair first.

    Args:
        predictions: Detections per image, in source pixels.
        targets: Labelled objects per image, in source pixels.
        class_names: Names by class index.
        confidence: Detections below it are left out.
        iou: Least overlap of a match.

    Raises:
        InputError: If predictions and targets do not belong together.
    """
    check_evaluable(predictions, targets, len(class_names))
    kept = [found[found.confidence >= confidence] for found in predictions]
    found_class = Detections.merge(kept).class_id
    true_class = np.concatenate([np.zeros(0, np.int64), *(target.class_id for target in targets)])

    pairs = candidate_pairs(kept, targets, iou=iou, same_class=False)
    closest_first = np.lexsort((pairs.target, pairs.detection, -pairs.iou))
    priority = np.empty_like(closest_first)
    priority[closest_first] = np.arange(len(closest_first))
    matched = match_pairs(pairs, priority, detections=len(found_class), targets=len(true_class))

    background = len(class_names)
    size = background + 1
    hit = matched >= 0
    missed = np.ones(len(true_class), bool)
    missed[matched[hit]] = False
    rows = np.concatenate((true_class[matched[hit]], true_class[missed], np.full(np.count_nonzero(~hit), background)))
    columns = np.concatenate((found_class[hit], np.full(np.count_nonzero(missed), background), found_class[~hit]))
    counts = np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
    return ConfusionMatrix(tuple(class_names), counts, confidence, iou)
