"""The detect head: boxes and classes; those of segment, pose and obb add a branch to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..blocks import Conv, depthwise
from ..config import REG_MAX, STRIDES, ModelConfig
from .base import HasShape, Head, size_of
from .output import HeadOutput, anchor_grid, decode_boxes

__all__ = ["Detect", "branches", "flat"]


def branches(channels: Sequence[int], hidden: int, rows: int) -> nn.ModuleList:
    """Return a branch for each feature map: two 3x3 convolutions, then a plain 1x1 to ``rows`` channels."""
    return nn.ModuleList(
        nn.Sequential(Conv(c, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, rows, 1)) for c in channels
    )


def flat(parts: nn.ModuleList, features: Sequence[Tensor]) -> Tensor:
    """Run a branch on each feature map; return (B, rows, A), P3 first."""
    return torch.cat([branch(x).flatten(2) for branch, x in zip(parts, features, strict=True)], 2)


class Detect(Head):
    """Decoupled anchor-free head.

    Args:
        channels: Channels of P3, P4, P5.
        num_classes: Number of classes.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("cv3.0.2", "cv3.1.2", "cv3.2.2")

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        box_hidden = max(16, channels[0] // 4, 4 * REG_MAX)
        cls_hidden = max(channels[0], min(num_classes, 100))
        self.cv2 = branches(channels, box_hidden, 4 * REG_MAX)
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

    @classmethod
    def build(cls, channels: Sequence[int], config: ModelConfig) -> Detect:
        """See ``Head``."""
        return cls(channels, config.num_classes)

    @classmethod
    def claims(cls, tensors: Mapping[str, HasShape]) -> bool:
        """See ``Head``."""
        return not any(key.startswith(("cv4.", "proto.", "linear.")) for key in tensors)

    @classmethod
    def fields(cls, tensors: Mapping[str, HasShape]) -> dict[str, Any]:
        """See ``Head``."""
        return {"num_classes": size_of(tensors, "cv3.0.2.weight", 0)}

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
        sizes = [(x.shape[2], x.shape[3]) for x in features]
        # Half precision cannot tell neighbouring cells apart far from the origin.
        dtype = torch.promote_types(features[0].dtype, torch.float32)
        anchors, strides = anchor_grid(sizes, device=features[0].device, dtype=dtype)
        return HeadOutput(flat(self.cv2, features), flat(self.cv3, features), anchors, strides)

    def decode(self, output: HeadOutput) -> dict[str, Tensor]:
        """Return ``boxes`` (B, 4, A), left, top, right, bottom in pixels, and ``scores`` (B, classes, A) in [0, 1]."""
        return {"boxes": decode_boxes(output, self.bins), "scores": output.cls.sigmoid()}
