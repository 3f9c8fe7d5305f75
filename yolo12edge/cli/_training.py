"""What commands that train share: the look at the dataset before a run, and what is shown of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ._console import console, progress

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..training import EpochRecord, TrainConfig
    from ..training.optim import Plan
    from ..training.transfer import Transfer

__all__ = ["RESUME", "RunDisplay", "check_labels", "given_options"]

RESUME = typer.Option(help="Continue the run of this folder with its own settings, and no other option.")


def given_options(ctx: typer.Context, *, resume: Path | None, restart: str) -> dict[str, Any]:
    """Return what the command line names, by parameter.

    Args:
        ctx: Of the command.
        resume: The run that is to go on.
        restart: How a run with other settings starts.

    Raises:
        InputError: If a run is to go on and there are other options beside.
    """
    given = {name: value for name, value in ctx.params.items() if _is_given(ctx, name)}
    if resume is not None and len(given) > 1:
        named = [one for one in ctx.command.params if one.name in given and one.name != "resume"]
        others = ", ".join(one.opts[0] if one.opts[0].startswith("-") else one.opts[0].upper() for one in named)
        from ..errors import InputError

        raise InputError(
            f"--resume goes on with the settings of the run, and {others} would change them",
            remedy=f"leave {others} out, or {restart}",
        )
    return given


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_labels(dataset: Dataset) -> None:
    """Check the dataset and say what is in it; errors end the command here."""
    from rich.markup import escape

    from ..data.forms import FORMS
    from ..data.report import check_dataset

    total = sum(len(dataset.splits.get(split, ())) for split in ("train", "val"))
    with progress("Checking the dataset", total, unit="images") as steps:
        report = check_dataset(dataset, progress=steps.update)
    for problem in report.warnings[:10]:
        console.print(f"[yellow]warning:[/] {escape(str(problem))}", soft_wrap=True)
    if len(report.warnings) > 10:
        console.print(f"[yellow]… and {len(report.warnings) - 10} more warnings[/]")
    report.raise_for_errors()
    for split, statistics in report.splits.items():
        what = f"{sum(statistics.boxes)} {FORMS[dataset.task].counted}"
        console.print(f"{split}: {statistics.images} images, {what}", markup=False)


class RunDisplay:
    """Shows a run: a bar over the steps of all epochs, a line per epoch.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._progress = progress("Training", None, unit="steps")

    def __enter__(self) -> RunDisplay:
        self._steps = self._progress.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.__exit__(*details)  # type: ignore[arg-type]

    def start(self, plan: Plan, transfer: Transfer | None) -> None:
        """Say what the plan is."""
        config = plan.config
        console.print(
            f"YOLO12{config.scale} {config.variant} for {config.task}, {config.epochs} epochs at "
            f"{config.image_size} px, batch {config.batch} x {plan.accumulate}, {plan.optimizer}, "
            f"learning rate {plan.lr:g}; run folder {config.out}",
            markup=False,
            soft_wrap=True,
        )
        if transfer is not None:
            console.print(f"Start from {config.weights}:", markup=False, soft_wrap=True)
            for line in transfer.describe():
                console.print(f"  {line}", markup=False, soft_wrap=True)

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        self._steps.update((epoch - 1) * steps + step, self._config.epochs * steps, note=f"epoch {epoch}")

    def epoch(self, record: EpochRecord) -> None:
        """Print what the epoch gave."""
        losses = "  ".join(
            f"{name.removeprefix('train/')} {value:.3f}"
            for name, value in record.values.items()
            if name.startswith("train/")
        )
        figures = "  ".join(f"{name} {100 * value:5.2f}" for name, value in list(record.figures.items())[:2])
        console.print(
            f"epoch {record.epoch:>3}/{self._config.epochs}  loss: {losses}   val: {figures}   "
            f"{record.values['seconds']:.0f} s" + ("  best" if record.best else ""),
            markup=False,
            soft_wrap=True,
        )
