"""``yolo12edge benchmark``: how fast models are on this machine, and what changed between two runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ._console import console, free_folder, out, plain, progress

if TYPE_CHECKING:
    from rich.table import Table

    from ..benchmark.compare import Comparison
    from ..benchmark.record import BenchmarkRecord

__all__ = ["app", "compare", "run"]

_ABOUT_TABLE = (
    "pre, infer and post are means and, but for batches, add up to the mean. stream frames/s is the throughput of "
    "Runtime.stream, which works on several frames at a time: it is not 1000 / p50."
)
_RUN, _COMPARE = "run", "compare"


class _RunUnlessNamed(TyperGroup):
    """``benchmark MODEL …`` is ``benchmark run MODEL …``; a model called "compare" can be named as "./compare"."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command where none is named."""
        named = bool(args) and args[0] in (_RUN, _COMPARE)
        return super().parse_args(ctx, args if named else [_RUN, *(args or ["--help"])])


_HELP = "Measure how fast models are on this machine; `benchmark compare A B` compares two such runs."

app = typer.Typer(cls=_RunUnlessNamed, help=_HELP, add_completion=False, rich_markup_mode="rich")


@app.command(_RUN)
def run(
    models: Annotated[
        list[Path], typer.Argument(help="Artifact directories, .onnx or .xml files or .safetensors checkpoints.")
    ],
    *,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="Images, folders or patterns to look at.", show_default="scenes, 1280x720"),
    ] = None,
    device: Annotated[str, typer.Option(help="As predict takes it.")] = "auto",
    threads: Annotated[
        str | None, typer.Option(help="Numbers of threads, such as 1,2,4.", show_default="physical cores")
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, such as 1,4,8.")] = "1",
    seconds: Annotated[float, typer.Option(help="Measuring time of each model, thread count and batch size.")] = 6.0,
    minutes: Annotated[
        float | None, typer.Option(help="Sustained run of all together instead: shows throttling.", show_default="off")
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to make.", show_default="runs/benchmark, with a number if it exists"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the results without samples as JSON.")] = False,
) -> None:
    """Measure how fast models are on this machine, taking turns, from frame to detections.

    Writes benchmark.json with every sample, benchmark.html and plots. `yolo12edge benchmark compare A B` compares two
    such runs. Ctrl-C while measuring writes what there is. Exit codes: 0 measured; 1 measured, but a model slows down
    or was not steady; 2 wrong usage or an error; 130 interrupted.
    """
    from ..benchmark.frames import describe_frames, image_frames, scene_frames
    from ..benchmark.results import write_results
    from ..benchmark.run import BenchmarkPlan, expected_seconds, run_benchmark

    plan = BenchmarkPlan(
        models=models,
        device=device,
        threads=(None,) if threads is None else _numbers(threads, "--threads"),
        batches=_numbers(batch, "--batch"),
        seconds=seconds,
        minutes=minutes,
    )
    folder = out_folder or free_folder(Path("runs/benchmark"))
    _refuse_used(folder)
    console.print(
        f"About {_duration(expected_seconds(plan))}, of which {_duration(plan.measuring_seconds)} are for measuring; "
        "slow models and large batches take longer."
    )
    try:
        with console.status("Preparing frames"):
            frames = image_frames(source) if source else scene_frames()
            facts = describe_frames(frames, ", ".join(source) if source else "rendered scenes")
        with _Progress() as shown:
            record = run_benchmark(
                plan, frames, facts, command=["yolo12edge", *map(shlex.quote, sys.argv[1:])], progress=shown.update
            )
        notes = [*record.notes, *write_results(record, folder)]
    except KeyboardInterrupt:
        console.print("nothing was written")
        raise typer.Exit(130) from None
    if json:
        typer.echo(_json_of(record, folder).decode())
    else:
        out.print(_table(record))
        out.print(_ABOUT_TABLE)
        for line in record.verdict:
            out.print(plain(line, style="bold"), soft_wrap=True)
        out.print(plain(f"Results in {folder}: benchmark.html, benchmark.json"), soft_wrap=True)
    for note in notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    if record.interrupted:
        raise typer.Exit(130)
    if any(case.slowdown is not None and case.slowdown.throttles for case in record.cases) or not all(
        case.warm_up.steady for case in record.cases
    ):
        raise typer.Exit(1)


