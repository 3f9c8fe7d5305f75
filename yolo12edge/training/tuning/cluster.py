"""``tune_on_cluster``: the trials of a search on many machines, by Ray Tune; proposals and results stay here.

Ray runs trials, several at a time, and starts again what a lost machine did. Which settings are tried, which trials
stop, and what is remembered is the business of the same ``Search`` as on one machine, so that a study may go on with
or without a cluster. The dataset and the folder of results lie at the same path on every machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...errors import InputError
from ...ray_cluster import connected
from ..config import TrainConfig
from .records import State, Trial
from .search import MOST_ATTEMPTS, Search
from .space import with_values
from .study import Tuned, finished, folder_of, run_trial, summarise, tidy

__all__ = ["tune_on_cluster"]


def tune_on_cluster(
    base: TrainConfig,
    search: Search,
    *,
    trials: int,
    address: str,
    on_trial: Callable[[Trial], None] | None = None,
    on_end: Callable[[Trial], None] | None = None,
) -> Tuned:
    """Run trials until so many have ended, as many at a time as the cluster has room for.

    A trial takes ``base.workers + 1`` cores, and a GPU each of ``base.devices`` where the cluster has GPUs and the run
    does not ask for the CPU.

    Args:
        base: As in ``tune``.
        search: As in ``tune``.
        trials: As in ``tune``.
        address: Of a Ray cluster, such as ``auto`` or ``ray://head:10001``; ``local`` is this machine alone.
        on_trial: As in ``tune``.
        on_end: As in ``tune``.

    Raises:
        BackendError: If the cluster cannot be reached.
        InputError: If it has no room for a trial, or every trial failed.
        MissingDependencyError: If Ray Tune is not installed.
    """
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # or Ctrl-C would seem a good end of the search
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one is never silent
    with connected(address, part="tune", purpose="to search on a cluster") as ray:
        from ray import tune as ray_tune

        wanted = _resources(base, ray.cluster_resources())
        asking, pruning = _adapters(base, search, trials, on_trial, on_end)
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(_trainable, wanted),
            tune_config=ray_tune.TuneConfig(
                metric="score", mode="max", num_samples=-1, search_alg=asking(), scheduler=pruning()
            ),
            run_config=ray_tune.RunConfig(
                storage_path=str(base.out.absolute() / "ray"),
                failure_config=ray_tune.FailureConfig(max_failures=MOST_ATTEMPTS - 1),
                verbose=0,
            ),
        )
        tuner.fit()
    return summarise(base, search)


def _resources(base: TrainConfig, there: dict[str, float]) -> dict[str, float]:
    """Return what a trial takes."""
    gpus = base.devices if base.device in ("auto", "cuda") and there.get("GPU", 0) else 0
    wanted: dict[str, float] = {"cpu": min(base.workers + 1, there.get("CPU", 1)), "gpu": gpus}
    if there.get("GPU", 0) < gpus or (base.device == "cuda" and not gpus):
        raise InputError(
            f"a trial takes {max(gpus, 1)} GPUs and the cluster has {there.get('GPU', 0):g}",
            remedy="add machines, or --device cpu",
        )
    return wanted


def _trainable(job: dict[str, Any]) -> None:
    """Run a trial on a machine of the cluster; report every epoch, and in the end how it went."""
    from ray import tune as ray_tune

    def report(epoch: int, score: float) -> bool:
        ray_tune.report({"score": score, "epoch": epoch, "state": "running", "note": ""})
        return False  # a trial that shall stop is stopped from outside

    outcome = run_trial(job["config"], known=job["known"], report=report)
    ray_tune.report({"score": 0.0, "epoch": 0, "state": outcome.state, "note": outcome.note})


def _adapters(
    base: TrainConfig,
    search: Search,
    trials: int,
    on_trial: Callable[[Trial], None] | None,
    on_end: Callable[[Trial], None] | None,
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return what Ray asks for settings, and what it asks whether a trial goes on: both ask the search."""
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search import Searcher

    running: dict[str, tuple[Trial, float]] = {}  # by Ray's name of the trial
    ended: set[int] = set()
    hopeless = False

    def end(name: str, result: dict[str, Any] | None, *, pruned: bool = False) -> None:
        nonlocal hopeless
        trial, begin = running.pop(name, (None, 0.0))
        if trial is None or trial.number in ended:
            return
        ended.add(trial.number)
        state: State = "pruned" if pruned else (result or {}).get("state", "failed")
        note = (result or {}).get("note", "") or ("" if state != "failed" else "its process ended again and again")
        state = "failed" if state == "running" else state
        search.tell(trial.number, state, seconds=round(time.monotonic() - begin, 1), note=note)
        tidy(base, search)
        try:
            summarise(base, search)
        except InputError:  # is said when Ray has come to its end
            hopeless = True
        if on_end is not None:
            on_end(search.trials()[trial.number])

    class Asking(Searcher):  # type: ignore[misc]
        """Gives Ray what the search proposes."""

        def __init__(self) -> None:
            super().__init__(metric="score", mode="max")

        def suggest(self, trial_id: str) -> Any:
            if hopeless or finished(search) + len(running) >= trials:
                return None if running else Searcher.FINISHED
            trial = search.ask()
            if trial is None:
                return None if running else Searcher.FINISHED
            running[trial_id] = trial, time.monotonic()
            config = replace(with_values(base, trial.values), out=folder_of(base, trial).absolute())
            if on_trial is not None:
                on_trial(trial)
            return {"config": config, "known": dict(trial.scores)}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """Nothing to do: the scheduler sees every result."""

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            end(trial_id, None if error else result)

        def __reduce__(self) -> tuple[Any, ...]:
            return object, ()  # Ray writes it down to go on by itself; here the search remembers

        def save(self, checkpoint_path: str) -> None:
            """Nothing to do: the search remembers."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing to do: the search remembers."""

    class Pruning(FIFOScheduler):  # type: ignore[misc]
        """Stops what the search says should stop."""

        def __reduce__(self) -> tuple[Any, ...]:
            return object, ()

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            mine, _ = running.get(trial.trial_id, (None, 0.0))
            if mine is None or result["state"] != "running" or result["epoch"] in mine.scores:
                return str(self.CONTINUE)
            mine.scores[result["epoch"]] = result["score"]
            if not search.report(mine.number, result["epoch"], result["score"]):
                return str(self.CONTINUE)
            end(trial.trial_id, result, pruned=True)
            return str(self.STOP)

    return Asking, Pruning
