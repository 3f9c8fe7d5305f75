"""``run_benchmark``: everything that ``yolo12edge benchmark`` measures, as one record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ..detections import Timing
from ..errors import InputError
from ..files import sha256_of
from ..foreign import model_in
from ..machine import machine_summary, nvidia_gpus
from ..manifest import Manifest
from ..reports.formats import plural
from ..runtimes import Runtime
from ..runtimes.lone_package import package_at, package_files
from .fresh_process import start_fresh
from .measuring import Runner, Samples, WarmUp, least_seconds, measure_in_turns, warm_up
from .record import (
    SCHEMA_VERSION,
    BenchmarkRecord,
    Environment,
    FreshStart,
    MeasuredCase,
    ModelFacts,
    SampleLists,
    SeriesEntry,
    SourceFacts,
    WarmUpFacts,
)
from .sensors import Sampler, machine_settings
from .summaries import slowdown_of, summary_of
from .verdict import verdict_lines

__all__ = ["BenchmarkPlan", "expected_seconds", "run_benchmark"]

Frames = Sequence[npt.NDArray[np.uint8]]
Progress = Callable[[str, float, float], None]

_FRESH_STARTS = 3
_STREAMS, _STREAM_S = 3, 0.8
_START_S, _WARM_UP_S = 1.5, 2.0  # about what a fresh start and warming up take, of models that are not slow
_PACKAGES = (
    "yolo12edge",
    "numpy",
    "opencv-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-bindings",
    "pycuda",
    "torch",
)


@dataclass(frozen=True, slots=True)
class BenchmarkPlan:
    """What to measure.

    Attributes:
        models: What ``Runtime`` opens.
        device: As ``Runtime`` takes it.
        threads: Numbers of threads; None is the Runtime's own choice.
        batches: Batch sizes.
        seconds: Measuring time of each case.
        minutes: Of one sustained measurement of all cases together, in place of ``seconds``.
    """

    models: Sequence[Path]
    device: str = "auto"
    threads: Sequence[int | None] = (None,)
    batches: Sequence[int] = (1,)
    seconds: float = 6.0
    minutes: float | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("there is no model to measure", expected="artifacts or model files")
        if min(self.batches, default=0) < 1 or max(self.batches) > 1024:
            raise InputError(f"batch sizes are {list(self.batches)}", expected="1 to 1024")
        for name, value, most in (("seconds", self.seconds, 3600), ("minutes", self.minutes, 60)):
            if value is not None and not 0 < value <= most:
                raise InputError(f"--{name} is {value:g}", expected=f"more than 0 and at most {most}")
        for path in self.models:
            if not path.exists():
                raise InputError(f"{path} does not exist", expected="an artifact, a model file or a checkpoint")

    @property
    def measuring_seconds(self) -> float:
        """How long is measured in all; cases of slow models or large batches may need more for the fewest turns."""
        cases = len(self.models) * len(set(self.threads)) * len(set(self.batches))
        return self.seconds * cases if self.minutes is None else 60 * self.minutes


@dataclass(slots=True)
class _Case:
    """A case while it is measured."""

    model: str
    runtime: Runtime
    batch: int
    run: Runner
    warm_up: WarmUp | None = None
    objects: float = 0.0
    rates: list[float] = field(default_factory=list)


def expected_seconds(plan: BenchmarkPlan) -> float:
    """Return about how long a run takes in all."""
    sessions = len(plan.models) * len(set(plan.threads))
    starting = _FRESH_STARTS * _START_S * len(plan.models) + _WARM_UP_S * sessions * len(set(plan.batches))
    streaming = _STREAMS * _STREAM_S * sessions if 1 in plan.batches else 0.0
    return starting + plan.measuring_seconds + streaming


def run_benchmark(
    plan: BenchmarkPlan,
    frames: Frames,
    source: SourceFacts,
    *,
    command: Sequence[str] = (),
    progress: Progress = lambda step, done, total: None,
) -> BenchmarkRecord:
    """Measure: fresh starts, warm-up, latency in turns, throughput, and what sensors tell meanwhile.

    Args:
        plan: What to measure.
        frames: uint8 BGR images.
        source: What they are.
        command: The command line, for the record.
        progress: Called with (step, done, total); the unit depends on the step.

    Returns:
        The record. Ctrl-C while measuring ends that; the record then holds what there is, and says so.

    Raises:
        KeyboardInterrupt: On Ctrl-C before there is anything.
        Yolo12EdgeError: As ``Runtime`` raises them, if a model cannot be opened or run.
    """
    names = dict(zip(_names(plan.models), plan.models, strict=True))
    fresh = _start_all(names, frames[0], plan, progress)
    zero = time.perf_counter()
    notes: list[str] = []
    with ExitStack() as stack:
        cases = _open_all(names, frames, plan, stack)
        manifests = {case.model: case.runtime.manifest for case in cases}
        models = [_describe(name, path, manifests[name], fresh[name]) for name, path in names.items()]
        for index, case in enumerate(cases):
            progress("Warming up", index, len(cases))
            case.objects = float(np.mean([len(case.runtime(frame)) for frame in frames]))
            case.warm_up = warm_up(case.run)
        progress("Warming up", len(cases), len(cases))
        with Sampler(zero=zero) as sampler:
            seconds = plan.seconds * len(cases) if plan.minutes is None else 60 * plan.minutes
            call_ms = [case.warm_up.call_ms for case in cases if case.warm_up]
            shown = max(seconds, least_seconds(call_ms))
            begin = time.perf_counter()
            samples, interrupted = measure_in_turns(
                [case.run for case in cases],
                call_ms,
                seconds=seconds,
                zero=zero,
                progress=lambda done: progress("Measuring", min(done, shown), shown),
            )
            measured_s = time.perf_counter() - begin
            interrupted = interrupted or _stream(cases, frames, progress)
        notes += sampler.notes
        if interrupted:
            notes.append(f"interrupted after {measured_s:.0f} s of measuring: these are the results until then")
        sustained = None if plan.minutes is None else round(min(seconds, measured_s), 1)
        measured = [_measured(case, own, sustained) for case, own in zip(cases, samples, strict=True)]
    notes += [
        f"{case.model} with {plural(case.threads, 'thread')}, batch {case.batch}, did not become steady in "
        f"{case.warm_up.seconds:.1f} s of warming up: something else disturbs this machine, or its clock changes"
        for case in measured
        if not case.warm_up.steady
    ]
    return BenchmarkRecord(
        schema_version=SCHEMA_VERSION,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=[word[:500] for word in command][:200],
        environment=_environment(),
        source=source,
        sustained_s=sustained,
        interrupted=interrupted,
        models=models,
        cases=measured,
        sensors=[SeriesEntry(**asdict(series)) for series in sampler.series()],
        notes=notes,
        verdict=verdict_lines(models, measured, sustained),
    )


def _names(models: Sequence[Path]) -> list[str]:
    """Return a name for each model, all different: that of its file or folder, with the folder before it if needed."""
    names = [_name(path) for path in models]
    names = [
        name if names.count(name) == 1 else f"{path.resolve().parent.name}/{name}"
        for name, path in zip(names, models, strict=True)
    ]
    return [
        name if name not in names[:index] else f"{name} ({names[:index].count(name) + 1})"
        for index, name in enumerate(names)
    ]


def _name(path: Path) -> str:
    package = package_at(path)
    if package is None or package[1] is None:
        return path.resolve().name
    return f"{package[0].resolve().name}/{package[1]}"  # one function of it


def _start_all(
    names: dict[str, Path], frame: npt.NDArray[np.uint8], plan: BenchmarkPlan, progress: Progress
) -> dict[str, FreshStart]:
    """Start each model in fresh processes, in turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    total = _FRESH_STARTS * len(names)
    for number in range(total):
        name = list(names)[number % len(names)]
        progress("Starting afresh", number, total)
        found[name].append(start_fresh(names[name], frame, device=plan.device, threads=plan.threads[0]))
    progress("Starting afresh", total, total)
    return {
        name: msgspec.convert({key: [start[key] for start in starts] for key in starts[0]}, FreshStart)
        for name, starts in found.items()
    }


