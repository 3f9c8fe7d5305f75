"""One-to-one matching of detections with labelled objects, over all images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from .overlap import Overlap
from .target import Target

__all__ = [
    "MAX_PER_CLASS",
    "Pairs",
    "best_per_class",
    "candidate_pairs",
    "check_evaluable",
    "closest_first",
    "match_pairs",
]

MAX_PER_CLASS = 100  # COCO scores at most this many detections of one class in one image

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Every detection and labelled object that overlap enough to be matched.

    Attributes:
        detection: int64, shape (p,), index into the detections of all images laid end to end.
        target: int64, shape (p,), index into the labelled objects of all images laid end to end.
        iou: Shape (p,), overlap of the two, of whatever kind.
    """

    detection: Ints
    target: Ints
    iou: npt.NDArray[np.floating[Any]]

    def ignoring(self, ignored: npt.NDArray[np.bool_]) -> Pairs:
        """Return the pairs so that a detection takes an ignored object (one flag each) only if no other is left."""
        return Pairs(self.detection, self.target, self.iou - 2 * ignored[self.target])

    def least(self, iou: float) -> Pairs:
        """Return the pairs that overlap by so much or more."""
        near = self.iou >= iou
        return Pairs(self.detection[near], self.target[near], self.iou[near])


def check_evaluable(predictions: Sequence[Detections], targets: Sequence[Target], num_classes: int) -> None:
    """Check that predictions and targets belong together and can be ranked.

    Raises:
        InputError: If their numbers differ, a class index is out of range or a value is not finite.
    """
    if len(predictions) != len(targets):
        raise InputError(
            f"there are predictions for {len(predictions)} images and targets for {len(targets)}",
            expected="one of each per image, in the same order",
        )
    for image, (found, target) in enumerate(zip(predictions, targets, strict=True)):
        for what, class_id in (("detection", found.class_id), ("labelled object", target.class_id)):
            foreign = class_id[(class_id < 0) | (class_id >= num_classes)]
            if foreign.size:
                raise InputError(
                    f"image {image} has a {what} of class {foreign[0]}",
                    expected=f"a class index in 0..{num_classes - 1}",
                    remedy="evaluate the model on the dataset whose classes it was trained for",
                )
        if not (np.isfinite(found.xyxy).all() and np.isfinite(found.confidence).all()):
            raise InputError(
                f"image {image} has detections with values that are not finite",
                expected="finite boxes and confidences",
                remedy="check the model's outputs; reduced precision may have overflowed",
            )


def best_per_class(found: Detections, limit: int = MAX_PER_CLASS) -> Detections:
    """Return the most confident ``limit`` detections of every class of one image."""
    if len(found) <= limit:
        return found
    order = np.lexsort((-found.confidence, found.class_id))
    class_id = found.class_id[order]
    rank = np.arange(len(order)) - np.searchsorted(class_id, class_id)
    return found[np.sort(order[rank < limit])]


def candidate_pairs(
    predictions: Sequence[Detections], targets: Sequence[Target], overlap: Overlap, *, least: float, same_class: bool
) -> Pairs:
    """Find all pairs within one image that overlap by ``least`` or more.

    Args:
        predictions: Detections per image.
        targets: Labelled objects per image.
        overlap: How they are compared.
        least: Least overlap, in [0, 1].
        same_class: Whether both must be of the same class.
    """
    detection: list[Ints] = []
    target: list[Ints] = []
    overlaps: list[npt.NDArray[np.floating[Any]]] = []
    first_detection = first_target = 0
    for found, truth in zip(predictions, targets, strict=True):
        if len(found) and len(truth):
            table = overlap.table(found, truth)
            near = table >= least
            if same_class:
                near &= found.class_id[:, None] == truth.class_id[None, :]
            row, column = np.nonzero(near)
            detection.append(row + first_detection)
            target.append(column + first_target)
            overlaps.append(table[row, column])
        first_detection += len(found)
        first_target += len(truth)
    if not detection:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    return Pairs(np.concatenate(detection), np.concatenate(target), np.concatenate(overlaps))


def closest_first(pairs: Pairs) -> Ints:
    """Return a priority for each pair, for ``match_pairs``: those that overlap most are matched first."""
    order = np.lexsort((pairs.target, pairs.detection, -pairs.iou))
    priority = np.empty_like(order)
    priority[order] = np.arange(len(order))
    return priority


def match_pairs(pairs: Pairs, priority: Ints, *, detections: int, targets: int) -> Ints:
    """Match detections and objects one to one.

    Each detection wants the object it overlaps most; an object that several want goes to the one
    with the smallest priority, and the others try their next best. With a priority by confidence
    this gives exactly what COCO's loop over detections gives; with a priority by overlap, what
    taking the closest remaining pair again and again gives. (It is the Gale-Shapley algorithm, run
    for all images together: each round costs a few array operations.)

    Args:
        pairs: Who may be matched with whom.
        priority: Shape (p,), one per pair; pairs of the same object must differ in it.
        detections: Number of detections in all.
        targets: Number of labelled objects in all.

    Returns:
        int64, shape (detections,): index of the matched object, or -1.
    """
    order = np.lexsort((-pairs.target, -pairs.iou, pairs.detection))
    detection, target, priority = pairs.detection[order], pairs.target[order], priority[order]
    follows = np.append(detection[1:] == detection[:-1], False)  # the next pair is the same detection's next best
    suit = np.unique(detection, return_index=True)[1]  # the pair that each detection stands for at present
    while True:
        best = np.full(targets, np.iinfo(np.int64).max)
        np.minimum.at(best, target[suit], priority[suit])
        lost = priority[suit] > best[target[suit]]
        if not lost.any():
            break
        suit = np.where(lost, suit + 1, suit)[~lost | follows[suit]]
    matched = np.full(detections, -1, np.int64)
    matched[detection[suit]] = target[suit]
    return matched
