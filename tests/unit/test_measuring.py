from __future__ import annotations

import time

import numpy as np
import pytest

from yolo12edge.benchmark import measuring
from yolo12edge.benchmark.measuring import Samples, least_seconds, measure_in_turns, warm_up
from yolo12edge.benchmark.summaries import slowdown_of, summary_of
from yolo12edge.detections import Timing


class Clock:
    """Time that passes only in calls."""

    def __init__(self, durations) -> None:
        self.now = 0.0
        self.durations = iter(durations)

    def __call__(self) -> float:
        return self.now

    def run(self) -> list[Timing]:
        self.now += next(self.durations)
        return []


def test_warm_up_ends_when_calls_have_settled() -> None:
    def falling():
        for call in range(200):
            yield 0.05 + 0.1 * 0.8**call

    clock = Clock(falling())
    warm = warm_up(clock.run, limit_s=60, clock=clock)
    assert warm.steady
    assert 20 <= warm.calls <= 40  # three windows of five, once the slope is gone
    assert warm.seconds == clock.now
    assert warm.call_ms == pytest.approx(50, rel=0.1)


def test_warm_up_gives_up_and_says_so() -> None:
    clock = Clock(0.1 * 1.1 ** (call % 40) for call in range(1000))
    warm = warm_up(clock.run, limit_s=5, clock=clock)
    assert not warm.steady
    assert warm.seconds < 5 + 0.1 * 1.1**40


def test_a_window_takes_a_tenth_of_a_second() -> None:
    """Fifteen calls of a fast model are over before a clock has risen."""
    clock = Clock(0.001 for _ in range(1000))
    assert warm_up(clock.run, clock=clock).calls >= 300


def test_one_slow_call_is_enough() -> None:
    clock = Clock([10.0])
    warm = warm_up(clock.run, limit_s=4, clock=clock)
    assert (warm.calls, warm.steady, warm.call_ms) == (1, False, 10_000)


def test_turns_are_interleaved_and_their_first_call_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_REST_S", 0)
    calls: list[str] = []

    def runner(name: str):
        def run() -> list[Timing]:
            calls.append(name)
            return [Timing(1.0, 2.0, 3.0), Timing(0.5, 0.25, 0.125)]

        return run

    zero = time.perf_counter()
    shown: list[float] = []
    (a, b), _ = measure_in_turns(
        [runner("a"), runner("b")], [70.0, 1000.0], seconds=0, zero=zero, progress=shown.append
    )
    # a has three calls a turn and b two, each after one that is not measured; the order is reversed in turn
    assert "".join(calls) == ("aaaabbb" + "bbbaaaa") * 4
    assert (len(a.total_ms), len(b.total_ms)) == (24, 16)
    assert a.turn == sorted([*range(8)] * 3)
    assert (a.pre_ms[0], a.infer_ms[0], a.post_ms[0]) == (1.5, 2.25, 3.125)
    assert a.start_s == sorted(a.start_s)
    assert len(shown) == 8


def test_measures_as_long_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_REST_S", 0)
    begin = time.perf_counter()
    (samples,), _ = measure_in_turns([lambda: []], [100.0], seconds=0.05, zero=begin)
    assert time.perf_counter() - begin >= 0.05
    assert len(samples.total_ms) > 8 * 2


def test_an_interruption_keeps_the_whole_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_REST_S", 0)
    left = iter(range(100))

    def run() -> list[Timing]:
        if next(left) == 17:  # in the third turn: a turn is a call that is not measured and two
            raise KeyboardInterrupt
        return [Timing(1.0, 2.0, 3.0)]

    (a, b), interrupted = measure_in_turns([run, run], [1000.0, 1000.0], seconds=60, zero=0.0)
    assert interrupted
    assert a.turn == b.turn == [0, 0, 1, 1]
    assert len(a.total_ms) == len(a.post_ms) == 4
    left = iter([17])
    with pytest.raises(KeyboardInterrupt):
        measure_in_turns([run], [1000.0], seconds=60, zero=0.0)


def test_the_fewest_turns_of_slow_models_take_their_time() -> None:
    assert least_seconds([1000.0, 500.0]) == pytest.approx(8 * 3 * 1.5, rel=0.01)


def samples_of(total: np.ndarray, calls: int = 10) -> Samples:
    count = len(total)
    stage = [1.0] * count
    return Samples(
        total.tolist(), stage, stage, stage, np.linspace(0, 600, count).tolist(), (np.arange(count) // calls).tolist()
    )


def test_summary() -> None:
    summary = summary_of(samples_of(np.arange(1.0, 101.0)))
    assert (summary.samples, summary.min_ms, summary.max_ms, summary.mean_ms) == (100, 1, 100, 50.5)
    assert {item.percent: item.ms for item in summary.percentiles} == {50.0: 50, 90.0: 90}
    assert summary.jitter_ms == 1
    assert summary.stdev_ms == pytest.approx(np.arange(1.0, 101.0).std(ddof=1))
    assert summary_of(samples_of(np.array([3.0]))).stdev_ms == 0


def test_stages_add_up_to_the_mean_even_of_two_kinds_of_calls() -> None:
    total = [10.0] * 6 + [30.0] * 4
    pre, infer = [1.0] * 6 + [20.0] * 4, [8.0] * 6 + [4.0] * 4
    post = [whole - first - second for whole, first, second in zip(total, pre, infer, strict=True)]
    summary = summary_of(Samples(total, pre, infer, post, [0.0] * 10, list(range(10))))
    assert summary.pre_ms + summary.infer_ms + summary.post_ms == pytest.approx(summary.mean_ms)


def test_throttling_shows() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(1, 0.05, 2000)
    constant = slowdown_of(samples_of(20 * noise))
    assert not constant.throttles
    assert constant.low <= 1 <= constant.high
    throttled = slowdown_of(samples_of(20 * noise * np.where(np.arange(2000) < 900, 1.0, 1.3)))
    assert throttled.throttles
    assert throttled.low <= 1.3 <= throttled.high
    assert slowdown_of(samples_of(noise[:50])) is None
