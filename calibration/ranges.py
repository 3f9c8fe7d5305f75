"""From statistics to the range [low, high] that a quantized tensor covers."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from .statistics import TensorStatistics

__all__ = ["METHODS", "Method", "solve_range"]

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)

_PERCENTILE = 99.99  # percent of the values that are kept, the rest shared by both tails
_FRACTIONS = np.linspace(1.0, 0.3, 57)  # of the extremes: what the MSE search tries


def solve_range(statistics: TensorStatistics, method: Method, *, symmetric: bool) -> tuple[float, float]:
    """Return the range to quantize to 8 bits; zero always lies inside.

    Args:
        statistics: Of the tensor.
        method: ``minmax`` covers everything that was seen; ``percentile`` leaves out the outermost values;
            ``mse`` minimises the expected squared error of rounding and clipping together.
        symmetric: Whether the range must be symmetric around zero.

    Returns:
        Low and high, low <= 0 <= high, low < high.
    """
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if low == high:  # a tensor that is zero everywhere: any range does
        return (-1.0, 1.0) if symmetric else (0.0, 1.0)
    if method == "percentile":
        low, high = _percentiles(statistics, low, high)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if method == "mse":
        low, high = _least_error(statistics, low, high, symmetric=symmetric)
    return low, high


def _percentiles(statistics: TensorStatistics, low: float, high: float) -> tuple[float, float]:
    tail = (100 - _PERCENTILE) / 200
    share = np.cumsum(statistics.counts) / statistics.counts.sum()
    centres = statistics.centres()
    first = centres[int(np.searchsorted(share, tail, side="right"))]
    last = centres[int(np.searchsorted(share, 1 - tail, side="left"))]
    clipped = max(low, min(float(first), 0.0)), min(high, max(float(last), 0.0))
    return clipped if clipped[0] < clipped[1] else (low, high)


def _least_error(statistics: TensorStatistics, low: float, high: float, *, symmetric: bool) -> tuple[float, float]:
    """Search the clipping of the high end, then (if it is free) of the low end."""
    used = np.flatnonzero(statistics.counts)
    values, weights = statistics.centres()[used], statistics.counts[used].astype(np.float64)
    if symmetric:
        tries = [(low * f, high * f) for f in _FRACTIONS]
        return tries[int(np.argmin([_error(values, weights, *pair) for pair in tries]))]
    for _ in range(2):  # each end depends a little on the other
        tries = [(low, high * f) for f in _FRACTIONS] if high > 0 else [(low, high)]
        low, high = tries[int(np.argmin([_error(values, weights, *pair) for pair in tries]))]
        tries = [(low * f, high) for f in _FRACTIONS] if low < 0 else [(low, high)]
        low, high = tries[int(np.argmin([_error(values, weights, *pair) for pair in tries]))]
    return low, high


def _error(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], low: float, high: float) -> float:
    step = (high - low) / 255
    rounded = np.round(np.clip(values, low, high) / step) * step
    return float(np.dot(weights, (values - rounded) ** 2))
