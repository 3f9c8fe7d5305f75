"""Percentiles that say how far the samples support them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PERCENTS", "Percentile", "jitter_ms", "percentiles_of", "supporting_samples"]

PERCENTS = (50.0, 90.0, 99.0, 99.9)
"""What a benchmark shows."""

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Percentile:
    """The time that ``percent`` % of the calls did not exceed, with its 95 % confidence interval.

    Attributes:
        percent: 0 to 100, both excluded.
        ms: Time of a call that was really measured; nothing is interpolated.
        low_ms: Lower end of the interval.
        high_ms: Upper end.
    """

    percent: float
    ms: float
    low_ms: float
    high_ms: float


def percentiles_of(samples_ms: npt.ArrayLike, percents: Sequence[float] = PERCENTS) -> list[Percentile]:
    """Return those percentiles that the samples support.

    A percentile is supported where two order statistics enclose it with 95 % confidence, whatever the distribution
    (Hahn and Meeker, Statistical Intervals, 1991, section 5.2). Otherwise the highest sample may well lie below the
    true value. 6 samples support the median, 36 the 90th, 368 the 99th and 3,688 the 99.9th percentile.

    Args:
        samples_ms: Times, shape (n,); taken as independent.
        percents: Wanted percentiles.
    """
    ordered = np.sort(np.asarray(samples_ms, np.float64))
    found = []
    for percent in percents:
        ranks = _ranks(len(ordered), percent / 100)
        if ranks is not None:
            value = float(np.quantile(ordered, percent / 100, method="inverted_cdf"))
            low, high = (float(ordered[rank - 1]) for rank in ranks)
            found.append(Percentile(percent, value, low, high))
    return found


def supporting_samples(percent: float) -> int:
    """Return how many samples a percentile needs to be supported."""
    count = 1
    while _ranks(count, percent / 100) is None:
        count *= 2
    low = count // 2
    while count - low > 1:
        middle = (low + count) // 2
        low, count = (low, middle) if _ranks(middle, percent / 100) else (middle, count)
    return count


def jitter_ms(samples_ms: npt.ArrayLike, turns: npt.ArrayLike) -> float | None:
    """Return how much a call differs from the one before, as the mean of the absolute differences.

    This is the D of RFC 3550, section 6.4.1, without its smoothing.

    Args:
        samples_ms: Times in the order measured, shape (n,).
        turns: Turn that each was measured in; only calls of one turn follow upon each other.

    Returns:
        Milliseconds, or None if no two calls follow upon each other.
    """
    samples, turn = np.asarray(samples_ms, np.float64), np.asarray(turns)
    steps = np.abs(np.diff(samples))[np.diff(turn) == 0]
    return float(steps.mean()) if steps.size else None


def _ranks(count: int, share: float) -> tuple[int, int] | None:
    """Return the ranks, from 1, of the samples that enclose a quantile; None if there are too few."""
    if count < 1:
        return None
    tail = (1 - _CONFIDENCE) / 2
    # log of the binomial probabilities of k samples below the quantile, k = 0 … count
    k = np.arange(1, count + 1, dtype=np.float64)
    steps = np.log((count - k + 1) / k) + np.log(share) - np.log1p(-share)
    probability = np.exp(np.concatenate(([0.0], np.cumsum(steps))) + count * np.log1p(-share))
    below = np.cumsum(probability)
    lower = int(np.searchsorted(below, tail, side="right"))  # largest rank with P(fewer below) <= tail
    above = np.cumsum(probability[::-1])[::-1]  # P(at least k below)
    upper = int(np.argmax(above <= tail)) if above[-1] <= tail else 0
    return (lower, upper) if lower >= 1 and upper >= 1 else None
