"""The files of a training run, and the Lightning callback that writes them after each epoch."""

from __future__ import annotations

import csv
import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError

from ..checkpoint import Checkpoint, CheckpointMeta
from ..errors import InputError, TrainingError
from ..files import atomic_file
from ..nn import YOLO12
from .config import CONFIG_NAME
from .module import TrainingModule

__all__ = ["NO_ROOM", "EpochRecord", "RunFiles", "RunWriter", "go_on", "no_room", "refuse_held"]

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Numbers of the errors of the system that mean a full disk."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where a run keeps what.

    Attributes:
        root: The run's directory.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The configuration, JSON."""
        return self.root / CONFIG_NAME

    @property
    def state(self) -> Path:
        """All that a resumed run needs: weights, average, optimizer, progress."""
        return self.root / "state.ckpt"

    @property
    def best(self) -> Path:
        """Averaged weights of the best epoch."""
        return self.root / "best.safetensors"

    @property
    def last(self) -> Path:
        """Averaged weights of the last epoch."""
        return self.root / "last.safetensors"

    @property
    def fault(self) -> Path:
        """The batch whose loss was not a number, JSON; beside it its pictures, JPEG."""
        return self.root / "not-a-number.json"

    @property
    def samples(self) -> Path:
        """Augmented training images with their labels, JPEG."""
        return self.root / "train-samples.jpg"

    @property
    def plots(self) -> Path:
        """Curves, confusion matrix and sample images."""
        return self.root / "plots"

    @property
    def results(self) -> Path:
        """One line of losses, accuracy and learning rate per epoch, CSV."""
        return self.root / "results.csv"

    def clear_unfinished(self) -> None:
        """Delete what a run was writing when it was killed."""
        for path in (self.config, self.state, self.best, self.last, self.results):
            for unfinished in self.root.glob(f".{path.stem}.????????.tmp{path.suffix}"):
                unfinished.unlink(missing_ok=True)
        self.state.with_suffix(".partial").unlink(missing_ok=True)

    def check_free(self) -> None:
        """Refuse a directory with anything in it that a new run would replace.

        Raises:
            InputError: If there is.
        """
        refuse_held(self.root, (self.config, self.state, self.best, self.last, self.results))


