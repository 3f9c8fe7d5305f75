"""``PIPELINES``: how a task's pictures come to the network, in training and in validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..imaging.letterbox import plan_letterbox
from ..manifest import Task
from .augment import Picture, augmented_picture, letterboxed_picture
from .augment_classify import centre_cropped_picture, cover, cropped_picture
from .objects import Objects

__all__ = ["PIPELINES", "Pipeline"]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The way of pictures to the network.

    Attributes:
        keep: What of a picture, uint8 (H, W, 3), is kept in memory to be augmented, for a side of the network's input.
        keep_plain: The same for validation.
        share: Pixels that are kept of a picture, at the most that is usual, for each pixel of the input.
        augmented: Makes a training picture; see ``augmented_picture``.
        plain: Makes a validation picture, exactly as the Runtime does.
    """

    keep: Callable[[Image, int], Image]
    keep_plain: Callable[[Image, int], Image]
    share: float
    augmented: Callable[..., Picture]
    plain: Callable[..., Picture]


def fit(image: Image, size: int) -> Image:
    """Resize a picture so that its long side is ``size``, interpolated as the Runtime does."""
    height, width = plan_letterbox(image.shape[:2], (size, size)).resized_hw
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def middle(image: Image, size: int) -> Image:
    """Cut out and resize the middle of a picture."""
    none = Objects(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    return centre_cropped_picture(Picture(image, none), size=size).image


PLACED = Pipeline(fit, fit, 1.0, augmented_picture, letterboxed_picture)
"""Pictures of objects that are somewhere: letterboxed."""
WHOLE = Pipeline(cover, middle, 16 / 9, cropped_picture, centre_cropped_picture)
"""Pictures that have classes as a whole: cropped."""

PIPELINES: dict[Task, Pipeline] = {
    "detect": PLACED,
    "segment": PLACED,
    "classify": WHOLE,
    "pose": PLACED,
    "obb": PLACED,
}