@app.command(_COMPARE)
def compare(
    a: Annotated[Path, typer.Argument(help="benchmark.json or its folder: what to compare with.")],
    b: Annotated[Path, typer.Argument(help="benchmark.json or its folder: what to compare.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Compare two runs: ratios of the times in B to those in A, with 95 % confidence intervals.

    Exit codes: 0 nothing in B is slower; 1 something is, by the median or the 99th percentile; 2 wrong usage or an
    error.
    """
    from dataclasses import asdict

    import msgspec

    from ..benchmark.compare import compare_records
    from ..benchmark.record import BenchmarkRecord

    comparison = compare_records(*(BenchmarkRecord.load(path) for path in (a, b)))
    if json:
        facts = {
            "a": str(a),
            "b": str(b),
            "cases": [{**asdict(case), "verdict": case.verdict, "slower": case.slower} for case in comparison.cases],
            "same_run": comparison.same_run,
            "notes": comparison.notes,
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
    elif comparison.same_run:
        out.print("A and B are the same run: there is nothing to compare.")
    else:
        _print_comparison(comparison)
    if any(case.slower for case in comparison.cases):
        raise typer.Exit(1)


class _Progress:
    """One bar after the other, a bar for each step of a run."""

    def __init__(self) -> None:
        self._step = ""
        self._bar: Any = None
        self._steps: Any = None

    def update(self, step: str, done: float, total: float) -> None:
        """Show how far a step is; a new name begins a new bar."""
        if step != self._step:
            self._close()
            self._step = step
            self._bar = progress(step, max(1, round(total)), unit="seconds" if step == "Measuring" else "steps")
            self._steps = self._bar.__enter__()
        self._steps.update(round(done))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()


def _numbers(text: str, option: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 0 < len(part) < 6 and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is no list of numbers from 1, such as 1,2,4", param_hint=option)
    return tuple(dict.fromkeys(map(int, parts)))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _refuse_used(folder: Path) -> None:
    """Say at once, not after minutes of measuring, that the results could not be written."""
    from ..errors import InputError

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder", remedy="name another with --out")


def _json_of(record: BenchmarkRecord, folder: Path) -> bytes:
    import msgspec

    facts = msgspec.to_builtins(record)
    for case in facts["cases"]:
        del case["samples"]
    facts["folder"] = str(folder)
    return msgspec.json.format(msgspec.json.encode(facts), indent=2)


def _table(record: BenchmarkRecord) -> Table:
    from rich.table import Table

    from ..benchmark.percentiles import PERCENTS
    from ..benchmark.verdict import case_name
    from ..reports.formats import NONE, decimal

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("ms of a call", overflow="fold")
    supported = {item.percent for case in record.cases for item in case.summary.percentiles}
    percents = [percent for percent in PERCENTS if percent in supported]
    for head in (
        "calls",
        *(f"p{percent:g}" for percent in percents),
        "jitter",
        "mean",
        "pre",
        "infer",
        "post",
        "stream frames/s",
    ):
        table.add_column(head, justify="right")
    for case in record.cases:
        summary = case.summary
        shown = {item.percent: decimal(item.ms) for item in summary.percentiles}
        table.add_row(
            plain(case_name(case, record.cases)),
            f"{summary.samples:,}",
            *(shown.get(percent, NONE) for percent in percents),
            decimal(summary.jitter_ms),
            *(decimal(value) for value in (summary.mean_ms, summary.pre_ms, summary.infer_ms, summary.post_ms)),
            decimal(case.frames_per_s, 1),
        )
    return table


def _print_comparison(comparison: Comparison) -> None:
    from rich.table import Table

    from ..reports.formats import NONE, decimal

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", overflow="fold")
    for head in ("A, ms", "B, ms", "p50: B ÷ A (95 %)", "p99: B ÷ A (95 %)"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("B is")
    styles = {"faster": "green", "slower": "red", "cannot tell": "yellow"}
    for case in comparison.cases:
        intervals = [
            NONE
            if interval is None
            else f"{decimal(interval.ratio)} ({decimal(interval.low)} to {decimal(interval.high)})"
            for interval in (case.median, case.p99)
        ]
        verdict = case.verdict.replace("no difference", "no different")
        if case.slower and case.verdict != "slower":
            verdict += "; slower at p99"
        table.add_row(
            plain(case.name),
            decimal(case.a_ms),
            decimal(case.b_ms),
            *intervals,
            plain(verdict, style=styles.get(case.verdict, "")),
        )
    out.print(table)
    if any(case.verdict == "no difference" for case in comparison.cases):
        out.print("No different means: as far as the samples can show.")
    if any(case.verdict == "cannot tell" for case in comparison.cases):
        out.print("Cannot tell means: the interval reaches further than 10 % either way; measure longer.")
    for note in comparison.notes:
        out.print(plain(f"Note: {note}"), soft_wrap=True)
