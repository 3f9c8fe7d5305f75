"""``ModelConfig``: the few numbers that fix a YOLO12 network, and what tasks differ in beside their heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InputError
from ..keypoints import KeypointSpec
from ..manifest import TASKS, Task

__all__ = [
    "HEAD_DIM",
    "PROTOTYPES",
    "REG_MAX",
    "SCALES",
    "STRIDES",
    "TRAITS",
    "VARIANTS",
    "ModelConfig",
    "Scale",
    "Traits",
    "scale_channels",
]

STRIDES = (8, 16, 32)
REG_MAX = 16
PROTOTYPES = 32
HEAD_DIM = 32
VARIANTS = ("v1", "turbo")


class Scale(NamedTuple):
    """Multipliers of one scale: repeats by ``depth``, channels by ``width`` up to ``max_channels``."""

    depth: float
    width: float
    max_channels: int


SCALES = {
    "n": Scale(0.50, 0.25, 1024),
    "s": Scale(0.50, 0.50, 1024),
    "m": Scale(0.50, 1.00, 512),
    "l": Scale(1.00, 1.00, 512),
    "x": Scale(1.00, 1.50, 512),
}


class Traits(NamedTuple):
    """What public models of a task have in common, beside the head itself.

    Attributes:
        head: Index of the head's layer; 9 means that it follows the backbone, without a neck.
        bn_eps: Epsilon of the batch norms.
        bn_momentum: Their momentum in training.
        image_size: Side of the input in pixels.
    """

    head: int = 21
    bn_eps: float = 1e-3
    bn_momentum: float = 0.03
    image_size: int = 640


TRAITS: dict[Task, Traits] = {
    "detect": Traits(),
    "segment": Traits(),
    "classify": Traits(head=9, bn_eps=1e-5, bn_momentum=0.1, image_size=224),
    "pose": Traits(),
    "obb": Traits(image_size=1024),
}

# MLP ratio of the attention blocks; the large scales use a slimmer MLP, and the variants differ there.
_MLP_RATIO = {"v1": {"l": 1.2, "x": 1.2}, "turbo": {"l": 1.5, "x": 1.5}}
# Public turbo models of these tasks have the scaled residual at every scale, and classifiers no areas.
_TURBO_WITH_RESIDUAL = ("segment", "classify")
_AREAS = {("classify", "turbo"): (1, 1)}


def scale_channels(channels: int, scale: Scale) -> int:
    """Return the width of a layer at a scale, rounded up to a multiple of 8."""
    scaled = min(channels, scale.max_channels) * scale.width
    return -(-int(scaled) // 8) * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A YOLO12 network. What is not given is as the public models of that task, scale and variant have it.

    Attributes:
        task: What it is made for.
        scale: One of n, s, m, l, x.
        variant: ``v1`` (joint qkv, 7x7 position encoding) or ``turbo`` (qk + v, 5x5, grouped stem).
        num_classes: Number of classes.
        keypoints: The points of an object; given exactly if the task is pose.
        multi_label: Whether classes do not exclude each other; classify only.
        mlp_ratio: Hidden width of the attention MLP over its input.
        residual: Whether R-ELAN blocks with attention have a scaled residual.
        areas: Number of token runs that attention is cut into at P4 and P5. Not visible in the weights.
        bn_eps: Epsilon of every batch norm. Not visible in the weights.

    Raises:
        InputError: If a value is out of its range, or not of the task.
    """

    task: Task = "detect"
    scale: str = "n"
    variant: str = "v1"
    num_classes: int = 80
    keypoints: KeypointSpec | None = None
    multi_label: bool = False
    mlp_ratio: float | None = None
    residual: bool | None = None
    # None here stands for the value that is filled in below; no finished configuration has it.
    areas: tuple[int, int] = None  # type: ignore[assignment]
    bn_eps: float = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"task {self.task!r} is unknown", expected=f"one of {', '.join(TASKS)}")
        if self.scale not in SCALES:
            raise InputError(f"scale {self.scale!r} is unknown", expected=f"one of {', '.join(SCALES)}")
        if self.variant not in VARIANTS:
            raise InputError(f"variant {self.variant!r} is unknown", expected=f"one of {', '.join(VARIANTS)}")
        if self.num_classes < 1:
            raise InputError(f"num_classes is {self.num_classes}", expected="1 or more")
        if (self.keypoints is not None) != (self.task == "pose"):
            raise InputError(
                f"keypoints are {'absent' if self.keypoints is None else 'given'} and the task is {self.task}",
                expected="keypoints for pose, and for no other task",
            )
        if self.multi_label and self.task != "classify":
            raise InputError(f"multi_label is set and the task is {self.task}", expected="the task classify")
        turbo = self.variant == "turbo"
        defaults = {
            "mlp_ratio": _MLP_RATIO[self.variant].get(self.scale, 2.0),
            "residual": self.scale in ("l", "x") or (turbo and self.task in _TURBO_WITH_RESIDUAL),
            "areas": _AREAS.get((self.task, self.variant), (4, 1)),
            "bn_eps": TRAITS[self.task].bn_eps,
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
