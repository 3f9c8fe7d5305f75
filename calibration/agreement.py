"""How far a model's answers are those of its float twin: needs no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..imaging.boxes import box_area
from ..manifest import Manifest
from ..metrics.for_detect import overlap
from ..metrics.matching import candidate_pairs, match_pairs
from ..metrics.target import Target
from .results import Agreement

__all__ = ["CONFIDENCE", "OutputLoss", "agreement_of"]

CONFIDENCE = 0.25
"""What counts as found when two models are compared."""
_IOU = 0.5
_TOP = 300  # candidates of an image that the loss looks at: as many as detections are ever kept

Outputs = Mapping[str, npt.NDArray[Any]]


def agreement_of(own: Sequence[Detections], twin: Sequence[Detections]) -> Agreement:
    """Compare what two models found on the same images.

    Detections from confidence 0.25 on are matched one to one within their class, the closest pair first.

    Args:
        own: Of the model, per image.
        twin: Of its float twin, per image.
    """
    mine = [found[found.confidence >= CONFIDENCE] for found in own]
    theirs = [found[found.confidence >= CONFIDENCE] for found in twin]
    targets = [Target(found.xyxy, found.class_id, (1, 1)) for found in theirs]  # the size is not looked at
    pairs = candidate_pairs(mine, targets, overlap(), least=_IOU, same_class=True)
    closest_first = np.lexsort((pairs.target, pairs.detection, -pairs.iou))
    priority = np.empty_like(closest_first)
    priority[closest_first] = np.arange(len(closest_first))
    all_mine, all_theirs = Detections.merge(mine), Detections.merge(theirs)
    matched = match_pairs(pairs, priority, detections=len(all_mine), targets=len(all_theirs))
    hit = matched >= 0
    a, b = all_mine[hit], all_theirs[matched[hit]]
    return Agreement(
        images=len(own),
        reference_objects=len(all_theirs),
        objects=len(all_mine),
        matched=int(hit.sum()),
        mean_iou=float(_pair_iou(a.xyxy, b.xyxy).mean()) if hit.any() else float("nan"),
        score_shifts=a.confidence - b.confidence,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    boxes: npt.NDArray[np.float32]  # (4, candidates)
    scores: npt.NDArray[np.float32]  # (classes, candidates)
    top: npt.NDArray[np.intp]


class OutputLoss:
    """Distance of a model's raw outputs from those of its float twin, where there are objects.

    For each image, the 300 candidates with the highest float score and the 300 with the highest own score are compared:
    change of score plus (1 - IoU), weighted by the higher of the two scores. So background does not count, and neither
    do boxes that nobody would ever see. A loss on the detector's outputs chooses better than one on each layer's
    (DetPTQ, Niu et al. 2023, arXiv:2304.09785).

    Args:
        manifest: Names the outputs.
        references: The twin's outputs, one mapping an image.
    """

    def __init__(self, manifest: Manifest, references: Sequence[Outputs]) -> None:
        self._names = {output.role: output.name for output in manifest.outputs}
        self._references = [self._reference(outputs) for outputs in references]

    def __call__(self, outputs: Sequence[Outputs]) -> float:
        """Return the mean loss over the images: 0 for equal outputs, infinite for values that are not finite."""
        return float(np.mean([self._one(*pair) for pair in zip(outputs, self._references, strict=True)]))

    def _reference(self, outputs: Outputs) -> _Reference:
        boxes, scores = outputs[self._names["boxes"]][0], outputs[self._names["scores"]][0]
        return _Reference(boxes, scores, _highest(scores.max(0)))

    def _one(self, outputs: Outputs, reference: _Reference) -> float:
        own = self._reference(outputs)
        chosen = np.union1d(own.top, reference.top)
        scores, wanted = own.scores[:, chosen], reference.scores[:, chosen]
        weight = np.maximum(scores.max(0), wanted.max(0)).astype(np.float64)
        apart = np.abs(scores - wanted).max(0) + 1 - _pair_iou(own.boxes[:, chosen].T, reference.boxes[:, chosen].T)
        if not (np.isfinite(own.scores).all() and np.isfinite(own.boxes).all()):
            return float("inf")
        return float((weight * apart).sum() / max(weight.sum(), 1e-12))


def _highest(score: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    if len(score) <= _TOP:
        return np.arange(len(score))
    return np.argpartition(score, -_TOP)[-_TOP:]


def _pair_iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the IoU of each box with the one at the same place of the other array, both (n, 4)."""
    size = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    overlap = size[:, 0] * size[:, 1]
    union = box_area(a) + box_area(b) - overlap
    iou: npt.NDArray[np.float32] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou
