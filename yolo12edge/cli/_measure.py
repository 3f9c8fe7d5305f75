"""What ``doctor --measure`` does: models and thread counts timed in turn on this device, and what that advises.

YOLO12n at 640 px lies in the package in FP32 and INT8, as exported for each engine but with weights that take no room
(``benchmarks/make_probe_models.py``): it takes as long as a real one, and detects nothing.
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Yolo12EdgeError

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..runtimes import Runtime

__all__ = [
    "Advised",
    "Candidate",
    "Measured",
    "advise",
    "bundled",
    "bundled_model",
    "given",
    "measure",
    "thread_counts",
]

_FRAME = (720, 1280, 3)
_FEWEST, _MOST = 3, 40  # repeats
_FIRST_PART = 0.65  # of the time goes into comparing models, the rest into thread counts
_WORTH = 1.1  # how much faster INT8 must be than float: it may cost accuracy
_ALIKE = 1.05  # a thread more must bring more than that
_DISTURBED = 1.2  # how far the times of one and the same model may lie apart in the two steps


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may be the one to use.

    Attributes:
        name: For people.
        open: Opens it with that many threads.
    """

    name: str
    open: Callable[[int], Runtime]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model on an engine with a number of threads.

    Attributes:
        step: ``models``, which compares models on all cores, or ``threads``, which compares thread counts of the best.
        median_ms: Of one frame of 1280x720, with pre- and postprocessing; None if it could not be run.
        problem: Why not, or "".
    """

    step: str
    model: str
    engine: str
    device: str
    precision: str
    threads: int
    median_ms: float | None
    samples: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Advised:
    """What to use here.

    Attributes:
        best: The model, engine, device, precision and thread count.
        sentence: The same for people, with the reason.
    """

    best: Measured
    sentence: str


def thread_counts(cores: int) -> list[int]:
    """Return 1, 2, 4, … and the number of cores itself."""
    return sorted({cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)})


def bundled(engines: Iterable[tuple[str, Sequence[str]]]) -> list[Candidate]:
    """Return the models of the package for these engines.

    On a GPU or NPU only FP32 is among them: the INT8 models are made for CPUs.

    Args:
        engines: Name of each usable engine, and the devices that it says it has.
    """
    from ..machine import is_x86

    found = []
    for engine, devices in engines:
        if engine == "onnxruntime":
            kinds = {"cpu": ["fp32", "int8-ort-x86" if is_x86() else "int8-ort-arm"]}
            kinds |= {"cuda": ["fp32"]} if "CUDAExecutionProvider" in devices else {}
        elif engine == "openvino":
            kinds = {"cpu": ["fp32", "int8-openvino"]}
            kinds |= {device: ["fp32"] for device in ("gpu", "npu") if device.upper() in {d[:3] for d in devices}}
        else:
            continue
        for device, names in kinds.items():
            found += [Candidate("YOLO12n", partial(_open_bundled, engine, device, name)) for name in names]
    return found


def given(models: Sequence[Path]) -> list[Candidate]:
    """Return models of the user's own."""
    from ..runtimes import Runtime

    return [Candidate(str(path), partial(_open_given, Runtime, path)) for path in models]


def measure(
    candidates: Sequence[Candidate], *, cores: int, seconds: float, progress: Callable[[str], Any]
) -> list[Measured]:
    """Compare the models on all cores, then the thread counts of the fastest.

    Two steps, because all combinations at once would not fit into the memory of a small device.

    Args:
        candidates: What to compare; one that cannot be opened is in the result, with the reason.
        cores: Physical cores.
        seconds: About how long it may take in all; a slow device takes longer, for a few repeats of each.
        progress: Shows a step, given its name; a context manager of ``callback(done, total)``.
    """
    begin = time.monotonic()
    rows = _race("models", [(item, cores) for item in candidates], begin + _FIRST_PART * seconds, progress)
    chosen = _choose(rows)
    counts = thread_counts(cores)
    if chosen is None or len(counts) == 1 or not chosen.device.startswith("cpu"):
        return rows
    winner = candidates[rows.index(chosen)]
    return [*rows, *_race("threads", [(winner, count) for count in counts], begin + seconds, progress)]


def advise(rows: Sequence[Measured]) -> Advised | None:
    """Say which model, engine and thread count to use; None if nothing could be run."""
    models = [row for row in rows if row.step == "models"]
    chosen = _choose(models)
    if chosen is None:
        return None
    best, milliseconds, warning = _threads(rows, chosen)
    threads = f"{best.threads} thread{'s' if best.threads > 1 else ''}"
    words = (
        f"Advised here: {best.model} in {best.precision.upper()} with {best.engine} on {best.device}, {threads}: "
        f"{milliseconds:.1f} ms a frame. {_about_int8(models, chosen)}"
    )
    return Advised(best, f"{words.strip()} {warning}".strip())


