"""``yolo12edge tune``: search for settings of training by many short runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ._console import console, plain, progress
from ._console import out as results
from ._training import check_labels

if TYPE_CHECKING:
    from rich.table import Table

    from ..data.dataset import Dataset
    from ..training import TrainConfig
    from ..training.tuning import Space, Trial, Tuned

__all__ = ["tune"]

_EPOCHS = 30


def tune(
    *,
    data: Annotated[
        Path | None, typer.Option(help="Dataset: its description (data.yaml), or a folder of class folders.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The run to vary: a YAML file, as `train --config` reads it.")
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="What to search: a YAML file of settings with their values.",
            show_default="learning rate, weight decay, momentum, augmentation",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Runs in all, those of earlier calls counted.")] = 20,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a run.", show_default="30")] = None,
    sampler: Annotated[
        Literal["tpe", "random", "grid"], typer.Option(help="tpe learns from earlier runs; grid tries everything.")
    ] = "tpe",
    pruner: Annotated[
        Literal["median", "hyperband", "none"], typer.Option(help="What ends runs that do worse than others.")
    ] = "median",
    task: Annotated[
        Literal["detect", "segment", "classify", "pose", "obb"] | None,
        typer.Option(help="What to train for.", show_default="what the dataset says, else detect"),
    ] = None,
    model: Annotated[Literal["n", "s", "m", "l", "x"] | None, typer.Option(help="Scale.", show_default="n")] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint to start from (.safetensors).")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.", show_default="16")] = None,
    imgsz: Annotated[
        int | None,
        typer.Option(help="Side of the network input.", show_default="640; classify 224, obb 1024"),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"] | None, typer.Option(help="Where to train.")] = None,
    workers: Annotated[int | None, typer.Option(help="Loader processes of a run.", show_default="2")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of proposals and runs.", show_default="0")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("runs/tune"),
    storage: Annotated[
        Path | None,
        typer.Option(
            help="Where trials are remembered: .db is Optuna's; .jsonl does without Optuna.",
            show_default="study.db in --out",
        ),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Run trials on a Ray cluster at this address; `local`: several at a time here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the trials as JSON instead of a table.")] = False,
) -> None:
    """Search for settings of training by many short runs; the best go into best.yaml, for `train --config`.

    The same command goes on where it was interrupted, and with more --trials after its end. A run that was killed is
    taken up after its last epoch.
    """
    import hashlib

    import msgspec

    from ..training.tuning import default_space, open_search, read_space
    from ..training.tuning import tune as run_trials
    from ..training.tuning.cluster import tune_on_cluster
    from ..training.tuning.plots import plot_study
    from ..training.tuning.study import finished

    given = {
        "data": data,
        "task": task,
        "scale": model,
        "weights": weights,
        "epochs": epochs,
        "batch": batch,
        "image_size": imgsz,
        "device": device,
        "workers": workers,
        "seed": seed,
    }
    base, dataset = _base(config, {name: value for name, value in given.items() if value is not None}, out.absolute())
    wanted = (default_space(base.scale) if space is None else read_space(space)).fitted(base)
    anywhere = replace(base, out=Path(), workers=0, cache="auto", device="auto")  # a study may move to another machine
    about = msgspec.json.encode([anywhere.to_json().decode(), wanted.to_builtins()])
    check_labels(dataset)
    search = open_search(
        storage or out / "study.db",
        wanted,
        sampler=sampler,
        pruner=pruner,
        epochs=base.epochs,
        seed=base.seed,
        about=hashlib.sha256(about).hexdigest(),
    )
    console.print(
        f"Up to {trials} runs of {base.epochs} epochs over {', '.join(wanted.ranges)}; folder {out}",
        markup=False,
        soft_wrap=True,
    )
    try:
        with progress("Tuning", trials, unit="runs") as steps:
            steps.update(finished(search))

            def step(epoch: int, number: int, count: int) -> None:
                steps.update(steps.done, note=f"epoch {epoch}, step {number} of {count}")

            def end(trial: Trial) -> None:
                _say(trial)
                steps.update(finished(search))

            if cluster is None:
                tuned = run_trials(base, search, trials=trials, on_step=step, on_end=end)
            else:
                tuned = tune_on_cluster(base, search, trials=trials, address=cluster, on_end=end)
    except KeyboardInterrupt:
        console.print("Interrupted. The same command goes on from here.")
        raise
    finally:
        search.close()
    plots = plot_study(out, tuned.trials, wanted)
    if json:
        typer.echo((out / "trials.json").read_text(), nl=False)
    else:
        results.print(_table(tuned, wanted))
    _print_end(tuned, wanted, out, plots)


def _base(file: Path | None, given: dict[str, Any], out: Path) -> tuple[TrainConfig, Dataset]:
    """Return the run that is varied, from a file and what the command line says, which wins."""
    from ..data.augment import load_augmentation
    from ..data.dataset import read_dataset
    from ..errors import InputError
    from ..nn.config import TRAITS
    from ..training import TrainConfig
    from ..training.settings import read_settings

    settings = {"epochs": _EPOCHS, **({} if file is None else read_settings(file)), **given, "out": out}
    if "data" not in settings:
        raise InputError("there is nothing to train on", remedy="add --data data.yaml")
    # Elsewhere, where runs of a cluster are, names of files would mean others.
    settings |= {name: value.absolute() for name, value in settings.items() if isinstance(value, Path)}
    dataset = read_dataset(settings["data"], task=settings.get("task"))
    settings["task"] = dataset.task
    settings.setdefault("image_size", TRAITS[dataset.task].image_size)
    if isinstance(settings.get("augment"), str):
        settings["augment"] = load_augmentation(settings["augment"], task=dataset.task)
    return TrainConfig(**settings), dataset


def _say(trial: Trial) -> None:
    score = "-" if trial.score is None else f"{100 * trial.score:.2f}"
    values = ", ".join(f"{name} {_shown(value)}" for name, value in trial.values.items())
    console.print(
        plain(f"run {trial.number}: {trial.state}, {score} after {len(trial.scores)} epochs; {values}"), soft_wrap=True
    )
    if trial.note:
        console.print(plain(f"  {trial.note}", "red"), soft_wrap=True)


def _table(tuned: Tuned, space: Space) -> Table:
    """Return the ten best runs and how many there are of each state."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    counts = Counter(trial.state for trial in tuned.trials)
    title = ", ".join(f"{count} {state}" for state, count in counts.items())
    table = Table(title=f"Best runs ({title})", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "score, %", "epochs", "seconds", *space.ranges):
        table.add_column(heading, justify="right", overflow="fold")
    ranked = sorted((trial for trial in tuned.trials if trial.score is not None), key=lambda trial: -(trial.score or 0))
    done = [trial for trial in ranked if trial.state in ("done", "pruned")]
    for trial in done[:10]:
        seconds = "" if trial.seconds is None else f"{trial.seconds:.0f}"
        cells = [str(trial.number), f"{100 * (trial.score or 0):.2f}", f"{len(trial.scores)}", seconds]
        table.add_row(*cells, *(_shown(trial.values.get(name)) for name in space.ranges))
    return table


def _print_end(tuned: Tuned, space: Space, out: Path, plots: list[Path]) -> None:
    from ..training.tuning.plots import importance_of

    importance = importance_of(tuned.trials, space)
    if importance:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in importance.items())
        console.print(f"Of the differences between scores, settings explain: {shares}", markup=False, soft_wrap=True)
    console.print(
        f"All runs: {out / 'trials.csv'}" + "".join(f", {path.name}" for path in plots), markup=False, soft_wrap=True
    )
    if tuned.best is None:
        console.print("No run went to its end: nothing is best yet.")
        return
    console.print(
        f"Best: run {tuned.best.number}, {100 * (tuned.best.score or 0):.2f} on the validation split, which chose it\n"
        f"Next: yolo12edge train --config {out / 'best.yaml'} --epochs 100",
        markup=False,
        soft_wrap=True,
    )


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
