"""``Trial``: one set of settings and how far it came; and the tables that are written of all."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from ...files import atomic_file
from ..config import TrainConfig
from .space import Value, settings_of

__all__ = ["State", "Trial", "best_of", "write_best", "write_tables"]

State = Literal["running", "done", "pruned", "failed", "killed"]


@dataclass(slots=True)
class Trial:
    """One set of settings and how far it came.

    Attributes:
        number: In the study, from 0.
        values: Of the settings that are searched, by dotted path.
        state: ``pruned`` was stopped because others were better by then; ``failed`` ended with an error; ``killed`` did
            not end at all, and another trial goes on in its place.
        scores: Validation score after each epoch, by epoch from 1.
        seconds: Wall time from start to end; None if it did not end.
        note: Why it failed.
        retry_of: The trial whose run this one continues.
    """

    number: int
    values: dict[str, Value]
    state: State = "running"
    scores: dict[int, float] = field(default_factory=dict)
    seconds: float | None = None
    note: str = ""
    retry_of: int | None = None

    @property
    def score(self) -> float | None:
        """The best so far."""
        return max(self.scores.values(), default=None)

    @property
    def origin(self) -> int:
        """Number of the trial that began the run: its folder is called so."""
        return self.number if self.retry_of is None else self.retry_of


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the best score of those that went to their end; the first of equals."""
    done = [trial for trial in trials if trial.state == "done" and trial.score is not None]
    return max(done, key=lambda trial: trial.score or 0.0, default=None)


def write_tables(out: Path, trials: Sequence[Trial]) -> None:
    """Write ``trials.csv``, a line each, and ``trials.json`` with the scores of every epoch."""
    facts = [{**asdict(trial), "score": trial.score} for trial in trials]
    with atomic_file(out / "trials.json") as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    with atomic_file(out / "trials.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "score", "epochs", "seconds", *names, "note"])
        for trial in trials:
            row: list[Any] = [trial.number, trial.state, trial.score, len(trial.scores), trial.seconds]
            writer.writerow([*row, *(trial.values.get(name) for name in names), trial.note])


def write_best(path: Path, config: TrainConfig, trial: Trial) -> None:
    """Write the settings of a trial for ``train --config``: all that are not as they are without saying."""
    plain = TrainConfig(config.data, config.out, task=config.task, scale=config.scale)
    defaults, settings = settings_of(plain), settings_of(config)
    chosen = {name for name in settings if settings[name] != defaults[name]}
    chosen |= {"data", "task", "scale", *(name.partition(".")[0] for name in trial.values)}
    told = {name: value for name, value in settings.items() if name in chosen - {"out"}}
    with atomic_file(path) as temporary:
        temporary.write_text(
            f"# Trial {trial.number}, validation score {trial.score:.4f}.\n"
            + yaml.safe_dump(told, sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
