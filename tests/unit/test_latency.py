from __future__ import annotations

import json
import time

import numpy as np
import pytest

from yolo12edge.benchmark.latency import LatencySummary, interleaved_latency
from yolo12edge.errors import InputError


def test_runners_take_turns_in_alternating_order() -> None:
    calls: list[str] = []
    interleaved_latency({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=3, warmup=1)
    assert "".join(calls) == "ab" + "aabb" + "bbaa" + "aabb"  # each measured call follows one of its own


def test_a_lone_runner_is_not_interrupted() -> None:
    calls: list[str] = []
    result = interleaved_latency({"a": lambda: calls.append("a")}, repeats=3, warmup=1)
    assert len(calls) == 4
    assert len(result["a"].samples_ms) == 3


def test_each_runner_is_charged_its_own_time() -> None:
    result = interleaved_latency({"slow": lambda: time.sleep(0.005), "fast": lambda: None}, repeats=5, warmup=0)
    assert list(result) == ["slow", "fast"]
    assert all(summary.samples_ms.shape == (5,) for summary in result.values())
    assert result["slow"].min_ms >= 5.0
    assert result["fast"].median_ms < 1.0


def test_summary_of_known_samples() -> None:
    summary = LatencySummary(np.arange(1.0, 102.0)[::-1])
    assert (summary.median_ms, summary.mean_ms, summary.min_ms, summary.max_ms) == (51, 51, 1, 101)
    assert (summary.p90_ms, summary.p99_ms) == pytest.approx((91, 100))
    as_json = json.loads(json.dumps(summary.to_dict()))
    assert as_json["p90_ms"] == pytest.approx(91)
    assert as_json["samples_ms"][0] == 101


@pytest.mark.parametrize(("names", "repeats", "warmup"), [("", 1, 0), ("a", 0, 0), ("a", 1, -1)])
def test_senseless_measurements_are_refused(names: str, repeats: int, warmup: int) -> None:
    with pytest.raises(InputError, match="cannot measure"):
        interleaved_latency({name: lambda: None for name in names}, repeats=repeats, warmup=warmup)
