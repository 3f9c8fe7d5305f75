"""``tune``: one training run after another, each with settings that a ``Search`` proposes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import InputError, Yolo12EdgeError
from ..config import TrainConfig
from ..module import nan_to_zero
from ..run import EpochRecord, RunFiles
from ..trainer import resume, train
from .records import State, Trial, best_of, write_best, write_tables
from .search import Search
from .space import with_values

__all__ = ["Outcome", "Tuned", "finished", "folder_of", "run_trial", "summarise", "tidy", "tune"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended, and why if it failed."""

    state: State
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search ended with.

    Attributes:
        trials: All.
        best: The one with the best score, whose settings are in ``best.yaml``; None if none went to its end.
        config: Its run.
    """

    trials: list[Trial]
    best: Trial | None
    config: TrainConfig | None


class _PrunedError(Exception):
    pass


def tune(
    base: TrainConfig,
    search: Search,
    *,
    trials: int,
    on_trial: Callable[[Trial], None] | None = None,
    on_step: Callable[[int, int, int], None] | None = None,
    on_end: Callable[[Trial], None] | None = None,
) -> Tuned:
    """Run trials until so many have ended; the runs are in ``base.out / "trials"``, results beside.

    Of a run that has ended, what it needs to go on is deleted, and its weights unless it is the best.

    Args:
        base: The run whose settings are varied.
        search: Proposes settings, and remembers results.
        trials: That have ended, those of former calls counted.
        on_trial: Called before each trial.
        on_step: As in ``train``.
        on_end: Called after each trial.

    Raises:
        InputError: If every trial failed.
    """
    while finished(search) < trials:
        trial = search.ask()
        if trial is None:
            break
        if on_trial is not None:
            on_trial(trial)
        begin = time.monotonic()
        config = replace(with_values(base, trial.values), out=folder_of(base, trial))

        def report(epoch: int, score: float, number: int = trial.number) -> bool:
            return search.report(number, epoch, score)

        outcome = run_trial(config, known=trial.scores, report=report, on_step=on_step)
        search.tell(trial.number, outcome.state, seconds=round(time.monotonic() - begin, 1), note=outcome.note)
        tidy(base, search)
        summarise(base, search)
        if on_end is not None:
            on_end(search.trials()[trial.number])
    return summarise(base, search)


def finished(search: Search) -> int:
    """Return how many trials have ended."""
    return sum(trial.state in ("done", "pruned", "failed") for trial in search.trials())


def folder_of(base: TrainConfig, trial: Trial) -> Path:
    """Return where the run of a trial is; a trial that goes on in the place of another has its folder."""
    return base.out / "trials" / f"{trial.origin:04}"


def run_trial(
    config: TrainConfig,
    *,
    known: dict[int, float],
    report: Callable[[int, float], bool],
    on_step: Callable[[int, int, int], None] | None = None,
) -> Outcome:
    """Run a trial, or go on with what is there of it.

    Args:
        config: The run.
        known: Scores of the epochs that are done.
        report: Takes an epoch and its score; says whether to stop.
        on_step: As in ``train``.
    """

    def watch(record: EpochRecord) -> None:
        if report(record.epoch, nan_to_zero(next(iter(record.figures.values())))):
            raise _PrunedError

    files = RunFiles(config.out)
    try:
        if files.state.is_file():
            if len(known) < config.epochs:
                resume(config.out, on_step=on_step, on_epoch=watch)
        else:
            shutil.rmtree(config.out, ignore_errors=True)  # ended before its first epoch did
            train(config, on_step=on_step, on_epoch=watch)
    except _PrunedError:
        return Outcome("pruned")
    except Yolo12EdgeError as error:
        return Outcome("failed", str(error))
    return Outcome("done")


def tidy(base: TrainConfig, search: Search) -> None:
    """Delete what runs that have ended need to go on, and the weights of all but the best."""
    every = search.trials()
    best = best_of(every)
    for trial in every:
        if trial.state in ("running", "killed"):
            continue
        files = RunFiles(folder_of(base, trial))
        keep = best is not None and trial.origin == best.origin
        for path in (files.state, files.last) if keep else (files.state, files.last, files.best):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def summarise(base: TrainConfig, search: Search) -> Tuned:
    """Write the tables and ``best.yaml``, and return what is in them.

    Raises:
        InputError: If every trial failed.
    """
    every = list(search.trials())
    ended = [trial for trial in every if trial.state in ("done", "pruned", "failed")]
    write_tables(base.out, every)
    if len(ended) >= 3 and all(trial.state == "failed" for trial in ended):
        raise InputError(f"each of {len(ended)} trials failed; the last: {ended[-1].note}", remedy=f"see {base.out}")
    best = best_of(every)
    if best is None:
        return Tuned(every, None, None)
    config = replace(with_values(base, best.values), out=folder_of(base, best))
    write_best(base.out / "best.yaml", config, best)
    return Tuned(every, best, config)
