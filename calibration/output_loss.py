"""``OutputLoss``: how far a model's raw outputs are from those of its float twin; recipes are chosen by it.

A further task is a function here that says how far apart two candidates are besides their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..imaging.boxes import box_area
from ..imaging.rotated import probabilistic_iou
from ..keypoints import KeypointSpec
from ..manifest import Manifest, Task

__all__ = ["OutputLoss"]

Floats = npt.NDArray[np.floating[Any]]
Chosen = npt.NDArray[np.intp]
Roles = Mapping[str, npt.NDArray[np.float32]]
"""Outputs of one image by their roles, without the batch."""
Distance = Callable[[Roles, Roles], float]

_TOP = 300  # candidates of an image that the loss looks at: as many as detections are ever kept
_MASKS = 50  # of these the masks of so many are compared, which takes longer


class OutputLoss:
    """Distance of a model's raw outputs from those of its float twin, where there are objects.

    For each image, the 300 candidates with the highest float score and the 300 with the highest own score are compared:
    change of score plus distance of what was found (1 - IoU of boxes, and that of masks; distance of keypoints),
    weighted by the higher of the two scores. So background does not count, and neither do boxes that nobody would ever
    see. Of classes of whole images it is half the sum of the changes of their probabilities. A loss on the detector's
    outputs chooses better than one on each layer's (DetPTQ, Niu et al. 2023, arXiv:2304.09785).

    Args:
        manifest: Names the outputs.
        references: The twin's outputs, one mapping an image.
    """

    def __init__(self, manifest: Manifest, references: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        self._names = {output.role: output.name for output in manifest.outputs}
        self._distance = _DISTANCES[manifest.task](manifest.keypoints)
        self._references = [self._roles(outputs) for outputs in references]

    def __call__(self, outputs: Sequence[Mapping[str, npt.NDArray[Any]]]) -> float:
        """Return the mean loss over the images: 0 for equal outputs, infinite for values that are not finite."""
        pairs = zip(map(self._roles, outputs), self._references, strict=True)
        return float(np.mean([self._one(own, twin) for own, twin in pairs]))

    def _roles(self, outputs: Mapping[str, npt.NDArray[Any]]) -> Roles:
        return {role: outputs[name][0] for role, name in self._names.items()}

    def _one(self, own: Roles, twin: Roles) -> float:
        if not all(np.isfinite(values).all() for values in own.values()):
            return float("inf")
        return self._distance(own, twin)


def _classes(keypoints: KeypointSpec | None) -> Distance:
    return lambda own, twin: float(np.abs(own["probabilities"] - twin["probabilities"]).sum() / 2)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The distance of outputs that are candidates with scores.

    Attributes:
        apart: Gives how far the candidates chosen are apart, shape (chosen,), 0 for the same; they are in falling order
            of their weight.
    """

    apart: Callable[[Roles, Roles, Chosen], Floats]

    def __call__(self, own: Roles, twin: Roles) -> float:
        best_own, best_twin = own["scores"].max(0), twin["scores"].max(0)
        chosen = np.union1d(_highest(best_own), _highest(best_twin))
        chosen = chosen[np.argsort(-np.maximum(best_own, best_twin)[chosen], kind="stable")]
        weight = np.maximum(best_own, best_twin)[chosen].astype(np.float64)
        apart = np.abs(own["scores"][:, chosen] - twin["scores"][:, chosen]).max(0) + self.apart(own, twin, chosen)
        return float((weight * apart).sum() / max(weight.sum(), 1e-12))


def _highest(score: Floats) -> Chosen:
    if len(score) <= _TOP:
        return np.arange(len(score))
    return np.argpartition(score, -_TOP)[-_TOP:]


def _boxes(own: Roles, twin: Roles, chosen: Chosen) -> Floats:
    """Return 1 - IoU of each candidate's boxes."""
    a, b = own["boxes"][:, chosen].T, twin["boxes"][:, chosen].T
    size = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    overlap = size[:, 0] * size[:, 1]
    union = box_area(a) + box_area(b) - overlap
    return np.asarray(1 - np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0))


def _masks(own: Roles, twin: Roles, chosen: Chosen) -> Floats:
    """Return that of boxes and, of the best candidates, 1 - IoU of the masks within the twin's boxes."""
    apart = _boxes(own, twin, chosen)
    first = chosen[:_MASKS]
    height, width = twin["prototypes"].shape[1:]
    # Prototypes are at a quarter of the size of the picture.
    left, top, right, bottom = (side[:, None] / 4 for side in twin["boxes"][:, first])
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]

    def masks(side: Roles) -> npt.NDArray[np.bool_]:
        weights = side["coefficients"][:, first].T
        logits = (weights @ side["prototypes"].reshape(weights.shape[1], -1)).reshape(inside.shape)
        return np.asarray((logits > 0) & inside)

    a, b = masks(own), masks(twin)
    either = (a | b).sum((1, 2))
    apart[: len(first)] += np.where(either > 0, 1 - (a & b).sum((1, 2)) / np.maximum(either, 1), 0)
    return apart


def _keypoints(own: Roles, twin: Roles, chosen: Chosen, *, spec: KeypointSpec) -> Floats:
    """Return that of boxes and the mean distance of the points over the side of the box, each at most 1."""
    a, b = (side["keypoints"][:, chosen].T.reshape(-1, spec.count, spec.dimensions) for side in (own, twin))
    side = np.sqrt(np.maximum(box_area(twin["boxes"][:, chosen].T), 1))
    far = np.minimum(np.hypot(*np.moveaxis(a[:, :, :2] - b[:, :, :2], 2, 0)) / side[:, None], 1)
    return np.asarray(_boxes(own, twin, chosen) + far.mean(1))


def _rotated(own: Roles, twin: Roles, chosen: Chosen) -> Floats:
    """Return 1 - the probabilistic IoU of each candidate's oriented boxes."""
    a, b = (np.concatenate((side["rotated_boxes"], side["angles"]))[:, chosen].T for side in (own, twin))
    return 1 - probabilistic_iou(a, b)


def _pose(keypoints: KeypointSpec | None) -> Distance:
    assert keypoints is not None  # the manifest was checked
    return _Candidates(partial(_keypoints, spec=keypoints))


_DISTANCES: Mapping[Task, Callable[[KeypointSpec | None], Distance]] = {
    "detect": lambda keypoints: _Candidates(_boxes),
    "segment": lambda keypoints: _Candidates(_masks),
    "pose": _pose,
    "obb": lambda keypoints: _Candidates(_rotated),
    "classify": _classes,
}
