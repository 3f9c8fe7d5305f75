"""From statistics to the range [low, high] that a quantized tensor covers."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .tensor_statistics import BINS, TensorStatistics

__all__ = ["METHODS", "Method", "solve_range"]

Method = Literal["minmax", "percentile", "mse", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)

_PERCENTILE = 99.99  # percent of the values that are kept, the rest shared by both tails
_FRACTIONS = np.linspace(1.0, 0.3, 57)  # of an end of the range: what the MSE search tries
_LEVELS = 255
_STRIDE = 8  # bins between two thresholds that the entropy search tries
_NOTHING = 1e-4  # values in a level that holds none, or the divergence would be infinite

Floats = npt.NDArray[np.float64]


def solve_range(statistics: TensorStatistics, method: Method, *, symmetric: bool) -> tuple[float, float]:
    """Return the range to quantize to 8 bits; zero always lies inside.

    Args:
        statistics: Of the tensor.
        method: ``minmax`` covers everything that was seen; ``percentile`` leaves out the outermost values; ``mse``
            minimises the expected squared error of rounding and clipping together; ``entropy`` the divergence of the
            quantized distribution from that of the values (Migacz, "8-bit inference with TensorRT", GTC 2017), which
            clips far more than the others.
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
    if method == "entropy":
        low, high = _least_divergence(statistics, low, high)
    return float(low), float(high)


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


def _least_divergence(statistics: TensorStatistics, low: float, high: float) -> tuple[float, float]:
    """Search the threshold that both ends are clipped to; an end that does not reach it stays."""
    width = 2 * statistics.limit / BINS
    outermost = int(np.ceil(max(-low, high) / width))
    reach = np.arange(outermost, _LEVELS // 2, -_STRIDE)
    first = np.maximum(int(np.floor(low / width)), -reach) + BINS // 2
    last = np.minimum(int(np.ceil(high / width)), reach) + BINS // 2
    enough = last - first > _LEVELS  # fewer bins than levels cannot tell ranges apart
    if not enough.any():
        return low, high
    divergence = _divergence(statistics.counts, first[enough], last[enough])
    threshold = float(reach[enough][int(np.argmin(divergence))] * width)
    return max(low, -threshold), min(high, threshold)


def _divergence(counts: npt.NDArray[np.int64], first: npt.NDArray[np.intp], last: npt.NDArray[np.intp]) -> Floats:
    """Return the Kullback-Leibler divergence of clipped and quantized histograms from the clipped ones.

    Bins outside [first, last) are added to the outermost ones inside, as clipping does with their values. The
    quantized histogram knows nothing of these, and spreads what a level holds evenly over its bins that are not empty.

    Args:
        counts: Histogram, shape (BINS,).
        first: First bin of each range, shape (n,).
        last: The bin behind its last one, shape (n,).

    Returns:
        Shape (n,).
    """

    def cumulated(values: npt.NDArray[Any]) -> Floats:
        return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))

    def entropy(n: Floats) -> Floats:
        return n * np.log(np.maximum(n, 1.0))

    n = counts.astype(np.float64)
    below, filled, ordered = cumulated(n), cumulated(n > 0), cumulated(entropy(n))
    edges = np.round(np.linspace(first, last, _LEVELS + 1, axis=1)).astype(np.intp)
    inside = np.diff(below[edges], axis=1)
    bins = np.diff(filled[edges], axis=1)
    clipped = inside.copy()
    order = ordered[last] - ordered[first]
    for level, end, outside in ((0, first, below[first]), (-1, last - 1, below[-1] - below[last])):
        clipped[:, level] += outside
        bins[:, level] += (n[end] == 0) & (outside > 0)
        order += entropy(n[end] + outside) - entropy(n[end])
    kept = inside.sum(1)
    spread = np.maximum(inside, _NOTHING) / np.maximum(bins, 1) / np.maximum(kept, 1)[:, None]
    cross = (clipped * np.log(spread)).sum(1)
    return np.where(kept > 0, (order - cross) / below[-1] - np.log(below[-1]), np.inf)