def _open_all(names: dict[str, Path], frames: Frames, plan: BenchmarkPlan, stack: ExitStack) -> list[_Case]:
    """Open each model once for each number of threads; all stay open, so that they can take turns."""
    cases: list[_Case] = []
    for threads in dict.fromkeys(plan.threads):
        for name, path in names.items():
            runtime = stack.enter_context(Runtime(path, device=plan.device, threads=threads))
            if any(case.model == name and case.runtime.threads == runtime.threads for case in cases):
                continue  # the Runtime's own choice is one of the numbers
            for batch in dict.fromkeys(plan.batches):
                cases.append(_Case(name, runtime, batch, _runner(runtime, frames, batch)))
    return cases


def _runner(runtime: Runtime, frames: Frames, batch: int) -> Runner:
    """Return what detects in one batch after the other, in frames drawn by chance, so that no turn has its own."""
    rng = np.random.default_rng(0)

    def run() -> list[Timing]:
        chosen = [frames[index] for index in rng.integers(len(frames), size=batch)]
        found = [runtime(chosen[0])] if batch == 1 else runtime.batch(chosen)
        return [detections.timing for detections in found if detections.timing is not None]

    return run


def _stream(cases: Sequence[_Case], frames: Frames, progress: Progress) -> bool:
    """Measure the throughput of each model, in turns; return whether Ctrl-C ended it early."""
    singles = [case for case in cases if case.batch == 1]
    try:
        for number in range(total := _STREAMS * len(singles)):
            progress("Streaming", number, total)
            case = singles[number % len(singles)]
            case.rates.append(_stream_rate(case.runtime, frames))
            progress("Streaming", number + 1, total)
    except KeyboardInterrupt:
        return True
    return False


