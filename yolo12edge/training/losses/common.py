"""What the losses of all tasks share: their settings, their parts, and how one is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ...data.loader import Batch
from ...keypoints import KeypointSpec
from ...nn import HeadOutput

__all__ = ["LossGains", "LossSettings", "Parts", "TaskLoss", "in_full_precision"]

Parts = dict[str, Tensor]
"""Weighted parts of a loss, scalars by name; the loss is their sum."""


@dataclass(frozen=True, slots=True)
class LossGains:
    """Weights of the parts.

    Attributes:
        box: Overlap of boxes; of masks, too.
        cls: Classes of candidates.
        dfl: Distribution of distances to the sides.
        keypoint: Places of keypoints.
        visibility: Whether keypoints are visible.
        f1: Soft F1 of the classes of pictures; classify only, and 0 leaves it out.
    """

    box: float = 7.5
    cls: float = 0.5
    dfl: float = 1.5
    keypoint: float = 12.0
    visibility: float = 1.0
    f1: float = 0.0


@dataclass(frozen=True, slots=True)
class LossSettings:
    """All that a loss may depend on, beside outputs and labels.

    Attributes:
        gains: Weights of the parts.
        keypoints: What the points are; pose only.
        multi_label: Whether the classes of a picture do not exclude each other; classify only.
        label_smoothing: Share of the truth that is spread over all classes; classify only.
        iou: How the overlap of upright boxes is measured: a key of ``OVERLAPS``.
        focal: Exponent of the focal class loss; 0 is plain cross entropy.
        class_weights: What an object of each class weighs in the class loss; None weighs all alike.
    """

    gains: LossGains = field(default_factory=LossGains)
    keypoints: KeypointSpec | None = None
    multi_label: bool = False
    label_smoothing: float = 0.0
    iou: str = "ciou"
    focal: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def weights_like(self, tensor: Tensor) -> Tensor | None:
        """Return the weights of the classes, (classes,), of the type and on the device of a tensor."""
        return None if self.class_weights is None else tensor.new_tensor(self.class_weights)


class TaskLoss(Protocol):
    """The loss of one task."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what it returns, in a fixed order."""
        ...

    @property
    def summed(self) -> bool:
        """Whether the recipe's learning rates are made for the sum over a step's images; else for their mean."""
        ...

    @property
    def uses(self) -> frozenset[str]:
        """Which of ``iou``, ``label_smoothing`` and ``gains.f1``, which not every loss has a use for, it can use."""
        ...

    def __call__(self, output: Any, batch: Batch) -> Parts:
        """Return the weighted parts, each a mean that does not grow with the batch.

        Args:
            output: What the network gives in training: ``HeadOutput``, or logits (B, classes) of classify.
            batch: The B pictures and what is labelled in them.
        """
        ...


def in_full_precision(output: HeadOutput) -> HeadOutput:
    """Return the output in float32 or better: half precision is too coarse for the losses."""
    dtype = torch.promote_types(output.box.dtype, torch.float32)
    changed = {name: value.to(dtype) for name, value in output._asdict().items() if value is not None}
    return output._replace(**changed)
