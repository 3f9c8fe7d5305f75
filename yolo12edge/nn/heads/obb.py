"""The head for oriented boxes: a detect head and the angle of each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi

import torch
from torch import Tensor

from ..config import ModelConfig
from .base import HasShape, size_of
from .detect import Detect, branches, flat
from .output import HeadOutput, expected_distances

__all__ = ["Obb", "decode_angles", "decode_rotated_boxes"]


def decode_angles(output: HeadOutput) -> Tensor:
    """Return angles (B, 1, A) from the x axis to the width, clockwise in the picture, in [-pi/4, 3pi/4)."""
    assert output.branch is not None
    return (output.branch.sigmoid() - 0.25) * pi


def decode_rotated_boxes(output: HeadOutput, bins: Tensor, angles: Tensor) -> Tensor:
    """Decode oriented boxes: the distances of DFL are measured along the box's own axes.

    Args:
        output: Raw head output.
        bins: (16,), distances of the DFL bins.
        angles: (B, 1, A), radians.

    Returns:
        (B, 4, A): centre x, centre y, width, height in pixels of the network input.
    """
    left_top, right_bottom = expected_distances(output.box, bins).chunk(2, 1)
    x, y = ((right_bottom - left_top) / 2).chunk(2, 1)
    cos, sin = angles.cos(), angles.sin()
    centre = torch.cat((x * cos - y * sin, x * sin + y * cos), 1) + output.anchors.t()
    return torch.cat((centre, left_top + right_bottom), 1) * output.strides


class Obb(Detect):
    """``Detect`` with an angle.

    Args:
        channels: Channels of P3, P4, P5.
        num_classes: Number of classes.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__(channels, num_classes)
        self.cv4 = branches(channels, max(channels[0] // 4, 1), 1)

    @classmethod
    def build(cls, channels: Sequence[int], config: ModelConfig) -> Obb:
        """See ``Head``."""
        return cls(channels, config.num_classes)

    @classmethod
    def claims(cls, tensors: Mapping[str, HasShape]) -> bool:
        """See ``Head``."""
        angle = "cv4.0.2.weight"
        return angle in tensors and "proto.cv1.conv.weight" not in tensors and size_of(tensors, angle, 0) == 1

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Map the features of P3, P4, P5 to raw outputs."""
        return super().forward(features)._replace(branch=flat(self.cv4, features))

    def decode(self, output: HeadOutput) -> dict[str, Tensor]:
        """Return ``rotated_boxes`` (B, 4, A), ``angles`` (B, 1, A) and ``scores`` (B, classes, A)."""
        angles = decode_angles(output)
        boxes = decode_rotated_boxes(output, self.bins, angles)
        return {"rotated_boxes": boxes, "angles": angles, "scores": output.cls.sigmoid()}
