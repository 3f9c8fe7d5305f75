"""``PIPELINES``: how a task's pictures come to the network, in training and in validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..imaging.letterbox import plan_letterbox
from ..keypoints import KeypointSpec
from ..manifest import Task
from .augment.picture import Image, Picture, letterboxed_picture
from .augment.pipeline import augmented_picture, augmented_whole_picture
from .augment.settings import Augmentation
from .augment.whole import NOTHING, centre_cropped_picture, cover
from .forms import FORMS
from .objects import Objects, scaling

if TYPE_CHECKING:
    from .dataset import Sample
    from .labels import Labels

__all__ = ["PIPELINES", "Pipeline", "labelled_picture", "possible_augmentation"]


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
    return centre_cropped_picture(Picture(image, NOTHING), size=size).image


PLACED = Pipeline(fit, fit, 1.0, augmented_picture, letterboxed_picture)
"""Pictures of objects that are somewhere: letterboxed."""
WHOLE = Pipeline(cover, middle, 16 / 9, augmented_whole_picture, centre_cropped_picture)
"""Pictures that have classes as a whole: cropped."""

PIPELINES: dict[Task, Pipeline] = {
    "detect": PLACED,
    "segment": PLACED,
    "classify": WHOLE,
    "pose": PLACED,
    "obb": PLACED,
}


def labelled_picture(image: Image, sample: Sample | Labels, task: Task, keypoints: KeypointSpec | None) -> Picture:
    """Return an image, RGB and of any size, with the labels of its sample in its pixels."""
    form = FORMS[task]
    height, width = image.shape[:2]
    part = None if form.field is None else form.part(getattr(sample, form.field), keypoints)
    return Picture(image, Objects(sample.class_id, sample.boxes, part).transform(scaling(width, height)))


def possible_augmentation(augmentation: Augmentation, task: Task, keypoints: KeypointSpec | None) -> Augmentation:
    """Check an augmentation, and take flips away where the mirror images of keypoints are not known.

    Raises:
        InputError: If the task cannot have an operation.
    """
    augmentation.check(task)
    return augmentation.without_flips() if keypoints is not None and not keypoints.flip else augmentation
