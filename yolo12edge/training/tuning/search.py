"""``Search``: which settings to try next, which trial to stop, and where both are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from ...errors import InputError
from .records import State, Trial
from .space import Space

__all__ = ["MOST_ATTEMPTS", "Pruner", "Sampler", "Search", "open_search"]

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "hyperband", "none"]

MOST_ATTEMPTS = 3
"""A trial that never ends, because it ends the process, is not tried more often."""


class Search(Protocol):
    """A study in its storage. Trials that a former process left running are ``killed`` when it is opened."""

    def ask(self) -> Trial | None:
        """Return the next trial: first of those that were killed, with their scores; None if nothing is left."""

    def report(self, number: int, epoch: int, score: float) -> bool:
        """Remember the score after an epoch; return whether the trial should stop here."""

    def tell(self, number: int, state: State, *, seconds: float, note: str = "") -> None:
        """Remember how a trial ended."""

    def trials(self) -> Sequence[Trial]:
        """Return all trials so far."""

    def close(self) -> None:
        """Let another process have the storage."""


def open_search(
    storage: Path,
    space: Space,
    *,
    sampler: Sampler,
    pruner: Pruner,
    epochs: int,
    seed: int,
    about: str,
) -> Search:
    """Open a study, or make it.

    Args:
        storage: ``.db`` is Optuna's, a SQLite file; ``.jsonl`` is a journal of our own, which needs no Optuna.
        space: What is searched, fitted to the run.
        sampler: ``tpe`` learns from the trials so far (Optuna alone); ``random``; ``grid`` tries every combination.
        pruner: ``median`` stops what is worse than half of the trials were after that epoch; ``hyperband`` (Optuna
            alone) gives many trials few epochs.
        epochs: Of a whole trial.
        seed: The same seed proposes the same settings.
        about: What the study is about; a storage of another study is refused.

    Raises:
        InputError: If the storage is in use, or of another study or no storage, or cannot do what is asked for.
        MissingDependencyError: If Optuna is needed and not installed.
    """
    if storage.suffix == ".db":
        from .optuna_search import OptunaSearch

        return OptunaSearch(storage, space, sampler=sampler, pruner=pruner, epochs=epochs, seed=seed, about=about)
    if storage.suffix == ".jsonl":
        from .journal import JournalSearch

        return JournalSearch(storage, space, sampler=sampler, pruner=pruner, epochs=epochs, seed=seed, about=about)
    raise InputError(
        f"the storage is {storage}", expected="a file .db (Optuna's) or .jsonl (random or grid, no Optuna)"
    )
