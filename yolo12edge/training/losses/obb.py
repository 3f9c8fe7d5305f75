"""The loss of oriented boxes: probabilistic IoU in assignment and loss, distances in the box's own frame."""

from __future__ import annotations

from typing import ClassVar

import torch

from ...data.loader import Batch
from ...nn import HeadOutput
from ...nn.heads import decode_angles, decode_rotated_boxes
from ..rotated import inside_rotated, probabilistic_iou
from .common import LossSettings, Parts, in_full_precision
from .detect import bins_like, match, weighted_parts

__all__ = ["OrientedLoss"]

_LEAST_SIDE = 2.0  # pixels; smaller objects are not learnt


class OrientedLoss:
    """Loss of a batch of oriented boxes.

    Args:
        settings: Gains.
    """

    parts: ClassVar[tuple[str, ...]] = ("box", "cls", "dfl")
    summed: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings

    def __call__(self, output: HeadOutput, batch: Batch) -> Parts:
        """Compute the parts; see ``TaskLoss``."""
        output = in_full_precision(output)
        assert batch.obb is not None
        large = batch.obb[:, 2:4].amin(1) >= _LEAST_SIDE
        class_id = batch.class_id[large]
        angles = decode_angles(output)
        matched = match(
            output,
            torch.cat((decode_rotated_boxes(output, bins_like(output), angles), angles), 1).transpose(1, 2),
            batch.obb[large].to(output.box.dtype),
            batch.image_index[large],
            class_id,
            inside=inside_rotated,
            iou=probabilistic_iou,
        )
        # The recipe's distances are those of the box before it is turned.
        centre, half = matched.target[:, :2], matched.target[:, 2:4] / 2
        sides = torch.cat((centre - half, centre + half), 1)
        iou = probabilistic_iou(matched.predicted, matched.target)
        return weighted_parts(output, class_id, matched, iou, sides, self.settings)
