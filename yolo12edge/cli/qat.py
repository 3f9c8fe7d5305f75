"""``yolo12edge qat``: from a checkpoint and its INT8 artifact to weights and ranges that have learned of each other."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ._console import console, free_folder
from ._export_steps import observed, open_float_onnx, stage
from ._training import RESUME, RunDisplay, check_labels, given_options

if TYPE_CHECKING:
    from ..artifact import Artifact
    from ..calibration.learned import LearnedRanges
    from ..calibration.recipe import Recipe
    from ..checkpoint import Checkpoint
    from ..checkpoint.metadata import Int8Facts
    from ..manifest import Int8Before, Manifest
    from ..training import TrainResult
    from ..training.quantization import Int8Form
    from ._data import ExportData

__all__ = ["qat"]


def qat(
    ctx: typer.Context,
    checkpoint: Annotated[Path | None, typer.Argument(help="The .safetensors checkpoint to train on.")] = None,
    *,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Its INT8 artifact: says what is quantized, and how."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset: its description (data.yaml), or a folder of class folders.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="The statistics that the artifact was made of.", show_default="those beside it, or a new pass"
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 5,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 16,
    lr: Annotated[float, typer.Option(help="Initial learning rate of AdamW; it falls as a cosine.")] = 1e-4,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/qat, with a number if it exists")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of order and augmentation.")] = 0,
    workers: Annotated[int, typer.Option(help="Loader processes.")] = 2,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to train.")] = "auto",
    resume: Annotated[Path | None, RESUME] = None,
) -> None:
    """Train a checkpoint in the arithmetic of its INT8 artifact, and learn the ranges with the weights.

    The network computes as the quantized graph does, with the artifact's target, its layers in float and its ranges to
    begin with. What comes out is a checkpoint that `yolo12edge export --int8` makes the same kind of artifact of, with
    the ranges that it has learned; its report card compares before and after.
    """
    from ..errors import InputError

    _ = given_options(ctx, resume=resume, restart="start a new run")
    if resume is None:
        missing = [
            name
            for name, value in (("CHECKPOINT", checkpoint), ("--from ARTIFACT", start), ("--data data.yaml", data))
            if value is None
        ]
        if checkpoint is None or start is None or data is None:
            is_or_are = "is" if len(missing) == 1 else "are"
            raise InputError(f"{', '.join(missing)} {is_or_are} missing", remedy="add what is missing, or --resume RUN")
    from ..artifact import Artifact
    from ..checkpoint import read_metadata
    from ..data.dataset import read_dataset
    from ..training import RunFiles, TrainConfig
    from ..training import resume as resume_run
    from ..training import train as start_run
    from ..training.trainer import check_start

    if resume is not None:
        config = TrainConfig.of_run(resume)
        dataset = read_dataset(config.data, task=config.task)
        form = _resumed(RunFiles(resume).last)
        run = partial(resume_run, resume)
    else:
        assert checkpoint is not None
        assert start is not None
        assert data is not None
        folder = free_folder(Path("runs/qat")) if out is None else out
        meta = read_metadata(checkpoint)
        artifact = Artifact.load(start)
        config = TrainConfig(
            data=data,
            out=folder,
            task=meta.task,
            scale=meta.scale,
            variant=meta.variant,
            weights=checkpoint,
            epochs=epochs,
            batch=batch,
            image_size=artifact.manifest.input.width,
            optimizer="adamw",
            lr=lr,
            schedule="cosine",
            warmup_epochs=0,
            close_mosaic=epochs,  # pictures as the device will see them
            seed=seed,
            workers=workers,
            device=device,
            precision="fp32",  # half precision is coarser than what is to be learned
        )
        dataset = read_dataset(config.data, task=config.task)
        check_start(config, dataset)  # before calibration, which takes long and writes there
        form = _begin(checkpoint, artifact, data, folder, calibration)
        run = partial(start_run, config)
    check_labels(dataset)
    try:
        with RunDisplay(config) as display:
            result = run(form=form, on_start=display.start, on_step=display.step, on_epoch=display.epoch)
    except KeyboardInterrupt:
        root = resume or config.out
        if RunFiles(root).state.is_file():
            console.print(f"Interrupted. Go on with: yolo12edge qat --resume {root}", markup=False, soft_wrap=True)
        raise
    _finish(result, form, config.data)


def _begin(checkpoint: Path, artifact: Artifact, data: Path, out: Path, calibration: Path | None) -> Int8Form:
    """Return the form that the artifact gives, with its ranges."""
    from ..checkpoint import Checkpoint
    from ..checkpoint.metadata import Int8Facts
    from ._data import read_export_data

    origin = Checkpoint.load(checkpoint)
    recipe = _recipe(artifact, checkpoint)
    given = read_export_data(data, needed=True, task=origin.meta.task)
    _refuse_other_classes(origin, given, data)
    if recipe.learned:
        ranges = learned = _learned(origin)
        recipe = learned.recipe
    else:
        ranges = _solved(recipe, checkpoint, artifact, given, out, calibration)
    manifest = artifact.manifest
    facts = Int8Facts(
        format=manifest.format,
        target=recipe.target,
        method=recipe.method,
        attention=recipe.attention,
        join_concats=recipe.join_concats,
        float_groups=tuple(sorted(recipe.float_groups)),
        image_size=manifest.input.width,
        began=_before(artifact.path.name, manifest),
    )
    groups = f"; {', '.join(facts.float_groups)} stay float" if recipe.float_groups else ""
    console.print(f"INT8 as {artifact.path}: {recipe.target}, {recipe.name}{groups}", markup=False, soft_wrap=True)
    return _form(facts, ranges)


def _recipe(artifact: Artifact, checkpoint: Path) -> Recipe:
    """Return how an artifact was quantized.

    Raises:
        InputError: If it is not INT8, not square, or not of this checkpoint.
    """
    from ..calibration.ranges import METHODS, Method
    from ..calibration.recipe import Recipe
    from ..errors import InputError
    from ..files import sha256_of

    manifest, made = artifact.manifest, artifact.manifest.calibration
    if manifest.precision != "int8" or made is None:
        raise InputError(
            f"{artifact.path} is not an INT8 artifact",
            remedy=f"make one: yolo12edge export {checkpoint} --int8 --data data.yaml",
        )
    if manifest.provenance.checkpoint_sha256 != sha256_of(checkpoint):
        raise InputError(
            f"{artifact.path} was made of another checkpoint than {checkpoint}",
            remedy=f"give that one, or export again: yolo12edge export {checkpoint} --int8 --data data.yaml",
        )
    if manifest.input.width != manifest.input.height:
        raise InputError(
            f"the input of {artifact.path} is {manifest.input.width} x {manifest.input.height}",
            expected="a square: training knows no other",
        )
    method: Method = next((name for name in METHODS if name == made.method), "mse")  # NNCF's ranges are its own
    return Recipe(
        made.placement,  # type: ignore[arg-type]
        method=method,
        attention=made.attention,
        join_concats=made.join_concats,
        float_groups=frozenset(made.float_groups),
        rounding=made.rounding,
        learned=made.method == "learned",
    )


def _before(name: str, manifest: Manifest) -> Int8Before:
    from ..manifest import Int8Before

    measured = manifest.report.accuracy
    if measured is None:
        return Int8Before(artifact=name)
    return Int8Before(
        artifact=name,
        dataset=measured.dataset,
        split=measured.split,
        metric=measured.metric,
        int8=measured.value,
        float32=measured.reference_value,
    )


def _refuse_other_classes(origin: Checkpoint, given: ExportData, data: Path) -> None:
    from ..errors import InputError

    if given.dataset is None:
        raise InputError(f"{data} has no labels, and training needs them", remedy="give a data.yaml")
    if list(given.dataset.class_names) != origin.meta.class_names:
        raise InputError(
            f"the classes of {data} are not those of the checkpoint",
            expected=", ".join(origin.meta.class_names[:10]),
            remedy="train on the data that it knows; `yolo12edge train --weights` fits it to other classes",
        )


def _learned(origin: Checkpoint) -> LearnedRanges:
    from ..errors import InputError
    from ..exporters.quantized_network import learned_ranges

    ranges = learned_ranges(origin)
    if ranges is None:
        raise InputError("the artifact's ranges were learned, and the checkpoint does not have them")
    return ranges


def _solved(
    recipe: Recipe,
    checkpoint: Path,
    artifact: Artifact,
    given: ExportData,
    out: Path,
    calibration: Path | None,
) -> LearnedRanges:
    """Return ranges and rounded weights of the recipe, from the statistics of the artifact or from a new pass."""
    from ..calibration.learned import solved_ranges
    from ..calibration.quantize import Quantizer
    from ..exporters.int8 import round_weights

    beside = artifact.path.parent / f"{checkpoint.stem}.calibration.npz"
    if calibration is None and beside.is_file():
        calibration = beside
    with tempfile.TemporaryDirectory() as scratch:
        side = artifact.manifest.input.width
        onnx = open_float_onnx(checkpoint, Path(scratch) / "fp32", imgsz=side, images=given.calibration)
        out.mkdir(parents=True, exist_ok=True)
        statistics = observed(onnx, given, out / "calibration.npz", calibration, overwrite=False)
        model = onnx.model_file.read_bytes()
        quantizer = Quantizer(model, statistics)
        if recipe.rounding != "nearest":
            assert given.calibration is not None
            round_weights(quantizer, model, given.calibration, recipe, onnx.manifest.input, stage)
        return solved_ranges(quantizer, recipe)


def _form(facts: Int8Facts, ranges: LearnedRanges) -> Int8Form:
    from ..exporters.quantized_network import quantized_network
    from ..training.quantization import Int8Form

    return Int8Form(facts, lambda network: quantized_network(network, ranges, image_size=facts.image_size))


def _resumed(last: Path) -> Int8Form:
    """Return the form of a run from its last checkpoint."""
    from ..checkpoint import Checkpoint
    from ..errors import InputError
    from ..exporters.quantized_network import learned_ranges

    if not last.is_file():
        raise InputError(f"there is no {last} to go on from", remedy="start the run again")
    checkpoint = Checkpoint.load(last)
    ranges, facts = learned_ranges(checkpoint), checkpoint.meta.int8
    if ranges is None or facts is None:
        raise InputError(f"{last} has no learned ranges", remedy="resume it with `yolo12edge train --resume`")
    return _form(facts, ranges)


def _finish(result: TrainResult, form: Int8Form, data: Path) -> None:
    """Say what was learned, and how to export it."""
    from ..checkpoint import read_metadata

    began, files = form.facts.began, result.files
    summary = read_metadata(files.best).training
    name, value = next((key, value) for key, value in summary.items() if key.startswith("val_"))
    if began.int8 is not None and began.float32 is not None:
        console.print(
            f"{began.metric}: {100 * began.float32:.2f} in float and {100 * began.int8:.2f} in INT8 before.",
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"Best epoch {result.best_epoch} of {result.epochs}, {name.removeprefix('val_')} {100 * (value or 0):.2f} in "
        f"simulated INT8: {files.best}\n"
        f"Next: yolo12edge export {files.best} --int8 --data {data}{_form_options(form.facts)}",
        markup=False,
        soft_wrap=True,
    )


def _form_options(facts: Int8Facts) -> str:
    """Return the options of `export` that make the kind of artifact again that training began with."""
    from ..calibration.placement import target_here

    options = "" if facts.format == "onnx" else f" --format {facts.format}"
    if facts.format in ("onnx", "openvino") and facts.target != target_here(facts.format):
        options += f" --target {facts.target}"
    return options
