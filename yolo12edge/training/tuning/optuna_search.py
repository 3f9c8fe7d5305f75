"""``OptunaSearch``: a study of Optuna, in a SQLite file that ``optuna-dashboard`` opens, too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MissingDependencyError
from .locking import Lock
from .records import State, Trial
from .search import MOST_ATTEMPTS, Pruner, Sampler
from .space import Range, Space

__all__ = ["OptunaSearch"]

_NAME = "yolo12edge"


class OptunaSearch:
    """A study of Optuna; arguments and errors as ``open_search``."""

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
        try:
            import optuna
        except ImportError as error:
            raise MissingDependencyError("optuna", extra="tune", purpose="to search with a .db storage") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna: Any = optuna
        self._space, self._sampler, self._seed = space, sampler, seed
        if sampler == "grid":
            space.grid()
        self._distributions = {path: _distribution(optuna, entry) for path, entry in space.ranges.items()}
        self._live: dict[int, Any] = {}
        self._lock = Lock(storage)
        pruners: dict[str, Any] = {
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 5)),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs),
            "none": optuna.pruners.NopPruner,
        }
        try:
            self._study: Any = optuna.create_study(
                study_name=_NAME,
                storage=f"sqlite:///{storage.absolute()}",
                direction="maximize",
                pruner=pruners[pruner](),
                load_if_exists=True,
            )
            if self._study.user_attrs.get("about", about) != about:
                raise InputError(
                    f"{storage} is of a study with another run or search space",
                    remedy="use another --out or --storage; a study goes on with the same command",
                )
            self._study.set_user_attr("about", about)
            self._retry()
        except InputError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise InputError(
                f"{storage} is no study of Optuna: {str(error).splitlines()[0]}", remedy="use another --storage"
            ) from error

    def ask(self) -> Trial | None:
        """Return the next trial."""
        states = self._optuna.trial.TrialState
        waiting = self._study.get_trials(deepcopy=False, states=(states.WAITING,))
        # Seeded for each trial, so that a study that was interrupted proposes what it would have.
        begun = sum(trial.retry_of is None for trial in self.trials())
        seed = np.random.SeedSequence([self._seed, begun])
        self._study.sampler = self._made_sampler(int(seed.generate_state(1)[0]))
        if not waiting and self._sampler == "grid":  # Optuna's own sampler cannot end without its own loop
            values = next(islice(self._space.combinations(), begun, None), None)
            if values is None:
                return None
            self._study.enqueue_trial(values)
        live = self._study.ask(self._distributions)
        self._live[live.number] = live
        retry_of = live.user_attrs.get("retry_of")
        for epoch, score in live.user_attrs.get("scores", {}).items():
            live.report(score, int(epoch))
        scores = {int(epoch): score for epoch, score in live.user_attrs.get("scores", {}).items()}
        return Trial(live.number, dict(live.params), scores=scores, retry_of=retry_of)

    def report(self, number: int, epoch: int, score: float) -> bool:
        """Remember a score."""
        live = self._live[number]
        live.report(score, epoch)
        return bool(live.should_prune())

    def tell(self, number: int, state: State, *, seconds: float, note: str = "") -> None:
        """Remember how a trial ended."""
        live = self._live.pop(number)
        live.set_user_attr("seconds", seconds)
        live.set_user_attr("note", note)
        states = self._optuna.trial.TrialState
        if state == "done":
            scores = self._study.trials[number].intermediate_values.values()
            self._study.tell(live, max(scores, default=0.0))
        else:
            self._study.tell(live, state=states.PRUNED if state == "pruned" else states.FAIL)

    def trials(self) -> Sequence[Trial]:
        """Return all trials so far."""
        states = self._optuna.trial.TrialState
        names: dict[Any, State] = {states.COMPLETE: "done", states.PRUNED: "pruned", states.RUNNING: "running"}
        return [
            Trial(
                frozen.number,
                dict(frozen.params),
                # What failed said why.
                names.get(frozen.state, "failed" if "note" in frozen.user_attrs else "killed"),
                dict(frozen.intermediate_values),
                frozen.user_attrs.get("seconds"),
                frozen.user_attrs.get("note", ""),
                frozen.user_attrs.get("retry_of"),
            )
            for frozen in self._study.get_trials(deepcopy=False)
            if frozen.state != states.WAITING
        ]

    def close(self) -> None:
        """Let another process have the file."""
        self._lock.close()

    def _made_sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        return (samplers.TPESampler if self._sampler == "tpe" else samplers.RandomSampler)(seed=seed)

    def _retry(self) -> None:
        """Mark what a dead process left running, and line it up again with what it had reached."""
        states = self._optuna.trial.TrialState
        every = self._study.get_trials(deepcopy=False)
        lined_up = {trial.user_attrs.get("retry_of") for trial in every if trial.state == states.WAITING}
        for frozen in every:
            if frozen.state != states.RUNNING:
                continue
            origin = frozen.user_attrs.get("retry_of", frozen.number)
            attempts = sum(origin in (trial.number, trial.user_attrs.get("retry_of")) for trial in every)
            if attempts < MOST_ATTEMPTS and origin not in lined_up:
                scores = {str(epoch): score for epoch, score in frozen.intermediate_values.items()}
                self._study.enqueue_trial(dict(frozen.params), user_attrs={"retry_of": origin, "scores": scores})
            self._study.tell(frozen.number, state=states.FAIL)


def _distribution(optuna: Any, entry: Range) -> Any:
    distributions = optuna.distributions
    if entry.choices:
        return distributions.CategoricalDistribution(entry.choices)
    if entry.whole:
        return distributions.IntDistribution(entry.low, entry.high, log=entry.log, step=int(entry.step or 1))
    return distributions.FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)