def _stream_rate(runtime: Runtime, frames: Frames) -> float:
    """Return the frames per second of ``Runtime.stream``, from the first result to the last."""
    end = time.perf_counter() + _STREAM_S

    def feed() -> Iterator[npt.NDArray[np.uint8]]:
        for count, frame in enumerate(cycle(frames)):
            if count >= 3 and time.perf_counter() >= end:
                return
            yield frame

    with runtime.stream(feed()) as stream:
        stamps = [time.perf_counter() for _ in stream]
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def _measured(case: _Case, samples: Samples, sustained: float | None) -> MeasuredCase:
    warm = case.warm_up
    assert warm is not None
    return MeasuredCase(
        model=case.model,
        threads=case.runtime.threads,
        batch=case.batch,
        engine=case.runtime.engine,
        device=case.runtime.device,
        warm_up=WarmUpFacts(calls=warm.calls, seconds=round(warm.seconds, 4), steady=warm.steady),
        summary=summary_of(samples),
        frames_per_s=float(np.median(case.rates)) if case.rates else None,
        slowdown=None if sustained is None else slowdown_of(samples),
        objects_per_frame=case.objects,
        samples=SampleLists(**asdict(samples)),
    )


def _describe(name: str, path: Path, manifest: Manifest, fresh: FreshStart) -> ModelFacts:
    files = {entry.path: (entry.sha256, entry.bytes) for entry in manifest.files}
    if not files:  # a lone file
        lone, package = model_in(path), package_at(path)
        parts = [lone, *([lone.with_suffix(".bin")] if lone.suffix == ".xml" else [])]
        if package is not None:
            parts = package_files(package[0])
        files = {part.name: (sha256_of(part), part.stat().st_size) for part in parts}
    return ModelFacts(
        name=name[:500],
        format=manifest.format,
        precision=manifest.precision,
        scale=manifest.scale,
        width=manifest.input.width,
        height=manifest.input.height,
        files={part: digest for part, (digest, _) in files.items()},
        bytes=sum(size for _, size in files.values()),
        accuracy=manifest.report.accuracy,
        fresh_start=fresh,
    )


def _environment() -> Environment:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Environment(machine=machine_summary(), settings=machine_settings(), gpus=nvidia_gpus(), versions=versions)
