"""The classify head: global mean of the backbone's last map, and one linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ..blocks import Conv
from ..config import ModelConfig
from .base import HasShape, Head, size_of

__all__ = ["Classify"]

_HIDDEN = 1280


class Classify(Head):
    """Class logits of the whole picture.

    Args:
        c_in: Channels of the last map.
        num_classes: Number of classes.
        multi_label: Whether classes do not exclude each other.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("linear",)

    def __init__(self, c_in: int, num_classes: int, *, multi_label: bool) -> None:
        super().__init__()
        self.conv = Conv(c_in, _HIDDEN)
        self.linear = nn.Linear(_HIDDEN, num_classes)
        self.multi_label = multi_label

    @classmethod
    def build(cls, channels: Sequence[int], config: ModelConfig) -> Classify:
        """See ``Head``."""
        return cls(channels[-1], config.num_classes, multi_label=config.multi_label)

    @classmethod
    def claims(cls, tensors: Mapping[str, HasShape]) -> bool:
        """See ``Head``."""
        return "linear.weight" in tensors

    @classmethod
    def fields(cls, tensors: Mapping[str, HasShape]) -> dict[str, Any]:
        """See ``Head``."""
        return {"num_classes": size_of(tensors, "linear.weight", 0)}

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the last feature map to logits (B, classes)."""
        logits: Tensor = self.linear(self.conv(features[-1]).mean((2, 3)))
        return logits

    def decode(self, output: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities`` (B, classes)."""
        return {"probabilities": output.sigmoid() if self.multi_label else output.softmax(1)}
