"""``LabelForm``: how the labels of one task are written and read, and what is learnt from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..keypoints import KeypointSpec
from ..manifest import Task
from .objects import Objects, Part

__all__ = [
    "OVERSHOOT",
    "CocoObject",
    "LabelForm",
    "NoAreaError",
    "OtherTaskError",
    "Shape",
    "count_error",
    "fit_box",
    "fit_points",
    "hull_of",
]

OVERSHOOT = 1e-3
"""How far a label may reach out of its image, as a share of the side, and still be clipped and used."""

Array = npt.NDArray[np.float32]
Box = tuple[float, ...]


class NoAreaError(ValueError):
    """An object without area, which is left out: official COCO files and outlines of masks hold a few of these."""


class OtherTaskError(ValueError):
    """A label line with as many numbers as those of other tasks have.

    Args:
        message: What is wrong.
        tasks: The tasks that it looks like.
    """

    def __init__(self, message: str, tasks: tuple[Task, ...]) -> None:
        self.tasks = tasks
        super().__init__(message)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Where one object is, as shares of the image's sides.

    Attributes:
        box: Left, top, right, bottom, in [0, 1].
        arrays: What the task knows beyond that: rings, keypoints or corners.
        overshoot: How far it reached out of the image before it was clipped.
    """

    box: Box
    arrays: tuple[Array, ...] = ()
    overshoot: float = 0.0

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for the same label."""
        return (self.box, *(array.tobytes() for array in self.arrays))


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation of a COCO file that is not a crowd.

    Attributes:
        bbox: Left, top, width, height in pixels; None if the file has none.
        segmentation: Polygons as lists of x, y in pixels, or a run-length encoding; as it was read.
        keypoints: x, y, visibility of each point, in pixels.
        size: Width and height of the image in pixels.
    """

    bbox: Sequence[float] | None
    segmentation: Any
    keypoints: Sequence[float] | None
    size: tuple[int, int]

    @property
    def tolerance(self) -> float:
        """How far it may reach out of the image: tools round to pixels."""
        return max(OVERSHOOT, 1 / min(self.size))

    def box(self) -> Shape:
        """Return its bbox as a shape.

        Raises:
            ValueError: If there is none, or it reaches out of the image.
        """
        if self.bbox is None or len(self.bbox) != 4:
            raise ValueError(f"its bbox is {self.bbox!r:.60}, expected x, y, width, height in pixels")
        x, y, w, h = self.bbox
        width, height = self.size
        if w <= 0 or h <= 0:
            raise NoAreaError("the box has no area")
        box, overshoot = fit_box(
            (x + w / 2) / width, (y + h / 2) / height, w / width, h / height, tolerance=self.tolerance
        )
        return Shape(box, (), overshoot)


@dataclass(frozen=True, slots=True)
class LabelForm:
    """The label format of one task.

    Attributes:
        task: Which.
        field: The attribute of ``Labels`` and ``Sample`` that holds what is known beyond class and box, if any.
        noun: What may reach out of the image, for messages.
        parse: The numbers of a label line after the class → shape; ValueError says what is wrong.
        of_coco: A COCO annotation → shape; ValueError says what is wrong.
        gather: Shapes of the objects of an image → value of ``field``.
        part: Value of ``field`` → the part that moves with the picture.
        targets: Objects in network pixels and the side of the picture → arrays of ``Item`` by field.
        whole: Whether labels are of whole pictures, and have no place in them.
    """

    task: Task
    field: str | None
    noun: str
    parse: Callable[[Sequence[float], KeypointSpec | None], Shape]
    of_coco: Callable[[CocoObject, KeypointSpec | None], Shape]
    gather: Callable[[Sequence[Shape], KeypointSpec | None], Any]
    part: Callable[[Any, KeypointSpec | None], Part | None]
    targets: Callable[[Objects, int], Mapping[str, npt.NDArray[Any]]]
    whole: bool = False

    @property
    def counted(self) -> str:
        """What is labelled, in the plural."""
        return "labels" if self.whole else "objects"


