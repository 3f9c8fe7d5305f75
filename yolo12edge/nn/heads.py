"""The detect head and its raw output."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .blocks import Conv, depthwise
from .config import REG_MAX, STRIDES

__all__ = ["Detect", "HeadOutput", "anchor_grid", "expected_distances"]


class HeadOutput(NamedTuple):
    """Raw output of the detect head for a batch of B images with A candidates each.

    Attributes:
        box: (B, 64, A), DFL logits: left, top, right, bottom with 16 bins each.
        cls: (B, classes, A), class logits.
        anchors: (A, 2), cell centres x, y in units of the candidate's stride.
        strides: (A,), stride of each candidate in pixels.
    """

    box: Tensor
    cls: Tensor
    anchors: Tensor
    strides: Tensor


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


class Detect(nn.Module):
    """Decoupled anchor-free head.

    Args:
        channels: Channels of P3, P4, P5.
        num_classes: Number of classes.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        box_hidden = max(16, channels[0] // 4, 4 * REG_MAX)
        cls_hidden = max(channels[0], min(num_classes, 100))
        self.cv2 = nn.ModuleList(
            nn.Sequential(
                Conv(c, box_hidden, 3), Conv(box_hidden, box_hidden, 3), nn.Conv2d(box_hidden, 4 * REG_MAX, 1)
            )
            for c in channels
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(depthwise(c, c, 3), Conv(c, cls_hidden)),
                nn.Sequential(depthwise(cls_hidden, cls_hidden, 3), Conv(cls_hidden, cls_hidden)),
                nn.Conv2d(cls_hidden, num_classes, 1),
            )
            for c in channels
        )
        self.dfl = nn.Module()  # keeps the public key `dfl.conv.weight`, a frozen 0..15
        self.dfl.conv = nn.Conv2d(REG_MAX, 1, 1, bias=False).requires_grad_(False)
        self.dfl.conv.weight.data[:] = torch.arange(REG_MAX, dtype=torch.float32).view(1, REG_MAX, 1, 1)
        self.reset_bias(num_classes)

    def reset_bias(self, num_classes: int) -> None:
        """Set the output biases so that an untrained head predicts a few objects per image."""
        for box, cls, stride in zip(self.cv2, self.cv3, STRIDES, strict=True):
            nn.init.constant_(box[-1].bias, 2.0)  # type: ignore[index]
            nn.init.constant_(cls[-1].bias, log(5 / num_classes / (640 / stride) ** 2))  # type: ignore[index]

    @property
    def bins(self) -> Tensor:
        """The 16 distances that the DFL bins stand for."""
        weight: Tensor = self.dfl.conv.weight  # type: ignore[union-attr,assignment]
        return weight.view(-1)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Map the features of P3, P4, P5 to raw outputs."""
        boxes = [branch(x) for branch, x in zip(self.cv2, features, strict=True)]
        scores = [branch(x) for branch, x in zip(self.cv3, features, strict=True)]
        sizes = [(x.shape[2], x.shape[3]) for x in features]
        # Half precision cannot tell neighbouring cells apart far from the origin.
        dtype = torch.promote_types(features[0].dtype, torch.float32)
        anchors, strides = anchor_grid(sizes, device=features[0].device, dtype=dtype)
        return HeadOutput(
            torch.cat([b.flatten(2) for b in boxes], 2),
            torch.cat([s.flatten(2) for s in scores], 2),
            anchors,
            strides,
        )
