"""The segment head: a detect head, mask coefficients for each candidate, and the prototypes they mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..blocks import Conv
from ..config import PROTOTYPES, SCALES, ModelConfig, scale_channels
from .base import HasShape
from .detect import Detect, branches, flat
from .output import HeadOutput

__all__ = ["Prototypes", "Segment"]


class Prototypes(nn.Module):
    """Maps of P3 at twice its size (Bolya et al., arXiv 1904.02689).

    Args:
        c_in: Channels of P3.
        hidden: Channels inside.
    """

    def __init__(self, c_in: int, hidden: int) -> None:
        super().__init__()
        self.cv1 = Conv(c_in, hidden, 3)
        self.upsample = nn.ConvTranspose2d(hidden, hidden, 2, 2)
        self.cv2 = Conv(hidden, hidden, 3)
        self.cv3 = Conv(hidden, PROTOTYPES)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, H, W) to (B, 32, 2 H, 2 W)."""
        out: Tensor = self.cv3(self.cv2(self.upsample(self.cv1(x))))
        return out


class Segment(Detect):
    """``Detect`` with 32 mask coefficients a candidate.

    Args:
        channels: Channels of P3, P4, P5.
        num_classes: Number of classes.
        prototype_channels: Channels inside ``Prototypes``.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, prototype_channels: int) -> None:
        super().__init__(channels, num_classes)
        self.proto = Prototypes(channels[0], prototype_channels)
        self.cv4 = branches(channels, max(channels[0] // 4, PROTOTYPES), PROTOTYPES)

    @classmethod
    def build(cls, channels: Sequence[int], config: ModelConfig) -> Segment:
        """See ``Head``."""
        return cls(channels, config.num_classes, scale_channels(256, SCALES[config.scale]))

    @classmethod
    def claims(cls, tensors: Mapping[str, HasShape]) -> bool:
        """See ``Head``."""
        return any(key.startswith("proto.") for key in tensors)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Map the features of P3, P4, P5 to raw outputs."""
        return super().forward(features)._replace(branch=flat(self.cv4, features), prototypes=self.proto(features[0]))

    def decode(self, output: HeadOutput) -> dict[str, Tensor]:
        """Add ``coefficients`` (B, 32, A) and ``prototypes`` (B, 32, H / 4, W / 4) to those of ``Detect``."""
        assert output.branch is not None
        assert output.prototypes is not None
        return {**super().decode(output), "coefficients": output.branch, "prototypes": output.prototypes}
