"""Measuring several models in turns: warm-up until steady, then turns of each, with every sample kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from ..detections import Timing

__all__ = ["Runner", "Samples", "WarmUp", "least_seconds", "measure_in_turns", "warm_up"]

_REST_S = 0.005
_TURN_S, _TURN_CALLS = 0.25, (2, 64)  # a turn and its calls: of slow models at least two, of fast ones at most 64
_LEAST_TURNS = 8  # as many as a confidence interval needs

_WINDOW_CALLS, _WINDOW_S, _WINDOWS = 5, 0.1, 3
_STEADY = 0.05
_WARM_UP_S = 4.0

Runner = Callable[[], Sequence[Timing]]
"""Detects in the next frame or frames; returns when that is done, with the timing of each frame."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What warming up took.

    Attributes:
        calls: How many.
        seconds: How long.
        steady: Whether the time of a call had settled when the limit was reached.
        call_ms: Median of the last calls.
    """

    calls: int
    seconds: float
    steady: bool
    call_ms: float


@dataclass(slots=True)
class Samples:
    """Every measured call, in order; lists of equal length.

    Attributes:
        total_ms: The whole call, from outside.
        pre_ms: Preprocessing, summed over the frames of the call, as the Runtime tells.
        infer_ms: The engine.
        post_ms: Postprocessing.
        start_s: When the call began, since the beginning of the run.
        turn: Number of its turn.
    """

    total_ms: list[float] = field(default_factory=list)
    pre_ms: list[float] = field(default_factory=list)
    infer_ms: list[float] = field(default_factory=list)
    post_ms: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)


def warm_up(run: Runner, *, limit_s: float = _WARM_UP_S, clock: Callable[[], float] = time.perf_counter) -> WarmUp:
    """Call until the time of a call has settled: until the medians of three windows lie within 5 % of each other.

    A window is five calls or more and a tenth of a second or more.

    Args:
        run: What to call.
        limit_s: When to give up; at least one call is made.
        clock: Seconds.
    """
    begin = now = clock()
    medians: list[float] = []
    window: list[float] = []
    calls = 0
    steady = False
    while not steady and (not calls or now - begin < limit_s):
        start = now
        run()
        now = clock()
        calls += 1
        window.append(now - start)
        if len(window) >= _WINDOW_CALLS and sum(window) >= _WINDOW_S:
            medians.append(float(np.median(window)))
            window = []
            last = medians[-_WINDOWS:]
            steady = len(last) == _WINDOWS and max(last) <= min(last) * (1 + _STEADY)
    return WarmUp(calls, now - begin, steady, 1e3 * (medians[-1] if medians else float(np.median(window))))


def least_seconds(call_ms: Sequence[float]) -> float:
    """Return about how long the fewest turns that are measured take.

    Args:
        call_ms: As ``measure_in_turns`` takes it.
    """
    calls = [count + 1 for count in _turn_calls(call_ms)]
    return _LEAST_TURNS * sum(_REST_S + count * ms / 1e3 for count, ms in zip(calls, call_ms, strict=True))


def measure_in_turns(
    runners: Sequence[Runner],
    call_ms: Sequence[float],
    *,
    seconds: float,
    zero: float,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Samples], bool]:
    """Measure runners in turns, so that what disturbs the machine hits all of them alike.

    A turn is a short rest, a call that is not measured, and calls for about a quarter of a second. The idle threads of
    the engine before go on spinning for a while, and its data fills the caches; after the rest and the first call a
    model runs as if alone. The order is reversed in every other round.

    Args:
        runners: What to measure.
        call_ms: About how long a call of each takes.
        seconds: Of the whole; at least eight rounds are measured.
        zero: Value of ``time.perf_counter()`` that counts as second 0 of the run.
        progress: Called with the seconds done.

    Returns:
        Samples of each runner, and whether Ctrl-C ended it early: then those of the whole turns before.

    Raises:
        KeyboardInterrupt: If no turn was done.
    """
    counts = _turn_calls(call_ms)
    samples = [Samples() for _ in runners]
    begin = time.perf_counter()
    turn = 0
    try:
        while turn < _LEAST_TURNS or time.perf_counter() - begin < seconds:
            order = range(len(runners)) if turn % 2 == 0 else reversed(range(len(runners)))
            for index in order:
                time.sleep(_REST_S)
                runners[index]()
                for _ in range(counts[index]):
                    start = time.perf_counter()
                    timings = runners[index]()
                    end = time.perf_counter()
                    _add(samples[index], start - zero, end - start, timings, turn)
            turn += 1
            if progress is not None:
                progress(time.perf_counter() - begin)
    except KeyboardInterrupt:
        if not turn:
            raise
        return [_before(own, turn) for own in samples], True
    return samples, False


def _turn_calls(call_ms: Sequence[float]) -> list[int]:
    """Return how many calls of each are measured in a turn."""
    return [int(np.clip(_TURN_S * 1e3 / max(milliseconds, 1e-6), *_TURN_CALLS)) for milliseconds in call_ms]


def _before(samples: Samples, turn: int) -> Samples:
    """Return the samples of the turns before one; an interrupted call may lack some of its numbers."""
    count = sum(own < turn for own in samples.turn)
    return Samples(*(getattr(samples, field.name)[:count] for field in fields(samples)))


def _add(samples: Samples, start: float, seconds: float, timings: Sequence[Timing], turn: int) -> None:
    samples.total_ms.append(round(1e3 * seconds, 4))
    samples.pre_ms.append(round(sum(timing.pre_ms for timing in timings), 4))
    samples.infer_ms.append(round(sum(timing.infer_ms for timing in timings), 4))
    samples.post_ms.append(round(sum(timing.post_ms for timing in timings), 4))
    samples.start_s.append(round(start, 4))
    samples.turn.append(turn)