def count_error(task: Task, count: int, message: str, expected: str) -> ValueError:
    """Return the error of a label line with a wrong number of values, which names the tasks that it looks like.

    Args:
        task: The task whose labels were wanted.
        count: Number of values after the class.
        message: What is wrong.
        expected: What a line of the task is.
    """
    points, what = count // 2, ""
    tasks: tuple[Task, ...] = ()
    if count == 4:
        what, tasks = "a box", ("detect",)
    elif count == 8:
        what, tasks = "a polygon or an oriented box of 4 points", ("segment", "obb")
    elif count >= 6 and count % 2 == 0:
        what, tasks = f"a polygon of {points} points", ("segment",)
    elif count >= 10 and (count - 4) % 3 == 0:  # with one keypoint, it rather is a line that lost a number
        what, tasks = f"a box and {(count - 4) // 3} keypoints of 3 values", ("pose",)
    if not tasks or task in tasks:
        return ValueError(f"{message}; expected {expected}")
    return OtherTaskError(f"{message}, as {what} has (task {' or '.join(tasks)}); expected {expected}", tasks)


def fit_box(
    x: float, y: float, width: float, height: float, *, tolerance: float = OVERSHOOT
) -> tuple[tuple[float, ...], float]:
    """Turn a normalised centre box into clipped corners.

    Args:
        x: Centre, as a share of the image's width.
        y: Centre, as a share of the image's height.
        width: Width, as a share of the image's width.
        height: Height, as a share of the image's height.
        tolerance: How far it may reach out of the image.

    Returns:
        (left, top, right, bottom) in [0, 1], and how far the box reached out of the image.

    Raises:
        ValueError: If it has no area or reaches out of the image by more than the tolerance.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f"the box has no area: width {width:g}, height {height:g}")
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    overshoot = max(0.0, -corners[0], -corners[1], corners[2] - 1, corners[3] - 1)
    if overshoot > tolerance:
        edges = ", ".join(f"{value:g}" for value in corners)
        hint = _pixels_hint(max(corners))
        raise ValueError(f"the box reaches out of the image: left, top, right, bottom = {edges}{hint}")
    left, top, right, bottom = (min(1.0, max(0.0, value)) for value in corners)
    # Widths below float32's resolution near 1 collapse to no area when stored.
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):
        raise ValueError(f"the box has no area inside the image: width {width:g}, height {height:g}")
    return (left, top, right, bottom), overshoot


def fit_points(values: npt.ArrayLike, what: str, *, tolerance: float = OVERSHOOT) -> tuple[Array, float]:
    """Clip normalised points to the image.

    Args:
        values: (m, 2), x and y as shares of the image's sides.
        what: What they are, for the message.
        tolerance: How far they may reach out of the image.

    Returns:
        float32 (m, 2) in [0, 1], and how far they reached out of the image.

    Raises:
        ValueError: If a point is further outside than the tolerance.
    """
    points = np.asarray(values, np.float64).reshape(-1, 2)
    outside = np.maximum(-points, points - 1).max(axis=1, initial=0)
    worst = int(outside.argmax()) if len(outside) else -1
    overshoot = float(outside[worst]) if worst >= 0 else 0.0
    if overshoot > tolerance:
        x, y = points[worst].tolist()
        hint = _pixels_hint(float(points.max()))
        raise ValueError(f"{what} {worst + 1} lies outside the image: x, y = {x:g}, {y:g}{hint}")
    return points.clip(0, 1).astype(np.float32), overshoot


def hull_of(points: Array) -> Box:
    """Return the upright box around points, (m, 2).

    Raises:
        NoAreaError: If they have no extent.
    """
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if right <= left or bottom <= top:
        raise NoAreaError(f"it has no area: width {right - left:g}, height {bottom - top:g}")
    return (left, top, right, bottom)


def _pixels_hint(largest: float) -> str:
    return "; these look like pixels, labels are shares of the image's sides" if largest > 2 else ""
