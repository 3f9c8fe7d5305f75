"""Losses, one module a task; ``LOSSES`` is all that the trainer knows of them."""

from __future__ import annotations

from collections.abc import Callable

from ...manifest import Task
from .classify import ClassifyLoss
from .common import LossGains, LossSettings, Parts, TaskLoss
from .detect import DetectLoss
from .obb import OrientedLoss
from .pose import PoseLoss
from .segment import SegmentLoss

__all__ = ["LOSSES", "LossGains", "LossSettings", "Parts", "TaskLoss"]

LOSSES: dict[Task, Callable[[LossSettings], TaskLoss]] = {
    "detect": DetectLoss,
    "segment": SegmentLoss,
    "classify": ClassifyLoss,
    "pose": PoseLoss,
    "obb": OrientedLoss,
}
