"""``HeadOutput``: what the heads with candidates return, and where those candidates lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import REG_MAX, STRIDES

__all__ = ["HeadOutput", "anchor_grid", "decode_boxes", "expected_distances"]


class HeadOutput(NamedTuple):
    """Raw output for a batch of B images with A candidates each.

    Attributes:
        box: (B, 64, A), DFL logits: left, top, right, bottom with 16 bins each.
        cls: (B, classes, A), class logits.
        anchors: (A, 2), cell centres x, y in units of the candidate's stride.
        strides: (A,), stride of each candidate in pixels.
        branch: (B, rows, A), the task's own: mask coefficients, keypoints or the angle, not decoded.
        prototypes: (B, 32, H / 4, W / 4), what mask coefficients are mixed of; segment only.
    """

    box: Tensor
    cls: Tensor
    anchors: Tensor
    strides: Tensor
    branch: Tensor | None = None
    prototypes: Tensor | None = None


def anchor_grid(
    sizes: Sequence[tuple[int, int]], *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return cell centres (A, 2) in cells and strides (A,) in pixels.

    Args:
        sizes: Height and width of the feature map at each stride.
        device: Where to put them.
        dtype: Their type.
    """
    anchors, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES, strict=True):
        x = torch.arange(width, device=device, dtype=dtype) + 0.5
        y = torch.arange(height, device=device, dtype=dtype) + 0.5
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        anchors.append(torch.stack((grid_x, grid_y), -1).view(-1, 2))
        strides.append(torch.full((height * width,), stride, device=device, dtype=dtype))
    return torch.cat(anchors), torch.cat(strides)


def expected_distances(box: Tensor, bins: Tensor) -> Tensor:
    """Turn DFL logits into expected distances (Li et al., arXiv 2006.04388).

    Args:
        box: (B, 64, A) logits.
        bins: (16,), the values 0..15.

    Returns:
        (B, 4, A): left, top, right, bottom in units of the stride.
    """
    batch, _, count = box.shape
    probability = box.view(batch, 4, REG_MAX, count).softmax(2)
    return (probability * bins.view(1, 1, REG_MAX, 1)).sum(2)


def decode_boxes(output: HeadOutput, bins: Tensor) -> Tensor:
    """Decode raw boxes.

    Args:
        output: Raw head output.
        bins: (16,), distances of the DFL bins.

    Returns:
        (B, 4, A): left, top, right, bottom in pixels of the network input.
    """
    left_top, right_bottom = expected_distances(output.box, bins).chunk(2, 1)
    centre = output.anchors.t().unsqueeze(0)
    return torch.cat((centre - left_top, centre + right_bottom), 1) * output.strides
