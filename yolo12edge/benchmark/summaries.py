"""What samples say: summary, and whether a sustained run slows down."""

from __future__ import annotations

import numpy as np

from .bootstrap import ratio_interval
from .measuring import Samples
from .percentiles import jitter_ms, percentiles_of
from .record import PercentileEntry, Slowdown, Summary

__all__ = ["slowdown_of", "summary_of"]

_THROTTLES = 1.05  # lower end of the interval; less is within what any machine does


def summary_of(samples: Samples) -> Summary:
    """Return the summary of the calls of one case; there is at least one."""
    total = np.asarray(samples.total_ms)
    stages = {name: float(np.mean(getattr(samples, name))) for name in ("pre_ms", "infer_ms", "post_ms")}
    return Summary(
        samples=len(total),
        mean_ms=float(total.mean()),
        stdev_ms=float(total.std(ddof=1)) if len(total) > 1 else 0.0,
        min_ms=float(total.min()),
        max_ms=float(total.max()),
        jitter_ms=jitter_ms(samples.total_ms, samples.turn),
        percentiles=[
            PercentileEntry(percent=item.percent, ms=item.ms, low_ms=item.low_ms, high_ms=item.high_ms)
            for item in percentiles_of(total)
        ],
        **stages,
    )


def slowdown_of(samples: Samples) -> Slowdown | None:
    """Compare the median of the last quarter of a run with that of the first.

    Returns:
        None if the run is too short to say.
    """
    start = np.asarray(samples.start_s)
    quarter = (start[-1] - start[0]) / 4
    early, late = start <= start[0] + quarter, start >= start[-1] - quarter
    total, turn = np.asarray(samples.total_ms), np.asarray(samples.turn)
    interval = ratio_interval(total[late], turn[late], total[early], turn[early])
    if interval is None:
        return None
    return Slowdown(
        ratio=interval.ratio, low=interval.low, high=interval.high, throttles=bool(interval.low > _THROTTLES)
    )
