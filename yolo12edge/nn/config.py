"""``ModelConfig``: the few numbers that fix a YOLO12 network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InputError

__all__ = ["HEAD_DIM", "REG_MAX", "SCALES", "STRIDES", "VARIANTS", "ModelConfig", "Scale", "scale_channels"]

STRIDES = (8, 16, 32)
REG_MAX = 16
HEAD_DIM = 32
VARIANTS = ("v1", "turbo")


class Scale(NamedTuple):
    """Multipliers of one scale: repeats by ``depth``, channels by ``width`` up to ``max_channels``."""

    depth: float
    width: float
    max_channels: int


SCALES = {
    "n": Scale(0.50, 0.25, 1024),
    "s": Scale(0.50, 0.50, 1024),
    "m": Scale(0.50, 1.00, 512),
    "l": Scale(1.00, 1.00, 512),
    "x": Scale(1.00, 1.50, 512),
}

# MLP ratio of the attention blocks; the large scales use a slimmer MLP, and the variants differ there.
_MLP_RATIO = {"v1": {"l": 1.2, "x": 1.2}, "turbo": {"l": 1.5, "x": 1.5}}


def scale_channels(channels: int, scale: Scale) -> int:
    """Return the width of a layer at a scale, rounded up to a multiple of 8."""
    scaled = min(channels, scale.max_channels) * scale.width
    return -(-int(scaled) // 8) * 8


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A YOLO12 detector.

    Attributes:
        scale: One of n, s, m, l, x.
        variant: ``v1`` (joint qkv, 7x7 position encoding) or ``turbo`` (qk + v, 5x5, grouped stem).
        num_classes: Number of classes.
        mlp_ratio: Hidden width of the attention MLP over its input; None means the variant's own.
        residual: Whether R-ELAN blocks with attention have a scaled residual; None means the scale's own.
        areas: Number of token runs that attention is cut into at P4 and P5. Not visible in the weights.
        bn_eps: Epsilon of every batch norm. Not visible in the weights.

    Raises:
        InputError: If a value is out of its range.
    """

    scale: str = "n"
    variant: str = "v1"
    num_classes: int = 80
    mlp_ratio: float | None = None
    residual: bool | None = None
    areas: tuple[int, int] = (4, 1)
    bn_eps: float = 1e-3

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise InputError(f"scale {self.scale!r} is unknown", expected=f"one of {', '.join(SCALES)}")
        if self.variant not in VARIANTS:
            raise InputError(f"variant {self.variant!r} is unknown", expected=f"one of {', '.join(VARIANTS)}")
        if self.num_classes < 1:
            raise InputError(f"num_classes is {self.num_classes}", expected="1 or more")
        if self.mlp_ratio is None:
            object.__setattr__(self, "mlp_ratio", _MLP_RATIO[self.variant].get(self.scale, 2.0))
        if self.residual is None:
            object.__setattr__(self, "residual", self.scale in ("l", "x"))
