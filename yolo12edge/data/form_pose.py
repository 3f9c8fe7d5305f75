"""Labels of poses: a box and keypoints, ``class centre-x centre-y width height x1 y1 v1 x2 y2 v2 …``.

Visibility is 0 for a point that is not labelled, 1 for one that is hidden and 2 for one that can be seen. In labels
without it, a point at 0, 0 is not labelled and all others can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..keypoints import KeypointSpec
from .label_form import OVERSHOOT, CocoObject, LabelForm, Shape, count_error, fit_box, fit_points
from .objects import MIN_VISIBLE, Matrix, Objects, map_points

__all__ = ["FORM", "Keypoints"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """Keypoints of n objects.

    Attributes:
        points: float32 (n, K, 3), x, y, visibility; all 0 where a point is not labelled.
        mirror: For each point the one that it becomes in a mirror image; empty if that is not known.
    """

    points: Array
    mirror: tuple[int, ...] = ()
    min_visible: ClassVar[float] = MIN_VISIBLE

    def take(self, chosen: npt.NDArray[Any]) -> Keypoints:
        """Keep the objects where ``chosen`` is true."""
        return replace(self, points=self.points[chosen])

    def join(self, others: Sequence[Keypoints]) -> Keypoints:
        """Put others behind these."""
        return replace(self, points=np.concatenate([self.points, *(other.points for other in others)]))

    def map(self, matrix: Matrix) -> Keypoints:
        """Move the points; where the matrix mirrors, left becomes right."""
        moved = self.points.copy()
        moved[..., :2] = map_points(matrix, self.points[..., :2].reshape(-1, 2)).reshape(*moved.shape[:2], 2)
        moved[moved[..., 2] == 0] = 0
        if self.mirror and np.linalg.det(matrix) < 0:
            moved = moved[:, list(self.mirror)]
        return replace(self, points=moved)

    def clip(self, size: float) -> Keypoints:
        """Forget the points outside the picture."""
        inside = ((self.points[..., :2] >= 0) & (self.points[..., :2] <= size)).all(axis=2, keepdims=True)
        return replace(self, points=np.where(inside, self.points, np.float32(0)))

    def hull(self) -> None:
        """Keypoints do not bound an object."""
        return


def _spec(keypoints: KeypointSpec | None) -> KeypointSpec:
    assert keypoints is not None  # a dataset of poses has it
    return keypoints


def parse(values: Sequence[float], keypoints: KeypointSpec | None) -> Shape:
    """Read box and points."""
    spec = _spec(keypoints)
    if len(values) != 4 + spec.rows:
        expected = f"{5 + spec.rows}: class, box and {spec.count} keypoints of {spec.dimensions} values"
        count, rest = divmod(len(values) - 4, spec.dimensions)
        found = f", {count} keypoints" if not rest and count > 0 else ""
        other = 5 - spec.dimensions  # with a visibility where there should be none, or without
        if len(values) == 4 + spec.count * other:
            found = f", as `kpt_shape: [{spec.count}, {other}]` has"
        message = f"{len(values) + 1} values{found}"
        raise (
            ValueError(f"{message}; expected {expected}")
            if found
            else count_error("pose", len(values), message, expected)
        )
    box, overshoot = fit_box(*values[:4])
    points, outside = _points(np.array(values[4:], np.float64).reshape(spec.count, spec.dimensions), OVERSHOOT)
    return Shape(box, (points,), max(overshoot, outside))


def _points(values: npt.NDArray[np.float64], tolerance: float) -> tuple[Array, float]:
    """Return float32 (K, 3) of (K, D) in shares of the image's sides, and how far they reached out of it."""
    if values.shape[1] == 2:
        seen = np.where((values != 0).any(axis=1), 2.0, 0.0)
    else:
        seen = values[:, 2]
        wrong = np.flatnonzero(~np.isin(seen, (0.0, 1.0, 2.0)))
        if len(wrong):
            raise ValueError(f"keypoint {wrong[0] + 1} has visibility {seen[wrong[0]]:g}; expected 0, 1 or 2")
    placed = np.where(seen[:, None] > 0, values[:, :2], 0.0)
    points, outside = fit_points(placed, "keypoint", tolerance=tolerance)
    return np.concatenate([points, seen[:, None].astype(np.float32)], axis=1), outside


def of_coco(annotation: CocoObject, keypoints: KeypointSpec | None) -> Shape:
    """Take bbox and keypoints."""
    spec = _spec(keypoints)
    found = annotation.box()
    values = annotation.keypoints
    if values is None or len(values) != 3 * spec.count:
        given = "no" if values is None else f"{len(values)}"
        raise ValueError(f"{given} values of keypoints; expected {3 * spec.count}: x, y, visibility of {spec.count}")
    table = np.array(values, np.float64).reshape(-1, 3) / (*annotation.size, 1)
    points, outside = _points(table, annotation.tolerance)
    return Shape(found.box, (points,), max(found.overshoot, outside))


def gather(shapes: Sequence[Shape], keypoints: KeypointSpec | None) -> Array:
    """Return the points of all objects, (n, K, 3)."""
    return np.array([shape.arrays[0] for shape in shapes], np.float32).reshape(-1, _spec(keypoints).count, 3)


def part(value: Array, keypoints: KeypointSpec | None) -> Keypoints:
    """Let keypoints move with the picture."""
    return Keypoints(value, tuple(_spec(keypoints).flip))


def targets(objects: Objects, size: int) -> Mapping[str, npt.NDArray[Any]]:
    """Give the points in network pixels."""
    assert isinstance(objects.part, Keypoints)
    return {"keypoints": objects.part.points.astype(np.float32)}


FORM = LabelForm("pose", "keypoints", "the box or a keypoint", parse, of_coco, gather, part, targets)