def _threads(rows: Sequence[Measured], chosen: Measured) -> tuple[Measured, float, str]:
    """Return the row with the thread count to use, its time in ms, and a warning or "".

    The chosen model was timed in both steps with its default thread count: where the two times agree they are pooled,
    where they do not, nothing can be concluded from the difference between the steps or within the second.
    """
    timed = {row: _time(row) for row in rows if row.step == "threads" and row.median_ms is not None}
    again = next((row for row in timed if row.threads == chosen.threads), None)
    if again is None:
        timed[chosen] = _time(chosen)
    else:
        first, second = _time(chosen), _time(again)
        if max(first, second) > _DISTURBED * min(first, second):
            warning = (
                f"The machine was disturbed: this took {first:.1f} ms at first and {second:.1f} ms later. So the "
                "number of threads is left at its default: measure again when nothing else runs."
            )
            return chosen, first, warning
        timed[again] = (first * chosen.samples + second * again.samples) / (chosen.samples + again.samples)
    quickest = min(timed.values())
    best = min((row for row in timed if timed[row] <= _ALIKE * quickest), key=lambda row: row.threads)
    return best, timed[best], ""


def _about_int8(models: Sequence[Measured], chosen: Measured) -> str:
    int8, floating = (_choose([row for row in models if (row.precision == "int8") == it]) for it in (True, False))
    if int8 is None or floating is None:
        return ""
    names = [
        row.engine if int8.device == floating.device else f"{row.engine} on {row.device}" for row in (int8, floating)
    ]
    ratio = f"INT8 with {names[0]} is {_time(floating) / _time(int8):.2f}x as fast as float with {names[1]}"
    if chosen.precision == "int8":
        return f"{ratio}; `yolo12edge val` says what it costs in accuracy."
    return f"{ratio}, which is not worth a loss of accuracy."


def _choose(rows: Sequence[Measured]) -> Measured | None:
    """Return the fastest; INT8 only if it is faster than float by more than a little."""
    ordered = sorted((row for row in rows if row.median_ms is not None), key=_time)
    floating = next((row for row in ordered if row.precision != "int8"), None)
    if floating is not None and _time(floating) < _WORTH * _time(ordered[0]):
        return floating
    return ordered[0] if ordered else None


def _time(row: Measured) -> float:
    """Return the time of a row that has one."""
    assert row.median_ms is not None
    return row.median_ms


def _race(
    step: str, runners: Sequence[tuple[Candidate, int]], deadline: float, progress: Callable[[str], Any]
) -> list[Measured]:
    """Time several models in turn until the deadline, but each a few times at least."""
    import numpy as np

    from ..benchmark.latency import interleaved_latency

    frame = np.random.default_rng(0).integers(0, 256, _FRAME, dtype=np.uint8)
    rows: list[Measured] = []
    calls: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack, progress(step) as update:
        done = 0

        def call(runtime: Runtime, frame: Any) -> None:
            nonlocal done
            runtime(frame)
            update(done := done + 1, None)

        cost = 0.0
        for number, (candidate, threads) in enumerate(runners):
            try:
                runtime = stack.enter_context(candidate.open(threads))
            except Yolo12EdgeError as error:
                rows.append(Measured(step, candidate.name, "", "", "", threads, None, 0, str(error)))
                continue
            precision = runtime.manifest.precision
            rows.append(Measured(step, candidate.name, runtime.engine, runtime.device, precision, threads, None, 0))
            calls[str(number)] = partial(call, runtime, frame)
            begin = time.monotonic()
            call(runtime, frame)
            cost += time.monotonic() - begin
        if not calls:
            return rows
        fits = (deadline - time.monotonic()) / (2 * cost + 0.005 * len(calls))
        repeats = min(max(int(fits), _FEWEST), _MOST)
        update(done, done + len(calls) * (1 + repeats * (2 if len(calls) > 1 else 1)))
        times = interleaved_latency(calls, repeats=repeats, warmup=1)
    for key, summary in times.items():
        rows[int(key)] = replace(rows[int(key)], median_ms=round(summary.median_ms, 3), samples=repeats)
    return rows


def _open_given(kind: Callable[..., Runtime], path: Path, threads: int) -> Runtime:
    return kind(path, threads=threads)


def bundled_model(kind: str) -> tuple[bytes, Manifest]:
    """Return a model of the package, ONNX, and its manifest.

    Args:
        kind: ``fp32``, ``int8-ort-x86``, ``int8-ort-arm`` or ``int8-openvino``.
    """
    from ..assets import PROBES
    from ..manifest import SCHEMA_VERSION, InputSpec, Manifest, OutputSpec, Provenance

    classes = 6
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        task="detect",
        scale="n",
        variant="v1",
        class_names=[str(number) for number in range(classes)],
        format="onnx",
        precision="int8" if kind.startswith("int8") else "fp32",
        input=InputSpec(name="images", batch=1, height=640, width=640),
        outputs=[
            OutputSpec(name="boxes", role="boxes", shape=(1, 4, 8400)),
            OutputSpec(name="scores", role="scores", shape=(1, classes, 8400)),
        ],
        provenance=Provenance(checkpoint_sha256="0" * 64, created="", versions={}),
    )
    return lzma.decompress((PROBES / f"probe-{kind}.onnx.xz").read_bytes()), manifest


def _open_bundled(engine: str, device: str, kind: str, threads: int) -> Runtime:
    from ..runtimes import Backend, Runtime

    model, manifest = bundled_model(kind)
    backend: Backend
    if engine == "openvino":
        from ..runtimes.openvino_backend import OpenVinoBackend

        backend = OpenVinoBackend(model, device=device, threads=threads, pixels=manifest.input)
    else:
        from ..runtimes.ort_backend import OrtBackend

        backend = OrtBackend(model, device=device, threads=threads)
    return Runtime.of(backend, manifest, warmup=1)
