"""Labels of oriented boxes: four corners in order, ``class x1 y1 x2 y2 x3 y3 x4 y4``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from ..imaging.rotated import corners_of_rotated, rotated_of_corners
from ..keypoints import KeypointSpec
from .form_segment import coco_rings
from .label_form import CocoObject, LabelForm, NoAreaError, Shape, count_error, hull_of
from .objects import MIN_VISIBLE, Matrix, Objects, map_points
from .polygons import clip_ring

__all__ = ["FORM", "Corners"]

Array = npt.NDArray[np.float32]

_MIN_TURN = 1e-9  # of the picture's area: corners on a line turn by nothing but rounding


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Corners of n oriented boxes.

    Attributes:
        corners: float32 (n, 4, 2), in order around each box.
    """

    corners: Array
    min_visible: ClassVar[float] = MIN_VISIBLE

    def take(self, chosen: npt.NDArray[Any]) -> Corners:
        """Keep the objects where ``chosen`` is true."""
        return Corners(self.corners[chosen])

    def join(self, others: Sequence[Corners]) -> Corners:
        """Put others behind these."""
        return Corners(np.concatenate([self.corners, *(other.corners for other in others)]))

    def map(self, matrix: Matrix) -> Corners:
        """Move every corner."""
        return Corners(map_points(matrix, self.corners.reshape(-1, 2)).reshape(-1, 4, 2).astype(np.float32))

    def clip(self, size: float) -> Corners:
        """Make each box that reaches out of the picture the smallest one of its angle around what is left inside."""
        boxes = self.hull()
        inside = np.all((boxes >= 0) & (boxes <= size), axis=1)
        outside = np.any((boxes[:, 2:] <= 0) | (boxes[:, :2] >= size), axis=1)
        result = np.where(outside[:, None, None], np.float32(0), self.corners)
        across = np.flatnonzero(~inside & ~outside)
        boxes = rotated_of_corners(self.corners[across]).astype(np.float64)
        for index, box, corners in zip(across.tolist(), boxes, corners_of_rotated(boxes), strict=True):
            result[index] = _shrunk(corners, float(box[4]), size)
        return Corners(result)

    def hull(self) -> Array:
        """Return the upright boxes around the corners."""
        return np.concatenate([self.corners.min(axis=1), self.corners.max(axis=1)], axis=1)


def _shrunk(corners: npt.NDArray[np.float64], angle: float, size: float) -> Array:
    """Return the corners of the smallest rectangle of an angle around what of one lies in the picture."""
    left = clip_ring(corners, size)
    if not len(left):
        return np.zeros((4, 2), np.float32)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    along = left @ axes.T
    low, high = along.min(axis=0), along.max(axis=0)
    rectangle = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    return np.asarray(rectangle @ axes, np.float32)


def parse(values: Sequence[float], keypoints: KeypointSpec | None) -> Shape:
    """Read four corners."""
    if len(values) != 8:
        odd = ", an odd number" if len(values) % 2 else ""
        message = f"{len(values)} coordinates{odd}"
        raise count_error("obb", len(values), message, "8: x and y of 4 corners after the class")
    return _shape(np.array(values, np.float64).reshape(4, 2))


def _shape(corners: npt.NDArray[np.float64]) -> Shape:
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    if np.abs(turns).max() <= _MIN_TURN:
        raise NoAreaError("the oriented box has no area")
    if (turns > 0).any() and (turns < 0).any():
        crossing = int((turns > 0).sum()) == 2
        what = "its sides cross each other" if crossing else "one corner lies inwards"
        raise ValueError(f"the corners are not those of a box: {what}; expected 4 corners in order around it")
    if not ((corners > -1) & (corners < 2)).all():
        hint = "; these look like pixels, labels are shares of the image's sides" if corners.max() > 2 else ""
        raise ValueError(f"the box reaches out of the image: corners {corners.round(3).tolist()}{hint}")
    centre = corners.mean(axis=0)
    if not ((centre >= 0) & (centre <= 1)).all():
        raise ValueError(f"the centre of the box lies outside the image: x, y = {centre[0]:g}, {centre[1]:g}")
    return Shape(hull_of(corners.clip(0, 1).astype(np.float32)), (corners.astype(np.float32),))


def of_coco(annotation: CocoObject, keypoints: KeypointSpec | None) -> Shape:
    """Take the smallest oriented box around the polygons of the segmentation: COCO has none of its own."""
    points = np.concatenate(coco_rings(annotation)) * annotation.size
    hull = cv2.convexHull(points.astype(np.float32))
    if len(hull) < 3:
        raise NoAreaError("the polygon has no area")
    corners = np.asarray(cv2.boxPoints(cv2.minAreaRect(hull)), np.float64)
    return _shape(corners / annotation.size)


def gather(shapes: Sequence[Shape], keypoints: KeypointSpec | None) -> Array:
    """Return the corners of all objects, (n, 4, 2)."""
    return np.array([shape.arrays[0] for shape in shapes], np.float32).reshape(-1, 4, 2)


def part(value: Array, keypoints: KeypointSpec | None) -> Corners:
    """Let corners move with the picture."""
    return Corners(value)


def targets(objects: Objects, size: int) -> Mapping[str, npt.NDArray[Any]]:
    """Give the oriented boxes in network pixels and radians."""
    assert isinstance(objects.part, Corners)
    return {"obb": rotated_of_corners(objects.part.corners)}


FORM = LabelForm("obb", "corners", "the oriented box", parse, of_coco, gather, part, targets)
