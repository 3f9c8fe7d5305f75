"""The pose head: a detect head and the keypoints of each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...keypoints import KeypointSpec
from ..config import ModelConfig
from .base import HasShape, size_of
from .detect import Detect, branches, flat
from .output import HeadOutput

__all__ = ["Pose", "decode_keypoints"]


def decode_keypoints(output: HeadOutput, dimensions: int) -> Tensor:
    """Decode raw keypoints.

    Args:
        output: Raw head output; each point is x, y relative to the candidate's cell, and a logit if there are three.
        dimensions: 2 or 3.

    Returns:
        (B, points, dimensions, A): x, y in pixels of the network input and the probability to be visible.
    """
    assert output.branch is not None
    batch, _, count = output.branch.shape
    raw = output.branch.view(batch, -1, dimensions, count)
    place = (2 * raw[:, :, :2] + (output.anchors.t() - 0.5)) * output.strides
    return torch.cat((place, raw[:, :, 2:].sigmoid()), 2)


class Pose(Detect):
    """``Detect`` with keypoints.

    Args:
        channels: Channels of P3, P4, P5.
        num_classes: Number of classes.
        keypoints: The points of an object.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, keypoints: KeypointSpec) -> None:
        super().__init__(channels, num_classes)
        self.dimensions = keypoints.dimensions
        self.cv4 = branches(channels, max(channels[0] // 4, keypoints.rows), keypoints.rows)

    @classmethod
    def build(cls, channels: Sequence[int], config: ModelConfig) -> Pose:
        """See ``Head``."""
        assert config.keypoints is not None
        return cls(channels, config.num_classes, config.keypoints)

    @classmethod
    def claims(cls, tensors: Mapping[str, HasShape]) -> bool:
        """See ``Head``."""
        return "cv4.0.2.weight" in tensors and "proto.cv1.conv.weight" not in tensors and _rows(tensors) != 1

    @classmethod
    def fields(cls, tensors: Mapping[str, HasShape]) -> dict[str, Any]:
        """See ``Head``; three dimensions are assumed where the number of rows allows it, as no shape tells."""
        rows = _rows(tensors)
        dimensions = next((d for d in (3, 2) if rows % d == 0), None)
        if dimensions is None or not 1 <= rows // dimensions <= 1000:
            raise CheckpointError(f"the keypoints have {rows} rows", expected="2 or 3 for each of at most 1000 points")
        return {
            **super().fields(tensors),
            "keypoints": KeypointSpec(count=rows // dimensions, dimensions=dimensions),  # type: ignore[arg-type]
        }

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Map the features of P3, P4, P5 to raw outputs."""
        return super().forward(features)._replace(branch=flat(self.cv4, features))

    def decode(self, output: HeadOutput) -> dict[str, Tensor]:
        """Add ``keypoints`` (B, points * dimensions, A) to those of ``Detect``."""
        return {**super().decode(output), "keypoints": decode_keypoints(output, self.dimensions).flatten(1, 2)}


def _rows(tensors: Mapping[str, HasShape]) -> int:
    return size_of(tensors, "cv4.0.2.weight", 0)
