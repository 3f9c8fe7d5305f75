from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.benchmark.percentiles import PERCENTS, jitter_ms, percentiles_of, supporting_samples

times = st.lists(st.floats(0.001, 1e4), min_size=1, max_size=400)


@pytest.mark.parametrize(("percent", "count"), [(50.0, 6), (90.0, 36), (99.0, 368), (99.9, 3688)])
def test_how_many_samples_a_percentile_needs(percent: float, count: int) -> None:
    """The smallest n with 1 - p^n - (1-p)^n tails of at most 2.5 % each: tables of distribution-free intervals."""
    assert supporting_samples(percent) == count
    assert [len(percentiles_of(np.arange(n) + 1.0, (percent,))) for n in (count - 1, count)] == [0, 1]


@given(times)
def test_percentiles_are_samples_and_lie_in_their_intervals(values: list[float]) -> None:
    found = percentiles_of(values)
    assert [item.percent for item in found] == [percent for percent in PERCENTS if item_supported(percent, len(values))]
    for item in found:
        assert {item.ms, item.low_ms, item.high_ms} <= set(values)
        assert item.low_ms <= item.ms <= item.high_ms
        assert sum(value <= item.ms for value in values) >= item.percent / 100 * len(values) - 1e-9
    assert [item.ms for item in found] == sorted(item.ms for item in found)
    assert percentiles_of(values[::-1]) == found


def item_supported(percent: float, count: int) -> bool:
    return count >= supporting_samples(percent)


@pytest.mark.parametrize(("percent", "count"), [(50.0, 20), (90.0, 100), (99.0, 400)])
def test_intervals_hold_the_true_value_as_often_as_they_say(percent: float, count: int) -> None:
    """Of an exponential distribution, whose percentiles are known; the intervals are rather too wide than narrow."""
    rng = np.random.default_rng(0)
    true = -np.log1p(-percent / 100)
    trials = 600
    held = 0
    for _ in range(trials):
        (item,) = percentiles_of(rng.exponential(size=count), (percent,))
        held += item.low_ms <= true <= item.high_ms
    assert 0.935 <= held / trials <= 0.995


def test_jitter_compares_calls_that_follow_upon_each_other() -> None:
    assert jitter_ms([1, 3, 2, 100, 101], [0, 0, 0, 1, 1]) == pytest.approx((2 + 1 + 1) / 3)
    assert jitter_ms([1, 2, 3], [0, 1, 2]) is None
    assert jitter_ms([5.0], [0]) is None
    assert percentiles_of([]) == []
