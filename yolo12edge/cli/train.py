"""``yolo12edge train``: from a labelled dataset to a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ._console import console, free_folder, progress
from ._console import out as results
from ._training import RESUME, RunDisplay, check_labels, given_options
from .val import accuracy_tables

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..training import TrainConfig, TrainResult

__all__ = ["train"]


def train(
    ctx: typer.Context,
    *,
    data: Annotated[
        Path | None, typer.Option(help="Dataset: its description (data.yaml), or a folder of class folders.")
    ] = None,
    task: Annotated[
        Literal["detect", "segment", "classify", "pose", "obb"] | None,
        typer.Option(help="What to train for.", show_default="what the dataset says, else detect"),
    ] = None,
    model: Annotated[Literal["n", "s", "m", "l", "x"], typer.Option(help="Model scale.")] = "n",
    variant: Annotated[Literal["v1", "turbo"], typer.Option(help="Model variant.")] = "v1",
    weights: Annotated[Path | None, typer.Option(help="Checkpoint to start from (.safetensors).")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 100,
    batch: Annotated[
        str, typer.Option(help="Images per step; auto: as many as memory and dataset are good for.")
    ] = "16",
    imgsz: Annotated[
        int | None,
        typer.Option(help="Side of the network input, a multiple of 32.", show_default="640; classify 224, obb 1024"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.", show_default="runs/train, with a number if it exists"),
    ] = None,
    optimizer: Annotated[
        Literal["auto", "adamw", "sgd", "adam", "lamb"],
        typer.Option(help="auto: AdamW for up to 10,000 steps, else SGD."),
    ] = "auto",
    lr: Annotated[float | None, typer.Option(help="Initial learning rate.", show_default="the optimizer's own")] = None,
    schedule: Annotated[
        Literal["linear", "cosine", "one-cycle", "cyclical", "step", "exponential", "plateau"],
        typer.Option(help="How the learning rate falls."),
    ] = "linear",
    augment: Annotated[
        str | None, typer.Option(help="Augmentation: a preset or a YAML file.", show_default="the recipe of the scale")
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help="What stays as it is: backbone, all-but-head, or so many first layers.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="Checkpoint to imitate, of the same task and classes.")] = None,
    close_mosaic: Annotated[int, typer.Option(help="Last epochs without mosaic and mixup.")] = 10,
    patience: Annotated[int, typer.Option(help="Stop after so many epochs without a better result.")] = 100,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the truth spread over all classes; classify only.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    workers: Annotated[int, typer.Option(help="Loader processes.")] = 2,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to train.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Devices of this machine; a launcher such as torchrun tells them by itself.")
    ] = 1,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "bf16"], typer.Option(help="auto: bf16 or fp16 on CUDA, fp32 elsewhere.")
    ] = "auto",
    cache: Annotated[
        Literal["auto", "ram", "disk", "none"],
        typer.Option(help="Where decoded pictures are kept; auto: in memory if they fit."),
    ] = "auto",
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings, by their names in TrainConfig; options win over it.")
    ] = None,
    resume: Annotated[Path | None, RESUME] = None,
) -> None:
    """Train a network; checks the dataset first, writes checkpoints, results and plots into --out."""
    from ..data.dataset import read_dataset
    from ..errors import InputError

    given = given_options(ctx, resume=resume, restart=f"start a new run with --weights {resume}/last.safetensors")
    if resume is None and data is None and config is None:
        raise InputError("there is nothing to train on", remedy="add --data data.yaml, or --resume RUN")
    from ..nn.config import TRAITS
    from ..training import RunFiles, TrainConfig
    from ..training import resume as resume_run
    from ..training import train as start_run
    from ..training.processes import Place
    from ..training.trainer import check_start

    place = Place.given()
    if place is not None and place.processes > 1 and resume is None and out is None:
        raise InputError(
            f"{place.processes} processes train, and each would choose a folder", remedy="name one for all with --out"
        )
    if resume is not None:
        made = TrainConfig.of_run(resume)
        dataset = read_dataset(made.data, task=made.task)
    else:
        settings = _settings(given, config)
        if "data" not in settings:
            raise InputError("there is nothing to train on", remedy="add --data data.yaml")
        dataset = read_dataset(settings["data"], task=settings.get("task"))
        settings.setdefault("image_size", TRAITS[dataset.task].image_size)
        settings.setdefault("out", free_folder(Path("runs/train")))
        settings["task"] = dataset.task
        if isinstance(settings.get("augment"), str):
            from ..data.augment import load_augmentation

            settings["augment"] = load_augmentation(settings["augment"], task=dataset.task)
        wanted = settings.pop("batch", "16")
        if wanted == "auto" and place is not None and place.processes > 1:
            raise InputError(
                f"batch is auto and a launcher started {place.processes} processes, each of which would choose its own",
                expected="the images of a step over all of them, such as --batch 64",
            )
        made = TrainConfig(**settings)
        made = replace(made, data=made.data.absolute(), batch=_batch(made) if wanted == "auto" else _number(wanted))
    if place is not None and place.rank > 0:  # the first process checks, shows and measures
        _ = start_run(made) if resume is None else resume_run(resume)
        return
    if resume is None:
        check_start(made, dataset)
    check_labels(dataset)
    try:
        with RunDisplay(made) as display:
            if resume is not None:
                result = resume_run(resume, on_start=display.start, on_step=display.step, on_epoch=display.epoch)
            else:
                result = start_run(made, on_start=display.start, on_step=display.step, on_epoch=display.epoch)
    except (KeyboardInterrupt, SystemExit):
        root = resume or made.out
        if RunFiles(root).config.is_file():
            console.print(f"Interrupted. Go on with: yolo12edge train --resume {root}", markup=False, soft_wrap=True)
        raise
    if result.had_ended:
        console.print(f"The run had ended after {result.epochs} epochs: there was nothing left to train.")
    elif result.stalled:
        console.print(f"Stopped early: no better result in {made.patience} epochs.")
    _finish(result, dataset)


def _settings(given: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """Return fields of the configuration: those of a file, and those given as options, which win."""
    from ..training.settings import read_settings

    settings = {} if file is None else read_settings(file)
    renamed = {"model": "scale", "imgsz": "image_size"}
    settings |= {renamed.get(name, name): value for name, value in given.items() if name != "config"}
    if isinstance(freeze := settings.get("freeze"), str) and freeze.isdecimal():
        settings["freeze"] = int(freeze)
    return settings


def _number(batch: str | int) -> int:
    from ..errors import InputError

    try:
        return int(batch)
    except ValueError:
        raise InputError(f"--batch is {batch!r}", expected="a number of images, or auto") from None


def _batch(config: TrainConfig) -> int:
    """Choose the images per step, and say why."""
    from ..training.trainer import auto_batch

    choice = auto_batch(config)
    reason = {
        "memory": "more would not fit",
        "steps": "more would leave too few steps to learn in",
    }[choice.limit]
    console.print(
        f"Batch {choice.batch}: an image takes {choice.per_image / 1e6:.0f} MB of the {choice.available / 1e9:.1f} GB "
        f"that are free; {reason}.",
        soft_wrap=True,
    )
    return choice.batch


def _finish(result: TrainResult, dataset: Dataset) -> None:
    """Measure the best checkpoint as ``val`` does, and draw the plots."""
    import numpy as np

    from ..data.forms import FORMS
    from ..metrics import evaluate_runtime
    from ..metrics.plots import plot_label_statistics, plot_training_curves
    from ..metrics.report import write_plots
    from ..runtimes import Runtime

    files = result.files
    samples = dataset.samples("val")
    # Where it was trained: on the CPU if that was asked for.
    device: Literal["auto", "cpu"] = "cpu" if result.plan.config.device == "cpu" else "auto"
    with (
        Runtime(files.best, device=device) as runtime,
        progress("Evaluating the best epoch", len(samples), unit="images") as steps,
    ):
        evaluation = evaluate_runtime(runtime, samples, dataset.class_names, progress=steps.update)
    for table in accuracy_tables(evaluation.metrics):
        results.print(table)
    plot_training_curves(files.results, files.plots / "training.png")
    labelled = dataset.samples("train")
    plot_label_statistics(
        None if FORMS[dataset.task].whole else np.concatenate([sample.boxes for sample in labelled]),
        np.concatenate([sample.class_id for sample in labelled]),
        dataset.class_names,
        files.plots / "labels.png",
    )
    write_plots(
        files.plots,
        evaluation,
        images=[sample.image for sample in samples],
    )
    console.print(
        f"Best epoch {result.best_epoch} of {result.epochs}: {files.best}\nPlots: {files.plots}\n"
        f"Next: yolo12edge export {files.best} --int8 --data {dataset.path}",
        markup=False,
        soft_wrap=True,
    )
