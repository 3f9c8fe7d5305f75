"""The loss of boxes: CIoU, distribution focal loss and binary cross entropy on soft targets."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...data.loader import Batch
from ...nn import HeadOutput, decode_boxes
from ...nn.config import REG_MAX
from ..assigner import Assignment, assign
from ..boxes import complete_iou, inside_boxes
from .common import LossSettings, Parts, in_full_precision

__all__ = ["DetectLoss", "Matched", "box_parts", "class_part", "distance_part", "match_boxes"]


class Matched(NamedTuple):
    """The positives of a batch, and what is measured on them.

    Attributes:
        positives: P candidates and the object that each learns.
        divisor: Soft number of positives, at least 1.
        predicted: (P, 4), their boxes xyxy in units of their stride.
        target: (P, 4), the boxes of their objects, alike.
        strides: (P, 1), pixels.
    """

    positives: Assignment
    divisor: Tensor
    predicted: Tensor
    target: Tensor
    strides: Tensor


def match_boxes(output: HeadOutput, batch: Batch) -> Matched:
    """Assign candidates to upright boxes by their complete IoU.

    Args:
        output: Raw head output for B images, float32 or better.
        batch: The images' objects.
    """
    boxes = batch.boxes.to(output.box.dtype)
    bins = torch.arange(REG_MAX, dtype=output.box.dtype, device=output.box.device)
    predicted = decode_boxes(output, bins).transpose(1, 2)
    certain = predicted.detach()

    def overlap(image: Tensor, candidate: Tensor, target: Tensor) -> Tensor:
        return complete_iou(certain[image, candidate], boxes[target])

    positives = assign(
        output.cls.detach().sigmoid(),
        partial(inside_boxes, output.anchors * output.strides.unsqueeze(1)),
        boxes,
        overlap,
        batch.image_index,
        batch.class_id,
    )
    strides = output.strides[positives.candidate].unsqueeze(1)
    return Matched(
        positives,
        positives.score.sum().clamp(min=1),
        predicted[positives.image, positives.candidate] / strides,
        boxes[positives.target] / strides,
        strides,
    )


def box_parts(output: HeadOutput, batch: Batch, matched: Matched, settings: LossSettings) -> Parts:
    """Return the parts of every task with upright boxes: ``box``, ``cls`` and ``dfl``."""
    positives, divisor, predicted, target, _ = matched
    gains = settings.gains
    box = ((1 - complete_iou(predicted, target)) * positives.score).sum() / divisor
    return {
        "box": box * gains.box,
        "cls": class_part(output, batch.class_id, positives, divisor) * gains.cls,
        "dfl": distance_part(output, target, positives, divisor) * gains.dfl,
    }


class DetectLoss:
    """Loss of a batch of detections, averaged over the soft number of positives.

    Args:
        settings: Gains.
    """

    parts: ClassVar[tuple[str, ...]] = ("box", "cls", "dfl")
    summed: ClassVar[bool] = True
    smooths: ClassVar[bool] = False

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings

    def __call__(self, output: HeadOutput, batch: Batch) -> Parts:
        """Compute the parts; see ``TaskLoss``."""
        output = in_full_precision(output)
        return box_parts(output, batch, match_boxes(output, batch), self.settings)


def class_part(output: HeadOutput, class_id: Tensor, positives: Assignment, divisor: Tensor) -> Tensor:
    """Return the binary cross entropy of all candidates and classes with their soft targets."""
    targets = torch.zeros_like(output.cls)
    targets[positives.image, class_id[positives.target], positives.candidate] = positives.score.to(targets.dtype)
    return F.binary_cross_entropy_with_logits(output.cls, targets, reduction="sum") / divisor


def distance_part(output: HeadOutput, target: Tensor, positives: Assignment, divisor: Tensor) -> Tensor:
    """Return the distribution focal loss.

    Args:
        output: Raw head output.
        target: (P, 4), what the sides' distances lead to: xyxy in units of the stride.
        positives: The P candidates.
        divisor: Their soft number.
    """
    centre = output.anchors[positives.candidate]
    distances = torch.cat((centre - target[:, :2], target[:, 2:] - centre), 1)
    logits = output.box[positives.image, :, positives.candidate].view(-1, 4, REG_MAX)
    return (distribution_focal_loss(logits, distances).mean(1) * positives.score).sum() / divisor


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
