"""Scales and zero points: how a range becomes 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["QuantParams", "activation_params", "largest_weight", "quantize_weight"]

_WEIGHT_FRACTIONS = np.linspace(1.0, 0.6, 21, dtype=np.float32)
_DEAD = 1e-30  # largest magnitude of a channel that counts as zero


@dataclass(frozen=True, slots=True)
class QuantParams:
    """Scale and zero point of one tensor: ``real = (integer - zero_point) * scale``."""

    scale: np.float32
    zero_point: np.integer[Any]


def activation_params(low: float, high: float, *, signed: bool) -> QuantParams:
    """Return the parameters of an activation.

    Args:
        low: Lower end of the range, at most 0.
        high: Upper end, at least 0.
        signed: True gives int8 with zero point 0 (the range is made symmetric), False uint8 with the zero point that
            represents 0 exactly.
    """
    smallest = float(np.finfo(np.float32).tiny)
    if signed:
        return QuantParams(np.float32(max(max(-low, high) / 127, smallest)), np.int8(0))
    scale = np.float32(max((high - low) / 255, smallest))
    return QuantParams(scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255)))


def largest_weight(reduced_range: bool) -> int:
    """Return the largest magnitude of an INT8 weight: 127, or 64 where the processor may add products in 16 bits.

    Without VNNI, x86 adds two products u8 * s8 in 16 bits, which saturates beyond 64.
    """
    return 64 if reduced_range else 127


def quantize_weight(
    weight: npt.NDArray[np.float32], *, reduced_range: bool
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantize the weight of a convolution per output channel, symmetrically, with the clipping of least error.

    Args:
        weight: Shape (out, in / groups, height, width).
        reduced_range: Keep to ±64 instead of ±127, see ``largest_weight``.

    Returns:
        int8 weights of the same shape and float32 scales, shape (out,).
    """
    largest = largest_weight(reduced_range)
    rows = weight.reshape(len(weight), -1)
    peak = np.abs(rows).max(1)
    peak[peak < _DEAD] = 1.0  # any scale represents it
    units = rows * (largest / peak)[:, None]  # the weight in steps, were nothing clipped
    best = np.full(len(rows), np.inf)
    fraction = np.ones(len(rows))
    rounded = np.empty_like(units)
    for tried in _WEIGHT_FRACTIONS:
        np.rint(np.multiply(units, 1 / tried, out=rounded), out=rounded)
        np.clip(rounded, -largest, largest, out=rounded)
        rounded *= tried
        rounded -= units
        error = np.einsum("ij,ij->i", rounded, rounded)
        better = error < best
        best[better], fraction[better] = error[better], tried
    scales = np.maximum(peak * fraction / largest, np.finfo(np.float32).tiny).astype(np.float32)
    integers = np.clip(np.rint(rows / scales[:, None].astype(np.float64)), -largest, largest)
    return integers.reshape(weight.shape).astype(np.int8), scales
