"""The loss of oriented boxes: probabilistic IoU in assignment and loss, distances in the box's own frame."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ...data.loader import Batch
from ...nn import HeadOutput
from ...nn.config import REG_MAX
from ...nn.heads import decode_angles, decode_rotated_boxes
from ..assigner import assign
from ..rotated import inside_rotated, probabilistic_iou
from .common import LossSettings, Parts, in_full_precision
from .detect import class_part, distance_part

__all__ = ["OrientedLoss"]

_LEAST_SIDE = 2.0  # pixels; smaller objects are not learnt


class OrientedLoss:
    """Loss of a batch of oriented boxes.

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
        assert batch.obb is not None
        large = batch.obb[:, 2:4].amin(1) >= _LEAST_SIDE
        boxes = batch.obb[large].to(output.box.dtype)
        class_id = batch.class_id[large]
        bins = torch.arange(REG_MAX, dtype=output.box.dtype, device=output.box.device)
        angles = decode_angles(output)
        predicted = torch.cat((decode_rotated_boxes(output, bins, angles), angles), 1).transpose(1, 2)
        certain = predicted.detach()

        def overlap(image: Tensor, candidate: Tensor, target: Tensor) -> Tensor:
            return probabilistic_iou(certain[image, candidate], boxes[target])

        positives = assign(
            output.cls.detach().sigmoid(),
            partial(inside_rotated, output.anchors * output.strides.unsqueeze(1)),
            boxes,
            overlap,
            batch.image_index[large],
            class_id,
        )
        divisor = positives.score.sum().clamp(min=1)
        strides = output.strides[positives.candidate].unsqueeze(1)
        target = boxes[positives.target]
        iou = probabilistic_iou(
            _scaled(predicted[positives.image, positives.candidate], strides), _scaled(target, strides)
        )
        # The recipe's distances are those of the box before it is turned.
        centre, half = target[:, :2] / strides, target[:, 2:4] / strides / 2
        sides = torch.cat((centre - half, centre + half), 1)
        gains = self.settings.gains
        return {
            "box": ((1 - iou) * positives.score).sum() / divisor * gains.box,
            "cls": class_part(output, class_id, positives, divisor) * gains.cls,
            "dfl": distance_part(output, sides, positives, divisor) * gains.dfl,
        }


def _scaled(boxes: Tensor, strides: Tensor) -> Tensor:
    """Return boxes (n, 5) in units of the stride."""
    return torch.cat((boxes[:, :4] / strides, boxes[:, 4:]), 1)
