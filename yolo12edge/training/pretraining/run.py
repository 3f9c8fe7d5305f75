"""``pretrain``: from pictures to a backbone, on Lightning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import numpy as np
import torch

from ...checkpoint import Checkpoint
from ...errors import DatasetError, InputError
from ...files import atomic_file
from ...imaging.draw import evenly, label_grid
from ...imaging.images import write_image
from ...nn import ModelConfig
from ..config import TrainConfig
from ..run import refuse_held
from ..trainer import choose_device, interruptible, quiet_lightning
from ..transfer import refuse_other_network
from .backbone import Backbone, fit_batch_norms, load_backbone
from .config import PretrainConfig
from .files import PretrainFiles, PretrainRecord, PretrainWriter
from .loader import ViewDataset, view_loader
from .methods import METHODS
from .module import PretrainingModule
from .pictures import Pictures, find_pictures

__all__ = ["PretrainResult", "pretrain", "resume", "start_backbone"]

_CLIP_NORM = 5.0
_SHOWN = 8
_GUESSED = 0.97  # of the loss of guessing


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """What a run ended with.

    Attributes:
        files: Its files.
        records: Its epochs.
        pictures: What it learnt from.
        guessing: The loss of a network that guesses; None where the method has no such.
    """

    files: PretrainFiles
    records: list[PretrainRecord]
    pictures: Pictures
    guessing: float | None

    @property
    def guessed(self) -> bool:
        """Whether the last epoch was hardly better than guessing: then the backbone has learnt nothing."""
        return self.guessing is not None and self.records[-1].values["train/loss"] > _GUESSED * self.guessing


def pretrain(
    config: PretrainConfig,
    *,
    on_read: Callable[[int, int], None] | None = None,
    on_start: Callable[[Pictures, Backbone], None] | None = None,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[PretrainRecord], None] | None = None,
) -> PretrainResult:
    """Pretrain a backbone from the start.

    Args:
        config: The run.
        on_read: Called with (pictures read, pictures in all), before anything is learnt.
        on_start: Called before the first step with the pictures and the backbone as it starts, fit to be probed.
        on_step: Called after each step with epoch, step within it, and steps of the epoch, from 1.
        on_epoch: Called after each epoch.

    Raises:
        InputError: If the run's directory holds another run or cannot be written, or the loss is not finite.
        DatasetError: If the pictures are not usable.
        CheckpointError: If ``config.weights`` does not fit.
        BackendError: If the device or precision is not to be had.
    """
    files = PretrainFiles(config.out)
    refuse_held(files.root, (files.config, files.state, files.backbone, files.results))
    # Absolute, so that the run can be resumed from anywhere.
    config = replace(
        config,
        data=config.data.absolute(),
        weights=config.weights and config.weights.absolute(),
        held_out=config.held_out and config.held_out.absolute(),
    )
    return _run(config, files, False, on_read, on_start, on_step, on_epoch)


def resume(
    root: Path,
    *,
    on_read: Callable[[int, int], None] | None = None,
    on_start: Callable[[Pictures, Backbone], None] | None = None,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[PretrainRecord], None] | None = None,
) -> PretrainResult:
    """Continue an interrupted run after its last whole epoch, exactly as it would have gone on.

    Args:
        root: The run's directory.
        on_read: As in ``pretrain``.
        on_start: As in ``pretrain``; the backbone is the one that the run once started from.
        on_step: As in ``pretrain``.
        on_epoch: As in ``pretrain``.

    Raises:
        InputError: If there is nothing to resume, or the pictures are others by now.
    """
    files = PretrainFiles(root)
    config = PretrainConfig.read(files.config)
    if not files.state.is_file():
        raise InputError(
            f"{root} ended before its first epoch did", remedy="delete the directory and start the run again"
        )
    return _run(replace(config, out=root), files, True, on_read, on_start, on_step, on_epoch)


def start_backbone(config: PretrainConfig) -> tuple[Backbone, str | None]:
    """Return the backbone that a run starts from, and the licence of its weights.

    Raises:
        CheckpointError: If the checkpoint is not usable, or of another scale or variant.
    """
    if config.weights is None:
        return Backbone(ModelConfig(scale=config.scale, variant=config.variant, num_classes=1)), None
    checkpoint = Checkpoint.load(config.weights)
    meta = checkpoint.meta
    refuse_other_network(meta, config)
    return load_backbone(checkpoint), meta.weights_license


def _run(
    config: PretrainConfig,
    files: PretrainFiles,
    resumed: bool,
    on_read: Callable[[int, int], None] | None,
    on_start: Callable[[Pictures, Backbone], None] | None,
    on_step: Callable[[int, int, int], None] | None,
    on_epoch: Callable[[PretrainRecord], None] | None,
) -> PretrainResult:
    accelerator, precision = choose_device(
        TrainConfig(data=config.data, out=config.out, device=config.device, precision=config.precision)
    )
    pictures = find_pictures(config.data, held_out=config.held_out, progress=on_read)
    if len(pictures.paths) < 2:
        raise DatasetError(f"{config.data} has one picture to learn from", expected="two or more, better thousands")
    L.seed_everything(config.seed, workers=True, verbose=False)
    if resumed:  # all weights come from the state; those that it started from may be gone by now
        backbone, weights_license = start_backbone(replace(config, weights=files.backbone))
    else:
        backbone, weights_license = start_backbone(config)
    pretext = METHODS[config.method]
    views = ViewDataset(pictures.paths, pretext, image_size=config.image_size, seed=config.seed)
    loader = view_loader(views, batch=config.batch, workers=config.workers, pin=accelerator == "cuda")
    module = PretrainingModule(backbone, pretext(backbone), config, len(loader))
    writer = PretrainWriter(config, files, pictures, weights_license, on_step, on_epoch)
    if not resumed:
        files.root.mkdir(parents=True, exist_ok=True)
        with atomic_file(files.config) as temporary:
            temporary.write_bytes(config.to_json())
        _draw_views(views, files.views)
        if on_start is not None:
            place = torch.device(accelerator)
            backbone.to(place)
            if config.weights is None:
                fit_batch_norms(backbone, writer.plain_batches(place))
            on_start(pictures, backbone.eval())
    with quiet_lightning():
        trainer = L.Trainer(
            max_epochs=config.epochs,
            accelerator=accelerator,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            callbacks=[writer],
            logger=False,
            gradient_clip_val=_CLIP_NORM,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=files.root,
        )
        if resumed:
            # Lightning starts the first iterator before it tells the sampler the epoch.
            loader.sampler.set_epoch(torch.load(files.state, weights_only=True, mmap=True)["epoch"] + 1)  # type: ignore[attr-defined]
        with interruptible(trainer):
            trainer.fit(module.train(), loader, ckpt_path=files.state if resumed else None, weights_only=True)
    records = [PretrainRecord(int(row["epoch"]), row) for row in writer.rows]
    return PretrainResult(files, records, pictures, pretext.guessing(min(config.batch, len(views))))


def _draw_views(views: ViewDataset, out: Path) -> None:
    """Draw what the network is shown of some pictures in the first epoch, a row for each."""
    rows = []
    for index in evenly(len(views), _SHOWN):
        shown = [view.numpy() for view in views[0, index] if view.dtype == torch.uint8]
        tiles = [tile for view in shown for tile in view.reshape(-1, *view.shape[-3:])]
        cells = [np.ascontiguousarray(tile.transpose(1, 2, 0)[..., ::-1]) for tile in tiles]
        rows.append(label_grid(cells, columns=len(cells), cell=160))
    write_image(out, np.concatenate(rows))
