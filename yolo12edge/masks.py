"""``Masks``: the instance masks of one frame, each stored as large as its object and no larger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["Masks"]

Mask = npt.NDArray[np.bool_]
Ring = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Which pixels of a frame belong to each of n objects.

    A hundred full masks of a 1280 x 720 frame are 92 MB; what lies outside of an object is not kept, and ``full`` makes
    it where it is wanted.

    Attributes:
        crops: bool, each of its own shape (height, width), which may be 0 x 0.
        offsets: int32, shape (n, 2): column and row of the frame where a crop has its top left pixel.
        image_hw: Height and width of the frame in pixels.

    Raises:
        InputError: If the crops are not such arrays or do not lie in the frame.
    """

    crops: tuple[Mask, ...]
    offsets: npt.NDArray[np.int32]
    image_hw: tuple[int, int]

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; conversion happens once, here
        set_(self, "crops", tuple(self.crops))
        set_(self, "offsets", np.asarray(self.offsets, np.int32).reshape(-1, 2))
        if len(self.crops) != len(self.offsets):
            raise InputError(f"there are {len(self.crops)} crops and {len(self.offsets)} offsets", expected="as many")
        if any(not isinstance(crop, np.ndarray) or crop.dtype != np.bool_ or crop.ndim != 2 for crop in self.crops):
            raise InputError("a crop is no mask", expected="bool arrays of shape (height, width)")
        if self.crops:
            height, width = self.image_hw
            ends = self.offsets + np.array([crop.shape[::-1] for crop in self.crops], np.int64)
            if (self.offsets < 0).any() or (ends > (width, height)).any():
                raise InputError("a mask reaches out of its frame", expected=f"{width} x {height} pixels")

    def __len__(self) -> int:
        return len(self.crops)

    def __iter__(self) -> Iterator[Masks]:
        """Yield one single-object ``Masks`` per object."""
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(
        self, index: int | slice | Sequence[int] | npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]
    ) -> Masks:
        """Select masks by integer, slice, boolean mask or index array; always ``Masks``."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return Masks(tuple(self.crops[i] for i in chosen.tolist()), self.offsets[chosen], self.image_hw)

    @classmethod
    def empty(cls, image_hw: tuple[int, int]) -> Masks:
        """Return no masks of a frame."""
        return cls((), np.zeros((0, 2), np.int32), image_hw)

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Masks:
        """Join masks of one frame in the order given.

        Raises:
            InputError: If there are none, or of frames of several sizes.
        """
        sizes = {part.image_hw for part in parts}
        if len(sizes) != 1:
            raise InputError(f"masks are of frames of the sizes {sorted(sizes)}", expected="masks of one frame")
        crops = tuple(crop for part in parts for crop in part.crops)
        return cls(crops, np.concatenate([part.offsets for part in parts]), sizes.pop())

    @classmethod
    def of_full(cls, masks: npt.NDArray[np.bool_]) -> Masks:
        """Return masks of whole frames cropped to what is set; shape (n, height, width)."""
        crops, offsets = [], []
        for mask in np.asarray(masks, np.bool_):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            top, bottom = (rows[0], rows[-1] + 1) if rows.size else (0, 0)
            left, right = (columns[0], columns[-1] + 1) if columns.size else (0, 0)
            crops.append(mask[top:bottom, left:right].copy())
            offsets.append((left, top))
        return cls(tuple(crops), np.array(offsets, np.int32).reshape(-1, 2), (masks.shape[1], masks.shape[2]))

    @classmethod
    def of_polygons(cls, objects: Iterable[Sequence[npt.ArrayLike]], image_hw: tuple[int, int]) -> Masks:
        """Make masks from outlines: a pixel belongs to the object if its centre lies inside.

        Args:
            objects: For each object its rings, each of shape (m, 2): x and y in pixels of the frame. Rings of an object
                add up; a ring that crosses itself has an even-odd inside.
            image_hw: Height and width of the frame in pixels.
        """
        height, width = image_hw
        crops, offsets = [], []
        for rings in objects:
            outlines = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]
            points = np.concatenate([np.zeros((0, 2)), *outlines])
            if not len(points):
                points = np.zeros((1, 2))
            left, top = np.floor(points.min(0)).clip(0, (width, height)).astype(int).tolist()
            right, bottom = np.ceil(points.max(0)).clip(0, (width, height)).astype(int).tolist()
            crop = np.zeros((bottom - top, right - left), np.bool_)
            if crop.size:
                for outline in outlines:
                    crop |= _inside(outline - (left, top), (bottom - top, right - left))
            crops.append(crop)
            offsets.append((left, top))
        return cls(tuple(crops), np.array(offsets, np.int32).reshape(-1, 2), image_hw)

    def full(self) -> npt.NDArray[np.bool_]:
        """Return the masks in frames of their own: bool, shape (n, height, width)."""
        masks = np.zeros((len(self), *self.image_hw), np.bool_)
        for mask, crop, (left, top) in zip(masks, self.crops, self.offsets.tolist(), strict=True):
            mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        return masks

    def area(self) -> npt.NDArray[np.int64]:
        """Return the number of pixels of each: int64, shape (n,)."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], np.int64)

    def contours(self) -> list[list[Ring]]:
        """Return the outlines of each object, the longest first: float32, shape (m, 2), x and y in pixels of the frame.

        An outline runs along the edges of pixels; ``of_polygons`` gives a mask without holes back.
        """
        return [
            [ring + np.array(offset, np.float32) for ring in _outlines(crop)]
            for crop, offset in zip(self.crops, self.offsets.tolist(), strict=True)
        ]

    def to_rle(self) -> list[dict[str, Any]]:
        """Return COCO's run-length codes, not compressed: ``{"size": [height, width], "counts": [...]}`` of each.

        Counts go down the columns, of pixels that do not and do belong to the object by turns.
        """
        height, width = self.image_hw
        codes = []
        for crop, (left, top) in zip(self.crops, self.offsets.tolist(), strict=True):
            columns = np.zeros((crop.shape[1], height), np.bool_)
            columns[:, top : top + crop.shape[0]] = crop.T
            changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + left * height
            counts = np.diff(changes, prepend=0, append=height * width).tolist()
            # What ends with the last pixel leaves a run of no pixels behind.
            codes.append(
                {"size": [height, width], "counts": counts[:-1] if len(counts) > 1 and not counts[-1] else counts}
            )
        return codes

    def iou(self, other: Masks) -> npt.NDArray[np.float32]:
        """Return the overlap of each with each of another's masks: float32, shape (len(self), len(other)).

        Raises:
            InputError: If they are of frames of different sizes.
        """
        if self.image_hw != other.image_hw:
            raise InputError(f"masks are of frames of {self.image_hw} and {other.image_hw}", expected="one size")
        table = np.zeros((len(self), len(other)), np.float32)
        areas, others = self.area(), other.area()
        start, end = _bounds(self)
        other_start, other_end = _bounds(other)
        low = np.maximum(start[:, None], other_start)
        high = np.minimum(end[:, None], other_end)
        for i, j in zip(*np.nonzero((low < high).all(axis=2)), strict=True):
            (left, top), (right, bottom) = low[i, j], high[i, j]
            mine = self.crops[i][top - start[i, 1] : bottom - start[i, 1], left - start[i, 0] : right - start[i, 0]]
            their_x, their_y = other_start[j]
            theirs = other.crops[j][top - their_y : bottom - their_y, left - their_x : right - their_x]
            common = np.count_nonzero(mine & theirs)
            table[i, j] = common / max(1, areas[i] + others[j] - common)
        return table


