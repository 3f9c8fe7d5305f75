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
        outlines, spans = [], []
        for rings in objects:
            own = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]
            points = np.concatenate([np.zeros((0, 2)), *own])
            if not len(points):
                points = np.zeros((1, 2))
            left, top = np.floor(points.min(0)).clip(0, (width, height)).astype(int).tolist()
            right, bottom = np.ceil(points.max(0)).clip(0, (width, height)).astype(int).tolist()
            spans.append((left, top, right - left, bottom - top, len(own)))
            outlines += own
        insides = _insides(outlines, [span for span in spans for _ in range(span[4])])
        crops = []
        for *_, wide, high, count in spans:
            of_rings = [next(insides) for _ in range(count)]
            if len(of_rings) == 1:
                crops.append(of_rings[0])
            else:
                crops.append(np.logical_or.reduce(of_rings) if of_rings else np.zeros((high, wide), np.bool_))
        offsets = np.array([span[:2] for span in spans], np.int32).reshape(-1, 2)
        return cls(tuple(crops), offsets, image_hw)

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


def _insides(outlines: Sequence[npt.NDArray[np.float64]], spans: Sequence[tuple[int, ...]]) -> Iterator[Mask]:
    """Give of each outline the pixels of a window whose centres lie inside it.

    They are found by the crossings of each row of centres with the outline: those of all outlines at once, as numbers
    of pixels from the window's first.

    Args:
        outlines: Each (m, 2), x and y in pixels of the frame.
        spans: Left, top, width and height of the window of each.
    """
    lengths = np.array([len(outline) for outline in outlines], np.int64)
    windows = np.array([span[:4] for span in spans], np.int64).reshape(-1, 4)
    left, top, wide, high = np.repeat(windows, lengths, axis=0).T
    x, y = np.concatenate([np.zeros((0, 2)), *outlines]).T - (left, top)
    ends, some = np.cumsum(lengths), lengths > 0
    following = np.arange(1, len(x) + 1)
    following[ends[some] - 1] = (ends - lengths)[some]
    next_x, next_y = x[following], y[following]
    first = np.ceil(np.minimum(y, next_y) - 0.5).clip(0, high).astype(np.int64)
    crossings = np.ceil(np.maximum(y, next_y) - 0.5).clip(0, high).astype(np.int64) - first
    edge = np.repeat(np.arange(len(x)), crossings)
    until = np.cumsum(crossings)
    row = np.arange(len(edge)) - (until - crossings - first)[edge]
    share = (row + 0.5 - y[edge]) / (next_y - y)[edge]
    column = np.ceil(x[edge] + share * (next_x - x)[edge] - 0.5).clip(0, wide[edge]).astype(np.int64)
    place = row * (wide + 1)[edge] + column
    start = 0
    for (*_, width, height), end in zip(windows.tolist(), np.append(0, until)[ends].tolist(), strict=True):
        counts = np.bincount(place[start:end], minlength=height * (width + 1))
        # A row is crossed an even number of times, so that counting starts anew with each.
        odd = (counts.cumsum() & 1).astype(np.bool_)
        yield np.ascontiguousarray(odd.reshape(height, width + 1)[:, :width])
        start = end
