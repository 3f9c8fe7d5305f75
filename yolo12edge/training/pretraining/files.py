"""The files of a pretraining run, and the Lightning callback that writes them after each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ...checkpoint import Checkpoint, meta_of
from ...errors import InputError
from ...files import atomic_file
from ..run import write_rows
from .backbone import Backbone, fit_batch_norms
from .config import PretrainConfig
from .loader import plain_batches
from .module import PretrainingModule
from .pictures import Pictures

__all__ = ["PretrainFiles", "PretrainRecord", "PretrainWriter"]


@dataclass(frozen=True, slots=True)
class PretrainFiles:
    """Where a run keeps what.

    Attributes:
        root: The run's directory.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The configuration, JSON."""
        return self.root / "pretrain.json"

    @property
    def state(self) -> Path:
        """All that a resumed run needs."""
        return self.root / "state.ckpt"

    @property
    def backbone(self) -> Path:
        """What ``train --weights`` starts from."""
        return self.root / "backbone.safetensors"

    @property
    def views(self) -> Path:
        """What the network is shown, JPEG."""
        return self.root / "views.jpg"

    @property
    def results(self) -> Path:
        """One line of losses and figures per epoch, CSV."""
        return self.root / "results.csv"


@dataclass(frozen=True, slots=True)
class PretrainRecord:
    """What one epoch gave.

    Attributes:
        epoch: Counted from 1.
        values: Columns of ``results.csv``; those of the method begin with ``train/``.
    """

    epoch: int
    values: dict[str, float]


class PretrainWriter(L.Callback):
    """Writes results, the backbone and the resumable state after each epoch."""

    def __init__(
        self,
        config: PretrainConfig,
        files: PretrainFiles,
        pictures: Pictures,
        weights_license: str | None,
        on_step: Callable[[int, int, int], None] | None,
        on_epoch: Callable[[PretrainRecord], None] | None,
    ) -> None:
        self.config = config
        self.files = files
        self.pictures = pictures
        self.weights_license = weights_license
        self.on_step = on_step
        self.on_epoch = on_epoch
        self.rows: list[dict[str, float]] = []
        self._began = time.monotonic()

    def plain_batches(self, device: torch.device) -> Iterator[Tensor]:
        """Give the pictures that batch norms are fitted to."""
        config = self.config
        return plain_batches(self.pictures.paths, image_size=config.image_size, batch=config.batch, device=device)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs of this."""
        return {"rows": self.rows, "pictures": self.pictures.sha256}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it.

        Raises:
            InputError: If the pictures are not those that the run began with.
        """
        if state_dict["pictures"] != self.pictures.sha256:
            raise InputError(
                f"the pictures of {self.config.data} are not those that the run began with",
                remedy="put them back, or start a new run with --weights "
                f"{self.files.backbone}, which goes on from what was learnt",
            )
        self.rows = state_dict["rows"]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Tell of a step."""
        if self.on_step is not None:
            self.on_step(trainer.current_epoch + 1, args[-1] + 1, int(trainer.num_training_batches))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the epoch gave."""
        assert isinstance(pl_module, PretrainingModule)
        epoch = trainer.current_epoch + 1
        values = {
            "epoch": float(epoch),
            "seconds": time.monotonic() - self._began,
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            **{f"train/{name}": value for name, value in pl_module.means.means().items()},
        }
        self.rows = [*self.rows, values]
        backbone = self._backbone(pl_module, epoch)
        try:
            backbone.save(self.files.backbone)
            write_rows(self.files.results, self.rows)
            with atomic_file(self.files.state) as temporary:  # last: where it is, the others are too
                trainer.save_checkpoint(temporary)
        except (OSError, RuntimeError) as error:  # torch has no class of its own for a full disk
            raise InputError(
                f"epoch {epoch} cannot be written to {self.files.root}: {error}",
                remedy=f"make room, then go on with: yolo12edge pretrain --resume {self.files.root}",
            ) from error
        if self.on_epoch is not None:
            self.on_epoch(PretrainRecord(epoch, values))

    def _backbone(self, module: PretrainingModule, epoch: int) -> Checkpoint:
        """Return the backbone as it is now, fit for plain pictures; the one in training stays as it is."""
        fitted = Backbone(module.backbone.config).to(module.device)
        fitted.load_state_dict(module.backbone.state_dict())
        fit_batch_norms(fitted, self.plain_batches(module.device))
        config = self.config
        meta = meta_of(
            fitted.config,
            class_names=(),
            image_size=config.image_size,
            source="trained",
            weights_license=self.weights_license,
            training={
                "method": config.method,
                "epochs": epoch,
                "of_epochs": config.epochs,
                "pictures": len(self.pictures.paths),
                "pictures_sha256": self.pictures.sha256,
                "batch": config.batch,
                "seed": config.seed,
            },
        )
        return Checkpoint(meta, {key: value.cpu() for key, value in fitted.state_dict().items()})
