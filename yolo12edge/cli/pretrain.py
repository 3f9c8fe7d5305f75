"""``yolo12edge pretrain``: from pictures without labels to a backbone that a training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ._console import console, free_folder, progress
from ._console import out as results
from ._training import RESUME, given_options

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..training.pretraining import Backbone, Pictures, PretrainConfig, PretrainRecord, Probe

__all__ = ["pretrain"]


def pretrain(
    ctx: typer.Context,
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of pictures, or a dataset, of which only the pictures of train are looked at."),
    ] = None,
    method: Annotated[
        Literal["simclr", "byol", "jigsaw", "rotation", "inpainting", "colourisation"],
        typer.Option(help="What the backbone learns by."),
    ] = "simclr",
    model: Annotated[Literal["n", "s", "m", "l", "x"], typer.Option(help="Model scale.")] = "n",
    variant: Annotated[Literal["v1", "turbo"], typer.Option(help="Model variant.")] = "v1",
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint to go on from, to adapt it to these pictures (.safetensors).")
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="Labelled dataset: measure how well the features tell its classes apart, before and after."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the pictures.")] = 100,
    batch: Annotated[int, typer.Option(help="Pictures per step.")] = 64,
    imgsz: Annotated[int, typer.Option(help="Side of the network input, a multiple of 32.")] = 224,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/pretrain, with a number if it exists")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and views.")] = 0,
    workers: Annotated[int, typer.Option(help="Loader processes.")] = 2,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to train.")] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "bf16"], typer.Option(help="auto: bf16 or fp16 on CUDA, fp32 elsewhere.")
    ] = "auto",
    resume: Annotated[Path | None, RESUME] = None,
) -> None:
    """Teach a backbone from pictures without labels, to start a training from.

    No picture of a validation or test split is learnt from: of a dataset, of one that the folder is part of, and of
    the one that is probed. Go on with: yolo12edge train --weights RUN/backbone.safetensors
    """
    from ..data.dataset import read_dataset
    from ..errors import InputError
    from ..training.pretraining import PretrainConfig, PretrainFiles
    from ..training.pretraining import pretrain as start_run
    from ..training.pretraining import resume as resume_run

    _ = given_options(ctx, resume=resume, restart=f"start a new run with --weights {resume}/backbone.safetensors")
    if resume is not None:
        config = PretrainConfig.read(PretrainFiles(resume).config)
    else:
        if data is None:
            raise InputError("there are no pictures to learn from", remedy="add --data FOLDER, or --resume RUN")
        config = PretrainConfig(
            data=data,
            out=free_folder(Path("runs/pretrain")) if out is None else out,
            method=method,
            scale=model,
            variant=variant,
            weights=weights,
            held_out=probe,
            epochs=epochs,
            batch=batch,
            image_size=imgsz,
            lr=lr,
            seed=seed,
            workers=workers,
            device=device,
            precision=precision,
        )
    probed = None if config.held_out is None else read_dataset(config.held_out)
    root = resume or config.out
    try:
        with _Display(config, root, probed) as display:
            calls = {
                "on_read": display.read,
                "on_start": display.start,
                "on_step": display.step,
                "on_epoch": display.epoch,
            }
            result = start_run(config, **calls) if resume is None else resume_run(root, **calls)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        if PretrainFiles(root).state.is_file():
            console.print(f"Interrupted. Go on with: yolo12edge pretrain --resume {root}", markup=False, soft_wrap=True)
        raise
    if probed is not None:
        display.probe_after(result.files.backbone)
    if result.guessed:
        console.print(
            f"warning: the loss is that of guessing ({result.guessing:.2f}): the backbone has learnt nothing. The run "
            "was too short, or pictures look too much alike for simclr, or have no up and down for rotation; "
            "inpainting learns from any.",
            style="yellow",
            soft_wrap=True,
        )
    console.print(
        f"Backbone: {result.files.backbone}\nNext: yolo12edge train --model {config.scale} --variant {config.variant} "
        f"--weights {result.files.backbone} --data data.yaml",
        markup=False,
        soft_wrap=True,
    )


class _Display:
    """Shows a run: bars over the pictures and the steps, a line per epoch, a table of the probes."""

    def __init__(self, config: PretrainConfig, root: Path, probed: Dataset | None) -> None:
        self._config = config
        self._root = root
        self._probed = probed
        self._progress = progress("Reading the pictures", None, unit="images")
        self._probes: list[tuple[str, Probe]] = []

    def __enter__(self) -> _Display:
        self._steps = self._progress.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.__exit__(*details)  # type: ignore[arg-type]

    def read(self, done: int, total: int) -> None:
        """Move the bar of the pictures; the bar of the steps follows it."""
        self._steps.update(done, total)
        if done == total:
            self._progress.__exit__(None, None, None)
            self._progress = progress("Pretraining", None, unit="steps")
            self._steps = self._progress.__enter__()

    def start(self, pictures: Pictures, backbone: Backbone) -> None:
        """Say what the run is, and probe what it starts from."""
        config = self._config
        left_out = f", {pictures.left_out} held out" if pictures.left_out else ""
        console.print(
            f"YOLO12{config.scale} {config.variant}, {config.method} on {len(pictures.paths)} pictures{left_out}, "
            f"{config.epochs} epochs at {config.image_size} px, batch {config.batch}; run folder {self._root}",
            markup=False,
            soft_wrap=True,
        )
        self._probe("random weights" if config.weights is None else config.weights.name, backbone)

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        self._steps.update((epoch - 1) * steps + step, self._config.epochs * steps, note=f"epoch {epoch}")

    def epoch(self, record: PretrainRecord) -> None:
        """Print what the epoch gave."""
        figures = "  ".join(
            f"{name.removeprefix('train/')} {value:.4f}"
            for name, value in record.values.items()
            if name.startswith("train/")
        )
        console.print(
            f"epoch {record.epoch:>3}/{self._config.epochs}  {figures}   {record.values['seconds']:.0f} s", markup=False
        )

    def probe_after(self, path: Path) -> None:
        """Probe what came out, and print both."""
        from rich.table import Table

        from ..training.pretraining import load_backbone

        self._probe(path.name, load_backbone(path))
        last = self._probes[-1][1]
        table = Table(title=f"Nearest neighbours, mean over classes (chance {100 * last.chance:.1f})")
        table.add_column("features")
        for head in (*(f"{count} a class" for count in last.shots), f"all {last.examples}"):
            table.add_column(head, justify="right")
        for name, probe in self._probes:
            table.add_row(name, *(f"{100 * value:.1f}" for value in (*probe.shots.values(), probe.accuracy)))
        results.print(table)

    def _probe(self, name: str, backbone: Backbone) -> None:
        if self._probed is not None:
            from ..training.pretraining import probe_backbone

            probe = probe_backbone(backbone, self._probed, image_size=self._config.image_size)
            self._probes.append((name, probe))
