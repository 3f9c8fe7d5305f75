"""The loss of classes of whole pictures: cross entropy, or binary cross entropy where classes may go together."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ...data.loader import Batch
from .common import LossSettings, Parts

__all__ = ["ClassifyLoss"]


class ClassifyLoss:
    """Mean loss of a batch of pictures.

    Args:
        settings: Whether classes exclude each other, and smoothing.
    """

    parts: ClassVar[tuple[str, ...]] = ("cls",)
    summed: ClassVar[bool] = False
    smooths: ClassVar[bool] = True

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings

    def __call__(self, output: Tensor, batch: Batch) -> Parts:
        """Compute the one part.

        Args:
            output: (B, classes), logits.
            batch: The pictures and their classes: exactly one each, or any number for multi-label.
        """
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        truth = torch.zeros_like(logits)
        truth[batch.image_index, batch.class_id] = 1
        smoothing = self.settings.label_smoothing
        if self.settings.multi_label:
            loss = F.binary_cross_entropy_with_logits(logits, truth * (1 - smoothing) + smoothing / 2)
        else:
            loss = F.cross_entropy(logits, truth, label_smoothing=smoothing)
        return {"cls": loss}
