"""``KeypointSpec``: which keypoints an object of a pose model has; dataset, checkpoint and artifact share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["COCO_PERSON", "KeypointSpec"]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Point = Annotated[int, msgspec.Meta(ge=0, lt=1000)]

# fmt: off
COCO_PERSON = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)
"""Names of COCO's keypoints of a person, in COCO's order."""
_COCO_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)
_COCO_FLIP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
# fmt: on

# How far annotators differ, as a share of the object's scale: https://cocodataset.org/#keypoints-eval.
_COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)


class KeypointSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keypoints of one object.

    Attributes:
        count: How many there are.
        dimensions: 3 where labels and model say of each point whether it is visible, else 2.
        names: Name of each point, or none.
        skeleton: Pairs of points that a picture connects.
        flip: For each point the one that it becomes in a mirror image; empty if that is not known.

    Raises:
        InputError: If names, skeleton or flip do not fit the count.
    """

    count: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    dimensions: Literal[2, 3] = 3
    names: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=200)]], msgspec.Meta(max_length=1000)
    ] = []
    skeleton: Annotated[list[tuple[Point, Point]], msgspec.Meta(max_length=10_000)] = []
    flip: Annotated[list[Point], msgspec.Meta(max_length=1000)] = []

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.count:
            raise InputError(f"there are {len(self.names)} names of keypoints", expected=f"{self.count}, one a point")
        if self.flip and (
            sorted(self.flip) != list(range(self.count)) or any(self.flip[b] != a for a, b in enumerate(self.flip))
        ):
            raise InputError(
                f"the mirror images of the keypoints are {self.flip!r:.80}",
                expected=f"each of 0 to {self.count - 1} once, and the mirror image of each mirror image itself",
            )
        if any(point >= self.count for pair in self.skeleton for point in pair):
            raise InputError(f"the skeleton is {self.skeleton!r:.80}", expected=f"points from 0 to {self.count - 1}")

    @property
    def rows(self) -> int:
        """Numbers that describe the points of one object."""
        return self.count * self.dimensions

    @property
    def sigmas(self) -> npt.NDArray[np.float64]:
        """Tolerance of each point in object keypoint similarity, shape (count,): COCO's of a person, else 1/count."""
        if self.count == len(COCO_PERSON) and self.dimensions == 3 and (not self.names or _is_person(self.names)):
            return np.array(_COCO_SIGMAS, np.float64) / 1000
        return np.full(self.count, 1 / self.count)

    def completed(self) -> KeypointSpec:
        """Return the points with COCO's skeleton and mirror images, where they are named like COCO's and lack these."""
        if not _is_person(self.names):
            return self
        return msgspec.structs.replace(
            self, skeleton=self.skeleton or list(_COCO_SKELETON), flip=self.flip or list(_COCO_FLIP)
        )


def _is_person(names: Sequence[str]) -> bool:
    return [name.lower().replace(" ", "_").replace("-", "_") for name in names] == list(COCO_PERSON)
