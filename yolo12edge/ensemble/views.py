"""Views of a frame on which one model answers several times (test-time augmentation): mirrored, and shrunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..frame import Color, Frame
from ..manifest import Manifest
from ..thresholds import Thresholds
from .ensemble import Member
from .moving import mirror, shift

__all__ = ["VIEWS", "Mirrored", "Shrunk", "View", "with_views"]

View = Literal["flip", "scale"]


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A model that sees frames mirrored left to right, and answers in pixels of the frame as it is.

    Args:
        member: The model.

    Raises:
        InputError: If it finds keypoints and does not say which of them are mirror images of each other.
    """

    member: Member

    def __post_init__(self) -> None:
        points = self.manifest.keypoints
        if points is not None and not points.flip:
            raise InputError(
                "the model does not say which keypoints are left and right",
                expected="`flip_idx:` in the data.yaml that it was trained with",
                remedy="look at other views than the mirrored one: --tta scale",
            )

    @property
    def manifest(self) -> Manifest:
        """What the model is."""
        return self.member.manifest

    def __call__(
        self, frame: npt.NDArray[Any] | Frame, *, color: Color = "bgr", thresholds: Thresholds | None = None
    ) -> Detections:
        """Answer as the model does."""
        image = _pixels(frame)
        found = self.member(_with(frame, image[:, ::-1]), color=color, thresholds=thresholds)
        points = self.manifest.keypoints
        return mirror(found, image.shape[1], flip=() if points is None else points.flip)


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A model that sees frames smaller, in the middle of grey, and answers in pixels of the frame as it is.

    Larger views do not exist: a network sees no more than its input holds, which the plain view fills.

    Args:
        member: The model.
        share: Of its size that the frame keeps.

    Raises:
        InputError: If the share is not one, or the model cuts the middle out of frames, where the grey would stay.
    """

    member: Member
    share: float = 0.8

    def __post_init__(self) -> None:
        if not 0.25 <= self.share < 1:
            raise InputError(f"the frame shall shrink to {self.share}", expected="a share from 0.25 to below 1")
        if self.manifest.input.resize != "letterbox":
            raise InputError(
                f"a model for {self.manifest.task} looks at the middle of a frame, which has no smaller view",
                remedy="look at the mirrored view alone: --tta flip",
            )

    @property
    def manifest(self) -> Manifest:
        """What the model is."""
        return self.member.manifest

    def __call__(
        self, frame: npt.NDArray[Any] | Frame, *, color: Color = "bgr", thresholds: Thresholds | None = None
    ) -> Detections:
        """Answer as the model does."""
        image = _pixels(frame)
        height, width = image.shape[:2]
        canvas_hw = round(height / self.share), round(width / self.share)
        grey = self.manifest.input.pad_value * (257 if image.dtype == np.uint16 else 1)
        canvas = np.full((*canvas_hw, *image.shape[2:]), grey, image.dtype)
        top, left = (canvas_hw[0] - height) // 2, (canvas_hw[1] - width) // 2
        canvas[top : top + height, left : left + width] = image
        return shift(self.member(_with(frame, canvas), color=color, thresholds=thresholds), left, top, (height, width))


VIEWS: dict[View, Callable[[Member], Member]] = {"flip": Mirrored, "scale": Shrunk}
"""The views by name."""


def with_views(member: Member, views: Sequence[View]) -> list[Member]:
    """Return the model and the model on each of these views, to be joined in an ``Ensemble``.

    Raises:
        InputError: If there is no such view, or none that the model can use.
    """
    for view in views:
        if view not in VIEWS:
            raise InputError(f"there is no view {view!r}", expected=f"one or several of {', '.join(get_args(View))}")
    return [member, *(VIEWS[view](member) for view in dict.fromkeys(views))]


def _pixels(frame: npt.NDArray[Any] | Frame) -> npt.NDArray[Any]:
    image = frame.image if isinstance(frame, Frame) else frame
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or not image.size:
        raise InputError(
            f"the frame is {type(image).__name__} of shape {getattr(image, 'shape', None)}",
            expected="a NumPy array of pixels: other views of it are made here",
        )
    return image


def _with(frame: npt.NDArray[Any] | Frame, image: npt.NDArray[Any]) -> npt.NDArray[Any] | Frame:
    return replace(frame, image=image) if isinstance(frame, Frame) else image
