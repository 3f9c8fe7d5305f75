"""The loss of boxes: overlap, distribution focal loss and binary cross entropy on soft targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ...data.loader import Batch
from ...nn import HeadOutput, decode_boxes
from ...nn.config import REG_MAX
from ..assigner import Assignment, assign
from ..boxes import OVERLAPS, complete_iou, inside_boxes
from ..collectives import shared_divisor
from .common import LossSettings, Parts, in_full_precision
from .entropy import binary_entropy

__all__ = ["DetectLoss", "Matched", "bins_like", "box_parts", "match", "match_boxes", "weighted_parts"]


class Matched(NamedTuple):
    """The positives of a batch, and what is measured on them.

    Attributes:
        positives: P candidates and the object that each learns.
        divisor: Soft number of positives, at least 1; of several processes their share of it.
        predicted: (P, K), their boxes, lengths in units of their stride; K is 4 (xyxy), or 5 where they are oriented.
        target: (P, K), the boxes of their objects, alike.
        strides: (P, 1), pixels.
    """

    positives: Assignment
    divisor: Tensor
    predicted: Tensor
    target: Tensor
    strides: Tensor


def match(
    output: HeadOutput,
    predicted: Tensor,
    boxes: Tensor,
    image_index: Tensor,
    class_id: Tensor,
    *,
    inside: Callable[[Tensor, Tensor], Tensor],
    iou: Callable[[Tensor, Tensor], Tensor],
) -> Matched:
    """Assign candidates to boxes of either kind.

    Args:
        output: Raw head output for B images, float32 or better.
        predicted: (B, A, K), the candidates' boxes, pixels.
        boxes: (G, K), the objects', pixels.
        image_index: (G,), image of each object.
        class_id: (G,), class of each object.
        inside: Which points lie in which boxes, as ``inside_boxes``.
        iou: Overlap of paired boxes.
    """
    certain = predicted.detach()

    def overlap(image: Tensor, candidate: Tensor, target: Tensor) -> Tensor:
        return iou(certain[image, candidate], boxes[target])

    points = output.anchors * output.strides.unsqueeze(1)
    scores = output.cls.detach().sigmoid()
    positives = assign(scores, partial(inside, points), boxes, overlap, image_index, class_id)
    strides = output.strides[positives.candidate].unsqueeze(1)
    return Matched(
        positives,
        shared_divisor(positives.score.sum(), output.cls, least=1),
        _in_strides(predicted[positives.image, positives.candidate], strides),
        _in_strides(boxes[positives.target], strides),
        strides,
    )


def match_boxes(output: HeadOutput, batch: Batch) -> Matched:
    """Assign candidates to upright boxes by their complete IoU.

    Args:
        output: Raw head output for B images, float32 or better.
        batch: The images' objects.
    """
    boxes = batch.boxes.to(output.box.dtype)
    predicted = decode_boxes(output, bins_like(output)).transpose(1, 2)
    return match(output, predicted, boxes, batch.image_index, batch.class_id, inside=inside_boxes, iou=complete_iou)


def box_parts(output: HeadOutput, batch: Batch, matched: Matched, settings: LossSettings) -> Parts:
    """Return the parts of every task with upright boxes: ``box``, ``cls`` and ``dfl``."""
    iou = OVERLAPS[settings.iou](matched.predicted, matched.target)
    return weighted_parts(output, batch.class_id, matched, iou, matched.target, settings)


def weighted_parts(
    output: HeadOutput, class_id: Tensor, matched: Matched, iou: Tensor, sides: Tensor, settings: LossSettings
) -> Parts:
    """Return ``box``, ``cls`` and ``dfl`` of boxes of either kind.

    Args:
        output: Raw head output.
        class_id: (G,), class of each object.
        matched: The positives.
        iou: (P,), how well their boxes fit.
        sides: (P, 4), what their distances lead to: xyxy in units of the stride.
        settings: Gains, and what the classes are learnt by.
    """
    positives, divisor, gains = matched.positives, matched.divisor, settings.gains
    return {
        "box": ((1 - iou) * positives.score).sum() / divisor * gains.box,
        "cls": class_part(output, class_id, positives, divisor, settings) * gains.cls,
        "dfl": distance_part(output, sides, positives, divisor) * gains.dfl,
    }


def bins_like(output: HeadOutput) -> Tensor:
    """Return the distances that the bins stand for, of the type and on the device of the output."""
    return torch.arange(REG_MAX, dtype=output.box.dtype, device=output.box.device)


def _in_strides(boxes: Tensor, strides: Tensor) -> Tensor:
    """Return boxes (n, 4 or 5) with lengths in units of the stride; an angle stays."""
    return torch.cat((boxes[:, :4] / strides, boxes[:, 4:]), 1)


class DetectLoss:
    """Loss of a batch of detections, averaged over the soft number of positives.

    Args:
        settings: Gains.
    """

    parts: ClassVar[tuple[str, ...]] = ("box", "cls", "dfl")
    summed: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"iou"})

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings

    def __call__(self, output: HeadOutput, batch: Batch) -> Parts:
        """Compute the parts; see ``TaskLoss``."""
        output = in_full_precision(output)
        return box_parts(output, batch, match_boxes(output, batch), self.settings)


def class_part(
    output: HeadOutput, class_id: Tensor, positives: Assignment, divisor: Tensor, settings: LossSettings
) -> Tensor:
    """Return the binary cross entropy of all candidates and classes with their soft targets."""
    targets = torch.zeros_like(output.cls)
    targets[positives.image, class_id[positives.target], positives.candidate] = positives.score.to(targets.dtype)
    weights = settings.weights_like(output.cls)
    weights = None if weights is None else weights.unsqueeze(1)
    return binary_entropy(output.cls, targets, focal=settings.focal, weights=weights).sum() / divisor


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