def refuse_held(root: Path, files: Sequence[Path]) -> None:
    """Refuse the directory of a new run if one of the files that it would write is there.

    Raises:
        InputError: If so.
    """
    held = [path for path in files if path.exists()]
    if held:
        raise InputError(
            f"{root} holds another run or a file that this one would replace: {held[0].name}",
            remedy=f"choose another directory, or continue that run with --resume {root}",
        )


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch gave.

    Attributes:
        epoch: Counted from 1.
        values: Columns of ``results.csv``: ``train/box``, ``val/ap`` and so on.
        figures: What the task is known by, by its name for people: the score first, which decides what is best.
        best: Whether it is the best epoch so far.
    """

    epoch: int
    values: Mapping[str, float]
    figures: Mapping[str, float]
    best: bool


class RunWriter(L.Callback):
    """Writes results, checkpoints and the resumable state after each epoch, and stops a run that stalls.

    Args:
        files: Where to.
        patience: Epochs without a better result after which to stop.
        meta: Makes a checkpoint's metadata from the training summary.
        resumable: Whether the state of the run is written.
        on_step: Called after each step with its number within the epoch and the epoch's steps.
        on_epoch: Called after each epoch.
    """

    def __init__(
        self,
        files: RunFiles,
        *,
        patience: int,
        meta: Callable[[dict[str, Any]], CheckpointMeta],
        resumable: bool = True,
        on_step: Callable[[int, int, int], None] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> None:
        self.files = files
        self.patience = patience
        self.meta = meta
        self.resumable = resumable
        self.on_step = on_step
        self.on_epoch = on_epoch
        self.best_fitness = -1.0
        self.best_epoch = 0
        self.rows: list[dict[str, float]] = []
        self.wrote = False
        self._began = time.monotonic()

    @property
    def stalled(self) -> bool:
        """Whether the newest epoch is so far from the best that the run ends."""
        return len(self.rows) - self.best_epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs of this."""
        return {"best_fitness": self.best_fitness, "best_epoch": self.best_epoch, "rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.best_fitness = state_dict["best_fitness"]
        self.best_epoch = state_dict["best_epoch"]
        self.rows = state_dict["rows"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Train no more in a run that had stalled when it was resumed."""
        trainer.should_stop = trainer.should_stop or self.stalled

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Tell of a step."""
        if self.on_step is not None and trainer.is_global_zero:
            batch_idx: int = args[-1]
            self.on_step(trainer.current_epoch + 1, batch_idx + 1, int(trainer.num_training_batches))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the epoch gave; validation has run by now."""
        assert isinstance(pl_module, TrainingModule)
        metrics = pl_module.metrics
        assert metrics is not None
        columns = metrics.columns()
        epoch = trainer.current_epoch + 1
        optimizer = trainer.optimizers[0]
        values = {
            "epoch": float(epoch),
            "seconds": time.monotonic() - self._began,
            "lr": float(optimizer.param_groups[0]["lr"]),
            **{f"train/{name}": value for name, value in pl_module.train_loss.means().items()},
            **{f"val/{name}": value for name, value in pl_module.val_loss.means().items()},
            **{f"val/{name}": value for name, value in columns.items()},
        }
        if pl_module.logger is not None:
            pl_module.logger.log_metrics({k: v for k, v in values.items() if k != "epoch"}, step=epoch)
        self.rows = [*self.rows, values]
        fitness = pl_module.scores[-1]
        # While nothing is found yet, the newest epoch is the best: patience starts with the first detection.
        best = fitness > self.best_fitness or self.best_fitness <= 0
        if best:
            self.best_fitness, self.best_epoch = fitness, epoch
        # The first two are what the task is known by: AP and AP50, top-1 and top-5.
        summary = {"epoch": epoch, **{f"val_{name}": finite(columns[name]) for name in list(columns)[:2]}}
        temporary = self.files.state.with_suffix(".partial")
        checkpoint = self._checkpoint(pl_module.average.network, summary) if trainer.is_global_zero else None
        try:
            if checkpoint is not None:
                if best:
                    checkpoint.save(self.files.best)
                checkpoint.save(self.files.last)
                write_rows(self.files.results, self.rows)
            if self.resumable:
                trainer.save_checkpoint(temporary)  # all processes take part, the first one writes
            if self.resumable and trainer.is_global_zero:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                temporary.replace(self.files.state)
        except (OSError, RuntimeError, SafetensorError, InputError) as error:  # each library has its own
            if trainer.is_global_zero:
                temporary.unlink(missing_ok=True)
            raise no_room(self.files, str(error)) from error
        self.wrote = True
        trainer.should_stop = trainer.should_stop or self.stalled
        if self.on_epoch is not None and trainer.is_global_zero:
            self.on_epoch(EpochRecord(epoch, values, metrics.figures(), best))

    def _checkpoint(self, network: YOLO12, summary: dict[str, Any]) -> Checkpoint:
        tensors: dict[str, torch.Tensor] = {key: value.cpu() for key, value in network.state_dict().items()}
        return Checkpoint(self.meta(summary), tensors)


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """Write rows of numbers as CSV, atomically."""
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})


def finite(value: float) -> float | None:
    """Return the value, or None where there was nothing to measure; JSON has no NaN."""
    return round(value, 6) if value == value else None


def no_room(files: RunFiles, why: str) -> TrainingError:
    """Return the error for a file of a run that could not be written."""
    return TrainingError(
        f"the files of this epoch could not be written to {files.root}: {why}; those of the epochs before are whole",
        remedy=f"see that there is room and that it can be written; {go_on(files)}",
    )


def go_on(files: RunFiles) -> str:
    """Return how a run goes on, as the end of a remedy."""
    return f"then go on with yolo12edge train --resume {files.root}"
