"""The detection loss: CIoU, distribution focal loss and binary cross entropy on soft targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..nn import HeadOutput, decode_boxes
from ..nn.config import REG_MAX
from .assigner import assign
from .boxes import complete_iou

__all__ = ["DetectionLoss", "LossGains", "LossParts"]


@dataclass(frozen=True, slots=True)
class LossGains:
    """Weights of the three parts."""

    box: float = 7.5
    cls: float = 0.5
    dfl: float = 1.5


class LossParts(NamedTuple):
    """Weighted parts of the loss, scalars; ``total`` is their sum."""

    box: Tensor
    cls: Tensor
    dfl: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of the parts."""
        return self.box + self.cls + self.dfl


class DetectionLoss:
    """Loss of a batch of detections, averaged over the soft number of positives.

    Args:
        gains: Weights of the parts.
    """

    def __init__(self, gains: LossGains | None = None) -> None:
        self.gains = gains or LossGains()
        self.bins = torch.arange(REG_MAX, dtype=torch.float32)

    def __call__(self, output: HeadOutput, image_index: Tensor, class_id: Tensor, boxes: Tensor) -> LossParts:
        """Compute the loss.

        Args:
            output: Raw head output for B images.
            image_index: (G,), image of each object, int64.
            class_id: (G,), class of each object, int64.
            boxes: (G, 4), xyxy in pixels of the network input.

        Returns:
            The weighted parts.
        """
        dtype = torch.promote_types(output.box.dtype, torch.float32)  # half precision is too coarse for the losses
        output = HeadOutput(*(tensor.to(dtype) for tensor in output))
        boxes = boxes.to(dtype)
        bins = self.bins.to(output.box)
        predicted = decode_boxes(output, bins).transpose(1, 2)
        positives = assign(
            output.cls.detach().sigmoid(),
            predicted.detach(),
            output.anchors * output.strides.unsqueeze(1),
            image_index,
            class_id,
            boxes,
        )
        divisor = positives.score.sum().clamp(min=1)

        targets = torch.zeros_like(output.cls)
        targets[positives.image, class_id[positives.target], positives.candidate] = positives.score
        cls = F.binary_cross_entropy_with_logits(output.cls, targets, reduction="sum") / divisor

        strides = output.strides[positives.candidate].unsqueeze(1)
        target_boxes = boxes[positives.target] / strides
        chosen = predicted[positives.image, positives.candidate] / strides
        box = ((1 - complete_iou(chosen, target_boxes)) * positives.score).sum() / divisor

        centre = output.anchors[positives.candidate]
        distances = torch.cat((centre - target_boxes[:, :2], target_boxes[:, 2:] - centre), 1)
        logits = output.box[positives.image, :, positives.candidate].view(-1, 4, REG_MAX)
        dfl = (distribution_focal_loss(logits, distances).mean(1) * positives.score).sum() / divisor
        return LossParts(box * self.gains.box, cls * self.gains.cls, dfl * self.gains.dfl)


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross entropy with the two bins around each distance (Li et al., arXiv 2006.04388).

    Args:
        logits: (P, 4, 16).
        distances: (P, 4), in units of the stride; clipped to what the bins can express.

    Returns:
        (P, 4).
    """
    distances = distances.clamp(0, REG_MAX - 1 - 0.01)
    lower = distances.long()
    weight = distances - lower
    log_probability = logits.log_softmax(2)
    at_lower = log_probability.gather(2, lower.unsqueeze(2)).squeeze(2)
    at_upper = log_probability.gather(2, lower.unsqueeze(2) + 1).squeeze(2)
    return -(at_lower * (1 - weight) + at_upper * weight)
