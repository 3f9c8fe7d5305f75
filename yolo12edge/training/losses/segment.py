"""The loss of masks: boxes as detect learns them, and binary cross entropy of each mask within its box."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ...data.loader import Batch
from ...nn import HeadOutput
from ..assigner import Assignment
from ..collectives import shared_divisor
from .common import LossSettings, Parts, in_full_precision
from .detect import box_parts, match_boxes

__all__ = ["SegmentLoss", "mask_part"]


class SegmentLoss:
    """Loss of a batch of instance masks.

    Args:
        settings: Gains; that of masks is ``box``.
    """

    parts: ClassVar[tuple[str, ...]] = ("box", "cls", "dfl", "mask")
    summed: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"iou"})

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings

    def __call__(self, output: HeadOutput, batch: Batch) -> Parts:
        """Compute the parts; see ``TaskLoss``."""
        output = in_full_precision(output)
        assert output.branch is not None
        assert output.prototypes is not None
        assert batch.masks is not None
        matched = match_boxes(output, batch)
        mask = mask_part(output.branch, output.prototypes, matched.positives, batch)
        return {**box_parts(output, batch, matched, self.settings), "mask": mask * self.settings.gains.box}


def mask_part(coefficients: Tensor, prototypes: Tensor, positives: Assignment, batch: Batch) -> Tensor:
    """Return the mean over positives of the cross entropy within the object's box, by the area of the box.

    Masks are computed within the boxes only, which is all that counts: the work follows the objects' areas, not their
    number times that of the picture.

    Args:
        coefficients: (B, 32, A).
        prototypes: (B, 32, h, w).
        positives: P candidates.
        batch: The images' objects and their masks (B, h, w).
    """
    assert batch.masks is not None
    count = shared_divisor(len(positives.target), prototypes)
    if not len(positives.target):
        return (coefficients.sum() + prototypes.sum()) * 0
    height, width = prototypes.shape[2:]
    order = positives.target.argsort(stable=True)
    targets, counts = torch.unique_consecutive(positives.target[order], return_counts=True)
    boxes = batch.boxes[targets].to(prototypes.dtype) * (width / batch.images.shape[3])
    # Pixel i counts as inside where left <= i < right.
    corners = boxes.ceil().long().clamp(min=0)
    crops = torch.minimum(corners, corners.new_tensor([width, height, width, height]))
    image = batch.image_index[targets]
    first = torch.searchsorted(batch.image_index, image)
    number = targets - first + 1  # of the object in its image's mask
    chosen = torch.split(coefficients[positives.image[order], :, positives.candidate[order]], counts.tolist())

    logits, truths, sizes = [], [], []
    planes, masks = prototypes.unbind(), batch.masks.unbind()
    objects = zip(chosen, image.tolist(), number.tolist(), crops.tolist(), strict=True)
    with torch.autocast(prototypes.device.type, enabled=False):
        for mine, index, own, (left, top, right, bottom) in objects:
            pixels = planes[index][:, top:bottom, left:right].flatten(1)
            truth = masks[index][top:bottom, left:right].flatten() == own
            logits.append((mine @ pixels).flatten())
            truths.append(truth.repeat(len(mine)))
            sizes.append(len(logits[-1]))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    weight = torch.repeat_interleave(1 / areas, torch.tensor(sizes, device=areas.device))
    truth = torch.cat(truths).to(prototypes.dtype)
    entropy = F.binary_cross_entropy_with_logits(torch.cat(logits), truth, weight, reduction="sum")
    return entropy / count
