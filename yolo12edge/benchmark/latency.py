"""Latency of several runners, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["LatencySummary", "interleaved_latency"]


_REST_S = 0.005
_DISTURBED = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class LatencySummary:
    """Times of one runner.

    Attributes:
        samples_ms: float64, shape (repeats,), milliseconds of each call in the order measured.
    """

    samples_ms: npt.NDArray[np.float64]

    @property
    def median_ms(self) -> float:
        """Median, the number to compare: half of the calls took no longer."""
        return float(np.median(self.samples_ms))

    @property
    def mean_ms(self) -> float:
        """Mean."""
        return float(self.samples_ms.mean())

    @property
    def min_ms(self) -> float:
        """Fastest call: what is left when nothing disturbs."""
        return float(self.samples_ms.min())

    @property
    def max_ms(self) -> float:
        """Slowest call."""
        return float(self.samples_ms.max())

    @property
    def disturbed(self) -> bool:
        """Whether other work must have been in the way: half of the calls took far longer than the fastest one."""
        return self.median_ms > _DISTURBED * self.min_ms

    def percentile_ms(self, percent: float) -> float:
        """Return the time that ``percent`` % of the calls did not exceed."""
        return float(np.percentile(self.samples_ms, percent))

    @property
    def p90_ms(self) -> float:
        """90th percentile."""
        return self.percentile_ms(90)

    @property
    def p99_ms(self) -> float:
        """99th percentile; needs a few hundred samples to mean something."""
        return self.percentile_ms(99)

    def to_dict(self) -> dict[str, Any]:
        """Return summary and raw samples, ready for JSON."""
        names = ("median_ms", "mean_ms", "min_ms", "max_ms", "p90_ms", "p99_ms")
        return {**{name: getattr(self, name) for name in names}, "samples_ms": self.samples_ms.tolist()}


def interleaved_latency(
    runners: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int
) -> dict[str, LatencySummary]:
    """Time several runners in turns, so that noise of the machine hits all of them alike.

    The order is reversed every other round (A B, B A, A B, …). Each turn begins with a short rest and a call that is
    not measured: the idle threads of the engine before go on spinning for a while and hold the cores, and its data
    fills the caches; on a device the model would run alone.

    Args:
        runners: What to call, by name. A call returns when its work is done, not when it is queued.
        repeats: Measured calls of each.
        warmup: Calls of each before measuring.

    Returns:
        One summary per runner, in the order given.

    Raises:
        InputError: If there is no runner, ``repeats`` is below 1 or ``warmup`` below 0.
    """
    if not runners or repeats < 1 or warmup < 0:
        raise InputError(
            f"cannot measure {len(runners)} runners with {repeats} repeats and {warmup} warm-up calls",
            expected="at least one runner, one repeat, and no negative warm-up",
        )
    names = list(runners)
    for _ in range(warmup):
        for name in names:
            runners[name]()
    nanoseconds = {name: np.empty(repeats, np.int64) for name in names}
    for repeat in range(repeats):
        for name in names if repeat % 2 == 0 else reversed(names):
            run = runners[name]
            if len(runners) > 1:
                time.sleep(_REST_S)
                run()
            start = time.perf_counter_ns()
            run()
            nanoseconds[name][repeat] = time.perf_counter_ns() - start
    return {name: LatencySummary(values / 1e6) for name, values in nanoseconds.items()}
