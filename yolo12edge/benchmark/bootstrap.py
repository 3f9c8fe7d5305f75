"""Ratios of two latencies with bootstrap confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["MIN_BLOCKS", "RatioInterval", "ratio_interval"]

Floats = npt.NDArray[np.float64]

MIN_BLOCKS = 8
"""Fewer blocks than this say nothing about what another run would show."""

_MAX_BLOCKS = 40
_RESAMPLES, _LEAST_RESAMPLES = 2000, 200
_WORK = 400_000_000  # samples times drawings, a few seconds
_CONFIDENCE = 0.95
_WIDE = 0.1


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """A ratio of times with its 95 % confidence interval; below 1 the numerator is faster."""

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``"faster"`` or ``"slower"`` if the interval does not hold 1.

        Else ``"no difference"``, or ``"cannot tell"`` if it reaches further than 10 % either way.
        """
        if self.high < 1 or self.low > 1:
            return "faster" if self.high < 1 else "slower"
        return "no difference" if self.low >= 1 - _WIDE and self.high <= 1 + _WIDE else "cannot tell"


def ratio_interval(
    numerator: npt.ArrayLike,
    numerator_turns: npt.ArrayLike,
    denominator: npt.ArrayLike,
    denominator_turns: npt.ArrayLike,
    *,
    share: float = 0.5,
    paired: bool = False,
    seed: int = 0,
) -> RatioInterval | None:
    """Return the ratio of a quantile of two runs.

    Calls that follow upon each other are alike, because what disturbs a machine lasts longer than one call. So blocks
    of neighbouring turns are drawn with replacement, not calls (block bootstrap, Künsch, Annals of Statistics 17,
    1989), 2,000 times, or less often if there are more than 100,000 samples. The interval is that of the percentiles
    of the ratios, expanded for few blocks (Hesterberg, The American Statistician 69, 2015, section 4.2).

    Args:
        numerator: Times, shape (n,), in the order measured.
        numerator_turns: The turn of each, ascending.
        denominator: Times, shape (m,).
        denominator_turns: The turn of each.
        share: Which quantile; 0.5 is the median.
        paired: Whether equal turns were measured side by side, in one run: they are drawn together, and what disturbed
            both cancels.
        seed: Of the drawing.

    Returns:
        The interval, or None if one side has less than ``MIN_BLOCKS`` turns.
    """
    top, bottom = _Side.of(numerator, numerator_turns), _Side.of(denominator, denominator_turns)
    if min(top.turns, bottom.turns) < MIN_BLOCKS or (paired and top.turns != bottom.turns):
        return None
    rng = np.random.default_rng(seed)
    count = _WORK // (len(top.ordered) + len(bottom.ordered))
    ratios = np.empty(min(_RESAMPLES, max(_LEAST_RESAMPLES, count)))
    for index in range(len(ratios)):
        above = _draw(rng, top.blocks)
        below = above if paired else _draw(rng, bottom.blocks)
        ratios[index] = top.quantile(share, above) / bottom.quantile(share, below)
    tail = _expanded_tail(min(top.blocks, bottom.blocks))
    low, high = np.quantile(ratios, (tail, 1 - tail))
    ratio = top.quantile(share) / bottom.quantile(share)
    return RatioInterval(ratio, min(float(low), ratio), max(float(high), ratio))


def _expanded_tail(blocks: int) -> float:
    """Return the share of the ratios on each side of the interval: less than 2.5 %, because few blocks vary too little.

    The quantile of Student's t is that of its expansion around the normal one, right to 0.3 % from 7 degrees on.
    """
    normal = NormalDist()
    z, degrees = -normal.inv_cdf((1 - _CONFIDENCE) / 2), blocks - 1
    student = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return normal.cdf(-student * math.sqrt(blocks / degrees))


def _draw(rng: np.random.Generator, blocks: int) -> npt.NDArray[np.int64]:
    """Return how often each block is drawn."""
    return np.bincount(rng.integers(blocks, size=blocks), minlength=blocks)


@dataclass(frozen=True, slots=True)
class _Side:
    """Times in ascending order, each with the block that it belongs to."""

    ordered: Floats
    block: npt.NDArray[np.int64]
    blocks: int
    turns: int

    @classmethod
    def of(cls, samples: npt.ArrayLike, turns: npt.ArrayLike) -> _Side:
        values = np.asarray(samples, np.float64)
        names, turn = np.unique(np.asarray(turns), return_inverse=True)
        blocks = min(len(names), _MAX_BLOCKS)
        block = turn * blocks // max(1, len(names))  # neighbouring turns share one
        order = np.argsort(values, kind="stable")
        return cls(values[order], block[order], blocks, len(names))

    def quantile(self, share: float, counts: npt.NDArray[np.int64] | None = None) -> float:
        """Return a quantile of the times, each counted as often as its block was drawn."""
        weights = np.ones(len(self.ordered), np.int64) if counts is None else counts[self.block]
        reached = np.cumsum(weights)
        return float(self.ordered[np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))])
