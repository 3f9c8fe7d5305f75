from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.benchmark import bootstrap
from yolo12edge.benchmark.bootstrap import MIN_BLOCKS, RatioInterval, ratio_interval

TRIALS = 120


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer drawings: 300 give the interval of 2,000 within a few per cent of its width."""
    monkeypatch.setattr(bootstrap, "_RESAMPLES", 300)


def turns(count: int, calls: int) -> np.ndarray:
    return np.repeat(np.arange(count), calls)


def coverage(draw, share: float, true: float, **options: bool) -> float:
    """How often the interval of samples that ``draw`` gives holds the true ratio."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(TRIALS):
        interval = ratio_interval(*draw(rng), share=share, **options)
        held += interval.low <= true <= interval.high
    return held / TRIALS


@pytest.mark.usefixtures("fewer")
@pytest.mark.parametrize(("share", "count"), [(0.5, 20), (0.9, 30), (0.99, 40)])
def test_coverage_of_independent_calls(share: float, count: int) -> None:
    """Log-normal times, B 10 % slower in every percentile."""

    def draw(rng: np.random.Generator):
        turn = turns(count, 20)
        return 1.1 * rng.lognormal(size=turn.size, sigma=0.3), turn, rng.lognormal(size=turn.size, sigma=0.3), turn

    assert 0.90 <= coverage(draw, share, 1.1) <= 0.995


@pytest.mark.usefixtures("fewer")
def test_coverage_where_calls_of_a_turn_are_alike() -> None:
    """The noise of a turn is as large as that of a call: drawing calls, not turns, would hold in about half."""

    def side(rng: np.random.Generator) -> np.ndarray:
        return np.exp(0.1 * (rng.normal(size=(30, 1)) + rng.normal(size=(30, 20)))).ravel()

    def draw(rng: np.random.Generator):
        return side(rng), turns(30, 20), side(rng), turns(30, 20)

    def draw_calls(rng: np.random.Generator):
        calls = np.arange(600) % 40  # blocks of calls from everywhere
        return side(rng), calls, side(rng), calls

    assert 0.89 <= coverage(draw, 0.5, 1.0) <= 0.995
    assert coverage(draw_calls, 0.5, 1.0) < 0.75


@pytest.mark.usefixtures("fewer")
def test_what_disturbs_both_cancels() -> None:
    rng = np.random.default_rng(3)
    weather = np.exp(0.5 * rng.normal(size=(24, 1)))
    a, b = ((weather * np.exp(0.02 * rng.normal(size=(24, 10)))).ravel() for _ in range(2))
    turn = turns(24, 10)
    apart, together = (ratio_interval(a, turn, 1.05 * b, turn, paired=paired) for paired in (False, True))
    assert together.high - together.low < 0.3 * (apart.high - apart.low)
    assert (together.verdict, apart.verdict) == ("faster", "cannot tell")


@pytest.mark.usefixtures("fewer")
@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.integers(MIN_BLOCKS, 60), st.integers(1, 5))
def test_scale_and_order(seed: int, factor: float, count: int, calls: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.gamma(5, size=(2, count * calls))
    turn = turns(count, calls)
    one, scaled = ratio_interval(a, turn, b, turn), ratio_interval(factor * a, turn, b, turn)
    assert one.low <= one.ratio <= one.high
    assert [scaled.low, scaled.ratio, scaled.high] == pytest.approx(
        [factor * x for x in (one.low, one.ratio, one.high)]
    )
    assert ratio_interval(a, turn, b, turn) == one
    same = ratio_interval(a, turn, a, turn, paired=True)
    assert (same.ratio, same.low, same.high, same.verdict) == (1, 1, 1, "no difference")


def test_too_few_turns() -> None:
    values = np.ones(400)
    assert ratio_interval(values, turns(4, 100), values, turns(40, 10)) is None
    assert ratio_interval(values, turns(40, 10), values, turns(20, 20), paired=True) is None
    assert ratio_interval([], [], values, turns(40, 10)) is None


def test_verdicts() -> None:
    cases = {
        "faster": (0.8, 0.7, 0.9),
        "slower": (1.2, 1.1, 1.3),
        "no difference": (1.0, 0.9, 1.1),
        "cannot tell": (1.0, 0.95, 1.2),
    }
    assert all(RatioInterval(*numbers).verdict == verdict for verdict, numbers in cases.items())


def test_many_samples_do_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from elsewhere may hold millions."""
    monkeypatch.setattr(bootstrap, "_WORK", 100)
    drawn = []
    own = bootstrap._draw
    monkeypatch.setattr(bootstrap, "_draw", lambda *arguments: drawn.append(1) or own(*arguments))
    ratio_interval(np.ones(40), turns(40, 1), np.ones(40), turns(40, 1), paired=True)
    assert len(drawn) == 200
