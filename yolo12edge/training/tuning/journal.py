"""``JournalSearch``: random or grid search with a JSON line an event, on nothing but NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from ...errors import InputError
from .locking import Lock
from .records import State, Trial
from .search import MOST_ATTEMPTS, Pruner, Sampler
from .space import Space

__all__ = ["JournalSearch"]

_FEW = 5  # trials before which nothing is stopped
_EARLY = 5  # nor in this fraction of a trial's epochs


class JournalSearch:
    """A study in a file of JSON lines; arguments and errors as ``open_search``."""

    def __init__(
        self,
        storage: Path,
        space: Space,
        *,
        sampler: Sampler,
        pruner: Pruner,
        epochs: int,
        seed: int,
        about: str,
    ) -> None:
        if sampler == "tpe" or pruner == "hyperband":
            raise InputError(
                f"{'the sampler tpe' if sampler == 'tpe' else 'the pruner hyperband'} needs Optuna's storage",
                remedy=f"--storage {storage.with_suffix('.db')}, or random or grid with median or none",
            )
        self._space, self._sampler, self._prunes, self._seed = space, sampler, pruner == "median", seed
        self._early = epochs // _EARLY
        if sampler == "grid":
            space.grid()
        self._lock = Lock(storage)
        self._path = storage
        self._trials: list[Trial] = []
        try:
            self._read(about)
            for trial in self._trials:
                if trial.state == "running":
                    self._write({"trial": trial.number, "state": "killed"})
        except BaseException:
            self.close()
            raise

    def ask(self) -> Trial | None:
        """Return the next trial."""
        retry = self._killed()
        if retry is not None:
            return self._begin(retry.values, scores=retry.scores, retry_of=retry.origin)
        count = sum(trial.retry_of is None for trial in self._trials)
        if self._sampler == "random":
            return self._begin(self._space.draw(np.random.default_rng([self._seed, count])))
        values = next(islice(self._space.combinations(), count, None), None)
        return None if values is None else self._begin(values)

    def report(self, number: int, epoch: int, score: float) -> bool:
        """Remember a score; the median rule of Vizier (doi:10.1145/3097983.3098043)."""
        self._write({"trial": number, "epoch": epoch, "score": score})
        if not self._prunes or epoch <= self._early:
            return False
        others = [
            max(value for at, value in trial.scores.items() if at <= epoch)
            for trial in self._trials
            if trial.state == "done" and trial.scores
        ]
        return len(others) >= _FEW and max(self._trials[number].scores.values()) < median(others)

    def tell(self, number: int, state: State, *, seconds: float, note: str = "") -> None:
        """Remember how a trial ended."""
        self._write({"trial": number, "state": state, "seconds": seconds, "note": note})

    def trials(self) -> Sequence[Trial]:
        """Return all trials so far."""
        return self._trials

    def close(self) -> None:
        """Let another process have the file."""
        self._lock.close()

    def _killed(self) -> Trial | None:
        """Return a killed trial in whose place none has gone on, unless it was tried often enough."""
        last = {trial.origin: trial for trial in self._trials}
        for origin, trial in last.items():
            attempts = sum(other.origin == origin for other in self._trials)
            if trial.state == "killed" and attempts < MOST_ATTEMPTS:
                return trial
        return None

    def _begin(self, values: Any, *, scores: Any = None, retry_of: int | None = None) -> Trial:
        number = len(self._trials)
        self._write({"trial": number, "values": values, "scores": scores or {}, "retry_of": retry_of})
        return self._trials[number]

    def _write(self, event: dict[str, Any]) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(event) + b"\n")
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error.strerror}") from error
        self._apply(event)

    def _read(self, about: str) -> None:
        if not self._path.exists() or not self._path.stat().st_size:
            self._write({"study": about})
            return
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # what was being written when the power went
            self._path.write_bytes(whole)
        try:
            head, *events = (msgspec.json.decode(line) for line in whole.splitlines())
            study = head["study"]
            if study == about:
                for event in events:
                    self._apply(event)
        except (msgspec.DecodeError, ValueError, TypeError, KeyError, IndexError) as error:
            raise InputError(
                f"{self._path} is no journal of a study: {error}", remedy="use another --storage"
            ) from error
        if study != about:
            raise InputError(
                f"{self._path} is of a study with another run or search space",
                remedy="use another --out or --storage; a study goes on with the same command",
            )

    def _apply(self, event: dict[str, Any]) -> None:
        if "study" in event:
            return
        if "values" in event:
            scores = {int(epoch): float(score) for epoch, score in event["scores"].items()}
            self._trials.append(Trial(event["trial"], event["values"], scores=scores, retry_of=event["retry_of"]))
            return
        trial = self._trials[event["trial"]]
        if "epoch" in event:
            trial.scores[event["epoch"]] = event["score"]
        else:
            trial.state = event["state"]
            trial.seconds, trial.note = event.get("seconds"), event.get("note", "")
