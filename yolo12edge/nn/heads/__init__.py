"""The heads, one module a task, and ``HEADS``, the table of them."""

from __future__ import annotations

from ...manifest import Task
from .base import HasShape, Head
from .classify import Classify
from .detect import Detect
from .obb import Obb, decode_angles, decode_rotated_boxes
from .output import HeadOutput, anchor_grid, decode_boxes, expected_distances
from .pose import Pose, decode_keypoints
from .segment import Prototypes, Segment

__all__ = [
    "HEADS",
    "Classify",
    "Detect",
    "HasShape",
    "Head",
    "HeadOutput",
    "Obb",
    "Pose",
    "Prototypes",
    "Segment",
    "anchor_grid",
    "decode_angles",
    "decode_boxes",
    "decode_keypoints",
    "decode_rotated_boxes",
    "expected_distances",
]

HEADS: dict[Task, type[Head]] = {
    "detect": Detect,
    "segment": Segment,
    "classify": Classify,
    "pose": Pose,
    "obb": Obb,
}
