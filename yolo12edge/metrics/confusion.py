"""The confusion matrix: what is taken for what, what is missed, what is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from . import for_detect
from .matching import candidate_pairs, check_evaluable, closest_first, match_pairs
from .overlap import Overlap
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
        measure: What the overlap is, such as ``IoU``; empty where nothing overlaps, as of classes of whole images.
        background: Whether there is a background: False where every image has one class, so that neither the last row
            nor the last column exists.
    """

    class_names: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    confidence: float
    iou: float
    measure: str = "IoU"
    background: bool = True

    @property
    def condition(self) -> str:
        """What counts, in words."""
        if not self.background:
            return "most probable class"
        return f"confidence ≥ {self.confidence:g}" + (f", {self.measure} ≥ {self.iou:g}" if self.measure else "")

    def normalised(self) -> npt.NDArray[np.float64]:
        """Return each row as shares of its sum, so that the diagonal is recall; empty rows are 0."""
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return shares


def confusion_matrix(
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    class_names: Sequence[str],
    *,
    overlap: Overlap | None = None,
    confidence: float = 0.25,
    iou: float = 0.5,
    same_class: bool = False,
) -> ConfusionMatrix:
    """Count which class each labelled object was detected as.

    Detections and objects are matched one to one, closest pair first.

    Args:
        predictions: Detections per image, in source pixels.
        targets: Labelled objects per image, in source pixels.
        class_names: Names by class index.
        overlap: How the two are compared; by their boxes if left out.
        confidence: Detections below it are left out.
        iou: Least overlap of a match.
        same_class: Whether only what is of the same class can match; else a match may be a mistaken class.

    Raises:
        InputError: If predictions and targets do not belong together.
    """
    check_evaluable(predictions, targets, len(class_names))
    overlap = overlap or for_detect.overlap()
    kept = [found[found.confidence >= confidence] for found in predictions]
    found_class = np.concatenate([np.zeros(0, np.int64), *(found.class_id for found in kept)])
    true_class = np.concatenate([np.zeros(0, np.int64), *(target.class_id for target in targets)])
    ignored = np.concatenate([np.zeros(0, np.bool_), *(overlap.ignored(target) for target in targets)])

    pairs = candidate_pairs(kept, targets, overlap, least=iou, same_class=same_class).ignoring(ignored)
    matched = match_pairs(pairs, closest_first(pairs), detections=len(found_class), targets=len(true_class))

    background = len(class_names)
    size = background + 1
    with_nothing = np.append(ignored, False)[matched]  # matched with an ignored object: neither right nor wrong
    found_class, matched = found_class[~with_nothing], matched[~with_nothing]
    hit = matched >= 0
    missed = ~ignored
    missed[matched[hit]] = False
    rows = np.concatenate((true_class[matched[hit]], true_class[missed], np.full(np.count_nonzero(~hit), background)))
    columns = np.concatenate((found_class[hit], np.full(np.count_nonzero(missed), background), found_class[~hit]))
    counts = np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
    return ConfusionMatrix(tuple(class_names), counts, confidence, iou, overlap.name)
