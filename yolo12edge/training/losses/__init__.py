"""Losses, one module a task in the table ``LOSSES``; the trainer takes that of its run from ``make_loss``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ...errors import InputError
from ...manifest import Task
from .classify import ClassifyLoss
from .common import LossGains, LossSettings, Parts, TaskLoss
from .detect import DetectLoss
from .entropy import balanced_weights
from .obb import OrientedLoss
from .pose import PoseLoss
from .segment import SegmentLoss

__all__ = ["LOSSES", "LossGains", "LossSettings", "Parts", "TaskLoss", "class_weights", "make_loss"]

LOSSES: dict[Task, Callable[[LossSettings], TaskLoss]] = {
    "detect": DetectLoss,
    "segment": SegmentLoss,
    "classify": ClassifyLoss,
    "pose": PoseLoss,
    "obb": OrientedLoss,
}

# Settings that not every loss can do something with, and why not.
_SPECIAL: dict[str, tuple[Callable[[LossSettings], object], str]] = {
    "iou": (lambda settings: settings.iou, "its overlap is not that of upright boxes"),
    "label_smoothing": (lambda settings: settings.label_smoothing, "its targets are soft by themselves"),
    "gains.f1": (lambda settings: settings.gains.f1, "it has no classes of whole pictures"),
}


def make_loss(task: Task, settings: LossSettings) -> TaskLoss:
    """Return the loss of a task.

    Raises:
        InputError: If it can do nothing with a setting that is not as it is by default.
    """
    loss = LOSSES[task](settings)
    for name, (value, why) in _SPECIAL.items():
        if name not in loss.uses and value(settings) != value(LossSettings()):
            raise InputError(f"{name} is {value(settings)} and the task is {task}: {why}", remedy=f"leave {name} out")
    return loss


def class_weights(
    wanted: Sequence[float] | Literal["balanced"] | None, counts: Sequence[int]
) -> tuple[float, ...] | None:
    """Return what an object of each class weighs.

    Args:
        wanted: The weights; or ``balanced``: against the share of each class.
        counts: Labelled objects of each class.

    Raises:
        InputError: If there are not as many weights as classes.
    """
    if wanted is None or wanted == "balanced":
        return None if wanted is None else balanced_weights(counts)
    if len(wanted) != len(counts):
        raise InputError(
            f"there are {len(wanted)} class_weights", expected=f"one for each of the {len(counts)} classes, or balanced"
        )
    return tuple(float(weight) for weight in wanted)
