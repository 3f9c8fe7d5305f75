"""``Objects``: what is labelled in one picture, moved by matrices together with its pixels, whatever the task.

Coordinates are continuous: pixel ``i`` covers ``[i, i + 1]``, so a box around the whole picture is
``(0, 0, width, height)``. What a task's labels say beyond upright boxes is a ``Part``, which the task's module defines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_ASPECT", "MIN_SIDE", "MIN_VISIBLE", "Matrix", "Objects", "Part", "map_points", "scaling"]

Matrix = npt.NDArray[np.float64]

MIN_SIDE = 2.0
"""An object is dropped when a side of its box is not longer than this, in output pixels."""
MIN_VISIBLE = 0.1
"""An object is dropped when not more than this share of its box is left inside the output."""
MAX_ASPECT = 100.0
"""An object is dropped when one side of its box is at least this many times the other."""


def map_points(matrix: Matrix, points: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Map points, shape (n, 2), by a 3×3 matrix, perspective division included."""
    mapped: npt.NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped[:, :2] / mapped[:, 2:]


def scaling(x: float, y: float) -> Matrix:
    """Return the matrix that multiplies coordinates by ``x`` and ``y``."""
    return np.diag((x, y, 1.0)).astype(np.float64)


class Part(Protocol):
    """What a task's labels say of n objects beyond their upright boxes, in the coordinates of one picture."""

    @property
    def min_visible(self) -> float:
        """Share of an object's box that must be left inside the output for it to be kept."""
        ...

    def take(self, chosen: npt.NDArray[Any]) -> Part:
        """Keep the objects where ``chosen``, bool (n,), is true."""
        ...

    def join(self, others: Sequence[Any]) -> Part:
        """Return these objects followed by those of other parts of the same kind."""
        ...

    def map(self, matrix: Matrix) -> Part:
        """Move the objects by a 3×3 matrix."""
        ...

    def clip(self, size: float) -> Part:
        """Cut off what lies outside a square picture of side ``size``."""
        ...

    def hull(self) -> npt.NDArray[np.float32] | None:
        """Return the upright boxes, (n, 4), around what there is; None if the part does not bound its objects."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Objects of one picture, in pixels of that picture.

    Attributes:
        class_id: int64, shape (n,).
        boxes: float32, shape (n, 4): left, top, right, bottom.
        part: What else is known of them; None for tasks of boxes alone.
    """

    class_id: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    part: Part | None = None

    def __len__(self) -> int:
        return len(self.class_id)

    @classmethod
    def concat(cls, parts: Sequence[Objects]) -> Objects:
        """Join objects that share one coordinate frame and task, in the order given."""
        if not parts:
            return cls(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
        first, *others = parts
        return cls(
            np.concatenate([item.class_id for item in parts]),
            np.concatenate([item.boxes for item in parts]),
            None if first.part is None else first.part.join([item.part for item in others]),
        )

    def select(self, chosen: npt.NDArray[np.bool_]) -> Objects:
        """Keep the objects where ``chosen``, shape (n,), is true."""
        return Objects(self.class_id[chosen], self.boxes[chosen], None if self.part is None else self.part.take(chosen))

    def transform(self, matrix: Matrix) -> Objects:
        """Map the objects by a 3×3 matrix; boxes become upright boxes around what they enclose."""
        part = None if self.part is None else self.part.map(matrix)
        boxes = None if part is None else part.hull()
        if boxes is None:
            corners = self.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
            mapped = map_points(matrix, corners).reshape(-1, 4, 2)
            boxes = np.concatenate([mapped.min(1), mapped.max(1)], axis=1).astype(np.float32)
        return Objects(self.class_id, boxes, part)

    def within(self, size: int) -> Objects:
        """Clip to a square picture of side ``size`` and drop what is not worth learning.

        An object stays if, after clipping, both sides of its box exceed ``MIN_SIDE`` pixels, more than
        ``MIN_VISIBLE`` (or what its task says) of the box is left and its aspect is below ``MAX_ASPECT``.
        """
        part = None if self.part is None else self.part.clip(size)
        boxes = None if part is None else part.hull()
        clipped = (self.boxes if boxes is None else boxes).clip(0, size)
        width, height = (clipped[:, 2:] - clipped[:, :2]).T
        full_width, full_height = (self.boxes[:, 2:] - self.boxes[:, :2]).T
        keep = (width > MIN_SIDE) & (height > MIN_SIDE)
        share = MIN_VISIBLE if part is None else part.min_visible
        keep &= width * height > share * full_width * full_height
        keep &= np.maximum(width, height) < MAX_ASPECT * np.minimum(width, height)
        return Objects(self.class_id, clipped, part).select(keep)
