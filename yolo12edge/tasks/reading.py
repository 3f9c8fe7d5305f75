"""What the tasks share on the way from outputs to ``Detections``: their interface, and coordinates of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..imaging.letterbox import Letterbox
from ..keypoints import KeypointSpec
from ..manifest import Role, Task

__all__ = ["Outputs", "TaskFacts", "gains", "points_to_source", "to_source"]

Floats = npt.NDArray[np.float32]
Outputs = Mapping[Role, Floats]
"""The outputs of one image by role: their shapes are those of the manifest without the batch."""


class TaskFacts(Protocol):
    """What must be known of a model to read its outputs; manifests, checkpoints' metadata and datasets say it."""

    @property
    def task(self) -> Task:
        """What the model does."""

    @property
    def multi_label(self) -> bool:
        """Whether classes do not exclude each other (classify)."""

    @property
    def keypoints(self) -> KeypointSpec | None:
        """Which points an object has (pose)."""


def to_source(boxes: Floats, letterbox: Letterbox) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return boxes in source pixels, clipped to the frame, and which of them are not wholly in the padding.

    Args:
        boxes: float32, shape (n, 4), left, top, right, bottom in network pixels.
        letterbox: Geometry of the image.
    """
    xyxy = letterbox.to_source(boxes)
    return xyxy, (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])


def gains(letterbox: Letterbox) -> tuple[float, float]:
    """Return source pixels per network pixel, across and down: rounding to whole pixels makes them differ a little."""
    (height, width), (new_height, new_width) = letterbox.source_hw, letterbox.resized_hw
    return width / new_width, height / new_height


def points_to_source(points: Floats, letterbox: Letterbox) -> Floats:
    """Return points in source pixels, not clipped.

    Args:
        points: float32, shape (…, 2), x and y in network pixels.
        letterbox: Geometry of the image.
    """
    pad = np.array((letterbox.pad_left, letterbox.pad_top), np.float32)
    moved: Floats = (points - pad) * np.array(gains(letterbox), np.float32)
    return moved
