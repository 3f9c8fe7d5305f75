"""The loss of keypoints: boxes as detect learns them, object keypoint similarity and visibility."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ...data.loader import Batch
from ...nn import HeadOutput
from ..collectives import shared_divisor
from .common import LossSettings, Parts, in_full_precision
from .detect import Matched, box_parts, match_boxes

__all__ = ["PoseLoss", "keypoint_parts"]

_EPS = 1e-9


class PoseLoss:
    """Loss of a batch of poses.

    Args:
        settings: Gains, and what the points are.
    """

    parts: ClassVar[tuple[str, ...]] = ("box", "cls", "dfl", "keypoint", "visibility")
    summed: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"iou"})

    def __init__(self, settings: LossSettings) -> None:
        assert settings.keypoints is not None
        self.settings = settings
        self.dimensions = settings.keypoints.dimensions
        self.sigmas = torch.from_numpy(settings.keypoints.sigmas)

    def __call__(self, output: HeadOutput, batch: Batch) -> Parts:
        """Compute the parts; see ``TaskLoss``."""
        output = in_full_precision(output)
        matched = match_boxes(output, batch)
        place, visibility = keypoint_parts(output, batch, matched, self.sigmas, self.dimensions)
        gains = self.settings.gains
        return {
            **box_parts(output, batch, matched, self.settings),
            "keypoint": place * gains.keypoint,
            "visibility": visibility * gains.visibility,
        }


def keypoint_parts(
    output: HeadOutput, batch: Batch, matched: Matched, sigmas: Tensor, dimensions: int
) -> tuple[Tensor, Tensor]:
    """Return 1 - OKS and the cross entropy of visibility (0 for points of 2 dimensions), means over the positives.

    Args:
        output: Raw head output.
        batch: The images' objects and their keypoints.
        matched: P positives.
        sigmas: (K,), tolerance of each point over the object's size.
        dimensions: Numbers a point in the output.
    """
    assert output.branch is not None
    assert batch.keypoints is not None
    positives = matched.positives
    count = shared_divisor(len(positives.target), output.branch)
    if not len(positives.target):
        return output.branch.sum() * 0, output.branch.sum() * 0
    raw = output.branch[positives.image, :, positives.candidate].view(-1, len(sigmas), dimensions)
    truth = batch.keypoints[positives.target].to(raw.dtype)
    # In units of the stride, where cell i has its centre at i + 0.5.
    predicted = raw[..., :2] * 2 + (output.anchors[positives.candidate] - 0.5).unsqueeze(1)
    distance = (predicted - truth[..., :2] / matched.strides.unsqueeze(1)).square().sum(2)
    labelled = (truth[..., 2] > 0).to(raw.dtype)
    area = (matched.target[:, 2:] - matched.target[:, :2]).prod(1).unsqueeze(1)
    variance = (2 * sigmas.to(raw)).square()
    similarity = torch.exp(-distance / (2 * variance * (area + _EPS)))
    factor = len(sigmas) / (labelled.sum(1, keepdim=True) + _EPS)  # a mean over the labelled points
    share = len(positives.target) / count  # of the positives of all processes
    place = (factor * (1 - similarity) * labelled).mean() * share
    if dimensions == 2:
        return place, place.new_zeros(())
    return place, F.binary_cross_entropy_with_logits(raw[..., 2], labelled) * share
