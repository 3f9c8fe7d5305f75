"""What a run says, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ..reports.formats import MULTIPLY, decimal, difference, plural
from .bootstrap import ratio_interval
from .record import MeasuredCase, ModelFacts

__all__ = ["case_name", "verdict_lines"]


def verdict_lines(models: Sequence[ModelFacts], cases: Sequence[MeasuredCase], sustained: float | None) -> list[str]:
    """Return the sentences, the most important first.

    Each model is compared with an FP32 one: the one that its manifest compares its accuracy with, else one of the same
    format, else the first; without FP32 with the first model. Medians of calls that took turns.

    Args:
        models: What was measured.
        cases: The measurements.
        sustained: Seconds of a sustained run; None of a short one.
    """
    by_key = {case.key: case for case in cases}
    lines = [
        _speed(model, reference, case, twin, swept=len(by_key) > len(models))
        for model in models
        if (reference := _reference(model, models)) is not model
        for case in cases
        if case.model == model.name and (twin := by_key.get((reference.name, case.threads, case.batch))) is not None
    ]
    lines += _best_threads(models, cases)
    restless = [case_name(case, cases) for case in cases if not case.warm_up.steady]
    if restless:
        lines.insert(0, f"The machine was not steady: {'; '.join(restless)} never settled while warming up.")
    if sustained is not None:
        lines += [_slowdown(case, cases, sustained) for case in cases]
    return lines


def case_name(case: MeasuredCase, cases: Sequence[MeasuredCase]) -> str:
    """Return the name of a case: the model, and what tells it from others of the same model."""
    own = [other for other in cases if other.model == case.model]
    parts = [case.model]
    if len({other.threads for other in own}) > 1:
        parts.append(plural(case.threads, "thread"))
    if len({other.batch for other in own}) > 1:
        parts.append(f"batch {case.batch}")
    return ", ".join(parts)


def _reference(model: ModelFacts, models: Sequence[ModelFacts]) -> ModelFacts:
    """Return the model that another is compared with; the first FP32 one is compared with none: with itself."""
    floats = [other for other in models if other.precision == "fp32"] or [models[0]]
    if model.precision == "fp32" or model is floats[0]:
        return floats[0]
    own = "" if model.accuracy is None else model.accuracy.reference
    return min(floats, key=lambda other: (other.name != own, other.format != model.format))


def _speed(model: ModelFacts, reference: ModelFacts, case: MeasuredCase, twin: MeasuredCase, *, swept: bool) -> str:
    """Say how fast a model is relative to the reference, and what its manifest says of its accuracy."""
    interval = ratio_interval(
        twin.samples.total_ms, twin.samples.turn, case.samples.total_ms, case.samples.turn, paired=True
    )
    where = f"On {case.device}"
    if swept:
        where += f", {plural(case.threads, 'thread')}, batch {case.batch}"
    engines = ("", "") if case.engine == twin.engine else (f", {case.engine}", f", {twin.engine}")
    names = [
        f"{one.precision.upper()} ({one.name}{engine})" for one, engine in zip((model, reference), engines, strict=True)
    ]
    if interval is None:
        return f"{where}: too few turns to compare {names[0]} with {names[1]}."
    range_ = f"95 %: {decimal(interval.low)} to {decimal(interval.high)}"
    if interval.verdict == "cannot tell":
        speed = f"which of {names[0]} and {names[1]} is faster, these samples cannot tell ({range_})"
    elif interval.verdict == "no difference":
        speed = f"{names[0]} and {names[1]} do not differ in speed as far as the samples can show ({range_})"
    else:
        slower = ", slower" if interval.high < 1 else ""
        speed = f"{names[0]} is {decimal(interval.ratio)}{MULTIPLY} the speed of {names[1]}{slower} ({range_})"
    return f"{where}: {speed}{_accuracy(model, reference)}."


def _accuracy(model: ModelFacts, reference: ModelFacts) -> str:
    accuracy = model.accuracy
    if accuracy is None:
        return "; its accuracy was not measured" if model.precision == "int8" else ""
    change = difference(accuracy.reference_value, accuracy.value, scale=100, digits=1)
    other = "" if accuracy.reference == reference.name else f" against {accuracy.reference}"
    return f", {change} points of {accuracy.metric}{other} ({accuracy.images:,} images of {accuracy.dataset})"


def _best_threads(models: Sequence[ModelFacts], cases: Sequence[MeasuredCase]) -> list[str]:
    """Name the fewest threads that are as fast as the fastest, as far as the samples can show."""
    lines = []
    for model in models:
        single = [case for case in cases if case.model == model.name and case.batch == cases[0].batch]
        if len({case.threads for case in single}) > 1:
            fastest = min(single, key=_median)
            fewest = min((case for case in single if not _slower(case, fastest)), key=lambda case: case.threads)
            count, time = plural(fewest.threads, "thread"), f"{decimal(_median(fewest))} ms at p50"
            lines.append(f"{model.name} with {count} takes {time}; none of the other thread counts is faster.")
    return lines


def _slower(case: MeasuredCase, other: MeasuredCase) -> bool:
    own, others = case.samples, other.samples
    interval = ratio_interval(own.total_ms, own.turn, others.total_ms, others.turn, paired=True)
    return interval is not None and interval.verdict == "slower"


def _median(case: MeasuredCase) -> float:
    return sorted(case.samples.total_ms)[(len(case.samples.total_ms) - 1) // 2]


def _slowdown(case: MeasuredCase, cases: Sequence[MeasuredCase], sustained: float) -> str:
    name, minutes = case_name(case, cases), "a minute" if sustained == 60 else f"{sustained / 60:.3g} minutes"
    slowdown = case.slowdown
    if slowdown is None:
        return f"{name}: in {minutes} there were too few turns to say whether it slows down."
    figures = (
        f"the last quarter took {decimal(slowdown.ratio)}{MULTIPLY} the time of the first "
        f"(95 %: {decimal(slowdown.low)} to {decimal(slowdown.high)})"
    )
    return f"{name} {'SLOWS DOWN' if slowdown.throttles else 'keeps its speed'} over {minutes}: {figures}."
