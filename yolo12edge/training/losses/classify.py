"""The loss of classes of whole pictures: cross entropy, or binary cross entropy where classes may go together."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...data.loader import Batch
from .common import LossSettings, Parts
from .entropy import binary_entropy, categorical_entropy, soft_f1_loss

__all__ = ["ClassifyLoss"]


class ClassifyLoss:
    """Mean loss of a batch of pictures.

    Args:
        settings: Whether classes exclude each other, smoothing, focus and weights; the gain of soft F1.
    """

    summed: ClassVar[bool] = False
    uses: ClassVar[frozenset[str]] = frozenset({"label_smoothing", "gains.f1"})

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings
        self.parts = ("cls", "f1") if settings.gains.f1 else ("cls",)

    def __call__(self, output: Tensor, batch: Batch) -> Parts:
        """Compute the parts; that of F1 is there only if it has a gain.

        Args:
            output: (B, classes), logits.
            batch: The pictures and their classes: exactly one each, or any number for multi-label.
        """
        settings = self.settings
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        truth = torch.zeros_like(logits)
        truth[batch.image_index, batch.class_id] = 1
        smoothing, weights = settings.label_smoothing, settings.weights_like(logits)
        if settings.multi_label:
            smooth = truth * (1 - smoothing) + smoothing / 2
            loss = binary_entropy(logits, smooth, focal=settings.focal, weights=weights).mean()
        else:
            smooth = truth * (1 - smoothing) + smoothing / logits.shape[1]
            loss = categorical_entropy(logits, smooth, focal=settings.focal, weights=weights).mean()
        if not settings.gains.f1:
            return {"cls": loss}
        probability = logits.sigmoid() if settings.multi_label else logits.softmax(1)
        return {"cls": loss, "f1": soft_f1_loss(probability, truth) * settings.gains.f1}
