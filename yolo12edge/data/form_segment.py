"""Labels of segmentation: polygons, ``class x1 y1 x2 y2 x3 y3 …``; masks are rendered from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..keypoints import KeypointSpec
from ..masks import Masks
from .label_form import CocoObject, LabelForm, NoAreaError, Shape, count_error, fit_points, hull_of
from .objects import Matrix, Objects, map_points
from .polygons import clip_ring, ring_area

__all__ = ["FORM", "MASK_STRIDE", "Polygons", "Rings"]

Rings = tuple[npt.NDArray[Any], ...]

MASK_STRIDE = 4
"""Network pixels of a side of a mask's pixel."""
_MOST = np.iinfo(np.int16).max  # objects that a picture's masks can tell apart
_FARTHEST = 1e9  # pixels; JSON holds whole numbers that no float can
_MIN_AREA = 1e-12  # of the picture: what rounding leaves of points on a line


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """Outlines of n objects.

    Attributes:
        rings: Of each object its rings, each (m, 2).
    """

    rings: tuple[Rings, ...]
    min_visible: ClassVar[float] = 0.01  # the box around what is left of a polygon is exact

    def take(self, chosen: npt.NDArray[Any]) -> Polygons:
        """Keep the objects where ``chosen`` is true."""
        return Polygons(tuple(rings for rings, kept in zip(self.rings, chosen.tolist(), strict=True) if kept))

    def join(self, others: Sequence[Polygons]) -> Polygons:
        """Put others behind these."""
        return Polygons(sum((other.rings for other in others), self.rings))

    def map(self, matrix: Matrix) -> Polygons:
        """Move every point."""
        flat = [ring for rings in self.rings for ring in rings]
        if not flat:
            return self
        points = map_points(matrix, np.concatenate(flat)).astype(np.float32)
        moved = iter(np.split(points, np.cumsum([len(ring) for ring in flat])[:-1]))
        return Polygons(tuple(tuple(next(moved) for _ in rings) for rings in self.rings))

    def clip(self, size: float) -> Polygons:
        """Cut each ring at the border; an object of which nothing is left has no rings."""
        boxes = self.hull()
        inside = np.all((boxes >= 0) & (boxes <= size), axis=1).tolist()
        outside = np.any((boxes[:, 2:] <= 0) | (boxes[:, :2] >= size), axis=1).tolist()
        result: list[Rings] = []
        for rings, whole, gone in zip(self.rings, inside, outside, strict=True):
            if whole or gone:
                result.append(rings if whole else ())
                continue
            clipped = (clip_ring(ring, size) for ring in rings)
            result.append(tuple(ring for ring in clipped if len(ring)))
        return Polygons(tuple(result))

    def hull(self) -> npt.NDArray[np.float32]:
        """Return the boxes around all rings of each object; zeros where there are none."""
        boxes = np.zeros((len(self.rings), 4), np.float32)
        points = [np.concatenate(rings) for rings in self.rings if rings]
        if points:
            some = np.array([bool(rings) for rings in self.rings])
            together, starts = np.concatenate(points), np.cumsum([0, *map(len, points[:-1])])
            boxes[some, :2] = np.minimum.reduceat(together, starts)
            boxes[some, 2:] = np.maximum.reduceat(together, starts)
        return boxes


def parse(values: Sequence[float], keypoints: KeypointSpec | None) -> Shape:
    """Read one ring."""
    if len(values) % 2:
        message = f"{len(values)} coordinates, an odd number"
        raise count_error("segment", len(values), message, "x and y of each point after the class")
    if len(values) < 6:
        message = f"a polygon of {len(values) // 2} points"
        raise count_error("segment", len(values), message, "at least 3, each x and y")
    ring, overshoot = fit_points(values, "point")
    return _shape([ring], overshoot)


def _shape(rings: Sequence[npt.NDArray[np.float32]], overshoot: float) -> Shape:
    solid = tuple(ring for ring in rings if ring_area(ring) > _MIN_AREA)
    if not solid:
        raise NoAreaError("the polygon has no area")
    return Shape(hull_of(np.concatenate(solid)), solid, overshoot)


def of_coco(annotation: CocoObject, keypoints: KeypointSpec | None) -> Shape:
    """Take the polygons of the segmentation."""
    rings, worst = [], 0.0
    for number, ring in enumerate(coco_rings(annotation), start=1):
        fitted, overshoot = fit_points(ring, f"point of polygon {number}:", tolerance=annotation.tolerance)
        rings.append(fitted)
        worst = max(worst, overshoot)
    return _shape(rings, worst)


def coco_rings(annotation: CocoObject) -> list[npt.NDArray[np.float64]]:
    """Return the rings of an annotation, each (m, 2), as shares of the image's sides, in it or not.

    Raises:
        ValueError: If it has no polygons, or one that is none.
    """
    segmentation = annotation.segmentation
    if isinstance(segmentation, Mapping):
        raise ValueError("its segmentation is run-length encoded; expected polygons")
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"its segmentation is {segmentation!r:.60}; expected polygons, lists of x and y")
    rings = []
    for number, ring in enumerate(segmentation, start=1):
        if not isinstance(ring, list) or not all(isinstance(v, (int, float)) and abs(v) <= _FARTHEST for v in ring):
            raise ValueError(f"polygon {number} is {ring!r:.60}; expected a list of x and y in pixels")
        if len(ring) % 2 or len(ring) < 6:
            raise ValueError(f"polygon {number} has {len(ring)} coordinates; expected x and y of at least 3 points")
        rings.append(np.asarray(ring, np.float64).reshape(-1, 2) / annotation.size)
    return rings


def gather(shapes: Sequence[Shape], keypoints: KeypointSpec | None) -> tuple[Rings, ...]:
    """Return the rings of each object."""
    return tuple(shape.arrays for shape in shapes)


def part(value: tuple[Rings, ...], keypoints: KeypointSpec | None) -> Polygons:
    """Let polygons move with the picture."""
    return Polygons(value)


def targets(objects: Objects, size: int) -> Mapping[str, npt.NDArray[Any]]:
    """Render the masks at a quarter of the size: 0 is background, k the k-th object; small ones lie on top.

    Objects beyond those that int16 can number have no mask; there are fewer pixels than these at any usual size.
    """
    assert isinstance(objects.part, Polygons)
    side = size // MASK_STRIDE
    masks = np.zeros((side, side), np.int16)
    scaled = [[ring / MASK_STRIDE for ring in rings] for rings in objects.part.rings[:_MOST]]
    filled = Masks.of_polygons(scaled, (side, side))
    for index in np.argsort(-filled.area(), kind="stable").tolist():
        crop, (left, top) = filled.crops[index], filled.offsets[index].tolist()
        if crop.any():
            masks[top : top + crop.shape[0], left : left + crop.shape[1]][crop] = index + 1
        else:  # no centre of a pixel is in it: it is the one pixel that it lies in
            x, y = (objects.boxes[index].reshape(2, 2).mean(axis=0) / MASK_STRIDE).clip(0, side - 1).astype(int)
            masks[y, x] = index + 1
    return {"masks": masks}


FORM = LabelForm("segment", "polygons", "the polygon", parse, of_coco, gather, part, targets)
