"""``compare_records``: what changed between two runs, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bootstrap import RatioInterval, ratio_interval
from .percentiles import percentiles_of
from .record import BenchmarkRecord, MeasuredCase
from .verdict import case_name

__all__ = ["CaseComparison", "Comparison", "compare_records"]

_MACHINE_KEYS = ("cpu", "board", "machine", "os", "python", "cores_usable", "memory_bytes")


@dataclass(frozen=True, slots=True)
class CaseComparison:
    """One case of both runs. Ratios are the time in B over that in A: below 1, B is faster.

    Attributes:
        name: Of the case; of both where they differ.
        a_ms: Median in A.
        b_ms: Median in B.
        median: Ratio of the medians; None with too few turns.
        p99: Ratio of the 99th percentiles; None where the samples of one do not support it.
    """

    name: str
    a_ms: float
    b_ms: float
    median: RatioInterval | None
    p99: RatioInterval | None

    @property
    def verdict(self) -> str:
        """By the medians, as ``RatioInterval.verdict``, or ``"too few samples"``."""
        return "too few samples" if self.median is None else self.median.verdict

    @property
    def slower(self) -> bool:
        """Whether B is slower by the median or by the 99th percentile."""
        return any(interval is not None and interval.verdict == "slower" for interval in (self.median, self.p99))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        cases: What both have.
        notes: What else differs between them, and what only one has.
        same_run: Whether both are one and the same.
    """

    cases: list[CaseComparison]
    notes: list[str]
    same_run: bool = False


def compare_records(a: BenchmarkRecord, b: BenchmarkRecord) -> Comparison:
    """Compare the cases that both runs have: same name of the model, threads and batch.

    Runs of one case each are compared whatever their names.

    Raises:
        InputError: If they have no case in common.
    """
    own = {case.key: case for case in a.cases}
    pairs = [(own[case.key], case) for case in b.cases if case.key in own]
    if not pairs and len(a.cases) == len(b.cases) == 1:
        pairs = [(a.cases[0], b.cases[0])]
    if not pairs:
        names = [", ".join(case_name(case, record.cases) for case in record.cases[:10]) for record in (a, b)]
        raise InputError(
            f"the two runs have no case in common: A has {names[0]}; B has {names[1]}",
            expected="the same name of the model, threads and batch in both, or one case in each",
        )
    return Comparison([_compare(*pair, a, b) for pair in pairs], _notes(a, b, pairs), same_run=a == b)


def _compare(a: MeasuredCase, b: MeasuredCase, run_a: BenchmarkRecord, run_b: BenchmarkRecord) -> CaseComparison:
    names = dict.fromkeys((case_name(a, run_a.cases), case_name(b, run_b.cases)))
    if len(names) > 1 and a.key == b.key:
        names = dict.fromkeys([f"{a.model}, {a.threads} threads, batch {a.batch}"])
    medians = [float(np.quantile(case.samples.total_ms, 0.5, method="inverted_cdf")) for case in (a, b)]
    tails = all(percentiles_of(case.samples.total_ms, (99.0,)) for case in (a, b))
    return CaseComparison(
        name=" → ".join(names),
        a_ms=medians[0],
        b_ms=medians[1],
        median=_ratio(b, a, 0.5),
        p99=_ratio(b, a, 0.99) if tails else None,
    )


def _ratio(top: MeasuredCase, bottom: MeasuredCase, share: float) -> RatioInterval | None:
    sides = top.samples, bottom.samples
    return ratio_interval(sides[0].total_ms, sides[0].turn, sides[1].total_ms, sides[1].turn, share=share)


def _notes(a: BenchmarkRecord, b: BenchmarkRecord, pairs: Sequence[tuple[MeasuredCase, MeasuredCase]]) -> list[str]:
    """Say what differs besides the times; where nothing should, that is what the times may come from."""
    facts: list[tuple[object, ...]] = []
    for key in _MACHINE_KEYS:
        facts.append((key, a.environment.machine.get(key), b.environment.machine.get(key)))
    for name in ("settings", "versions"):
        values: tuple[dict[str, str], ...] = tuple(getattr(run.environment, name) for run in (a, b))
        facts += [(key, values[0].get(key), values[1].get(key)) for key in sorted({*values[0], *values[1]})]
    facts.append(("GPUs", *(", ".join(gpu.get("name", "") for gpu in run.environment.gpus) for run in (a, b))))
    facts.append(("frames", *(f"{run.source.source} ({run.source.digest[:12]})" for run in (a, b))))
    facts.append(("sustained seconds", a.sustained_s, b.sustained_s))
    notes = [f"{name} differ: {_text(old)} in A, {_text(new)} in B" for name, old, new in facts if old != new]
    models = [{model.name: model for model in run.models} for run in (a, b)]
    for case_a, case_b in pairs:
        sides = models[0][case_a.model], models[1][case_b.model]
        if sides[0].files != sides[1].files:
            kinds = dict.fromkeys(f"{side.precision} {side.format}" for side in sides)
            notes.append(f"{case_b.model}: the files of the model differ ({' → '.join(kinds)})")
        for what, old, new in (("engine", case_a.engine, case_b.engine), ("device", case_a.device, case_b.device)):
            if old != new:
                notes.append(f"{case_b.model}: {what} {old} in A, {new} in B")
    matched = {id(case) for pair in pairs for case in pair}
    for label, run in (("A", a), ("B", b)):
        alone = [case_name(case, run.cases) for case in run.cases if id(case) not in matched]
        if alone:
            notes.append(f"only in {label}: {'; '.join(alone)}")
    return list(dict.fromkeys(notes))


def _text(value: object) -> str:
    return "nothing" if value is None else str(value)[:200]