def _bounds(masks: Masks) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the corners of the crops, each (n, 2): left, top and right, bottom."""
    start = masks.offsets.astype(np.int64)
    return start, start + np.array([crop.shape[::-1] for crop in masks.crops], np.int64).reshape(-1, 2)


def _outlines(crop: Mask) -> list[Ring]:
    """Return the outer outlines of a mask along the edges of its pixels."""
    if not crop.any():
        return []
    # Doubled and padded, contours through pixel centres run at half pixels around each region.
    doubled = np.pad(crop.repeat(2, axis=0).repeat(2, axis=1), 1).astype(np.uint8)
    found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [(np.asarray(contour, np.float32).reshape(-1, 2) - 1) / 2 for contour in found]
    # A doubled pixel's centres lie 0 and 1/2 behind its edge: even coordinates are left or top edges.
    rings = [np.where(ring % 1 == 0, ring, ring + 0.5) for ring in rings]
    # Where the outline turns inwards, two points have become one.
    distinct = [ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)].astype(np.float32) for ring in rings]
    return sorted(distinct, key=lambda ring: -len(ring))


def _inside(outline: npt.NDArray[np.float64], hw: tuple[int, int]) -> Mask:
    """Return which pixels have their centre inside an outline, by the crossings of each row of centres with it."""
    height, width = hw
    x, y = outline.T
    next_x, next_y = np.roll(outline, -1, axis=0).T
    first = np.ceil(np.minimum(y, next_y) - 0.5).clip(0, height).astype(np.int64)
    crossings = np.ceil(np.maximum(y, next_y) - 0.5).clip(0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(x)), crossings)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings, crossings) + first[edge]
    share = (row + 0.5 - y[edge]) / (next_y - y)[edge]
    column = np.ceil(x[edge] + share * (next_x - x)[edge] - 0.5).clip(0, width).astype(np.int64)
    table = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.asarray(table.cumsum(axis=1)[:, :width] % 2 == 1)
