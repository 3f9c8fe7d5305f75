"""The Lightning module of pretraining: a backbone, what a method puts behind it, and how both learn."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ...errors import InputError
from ..module import LossMean
from .backbone import Backbone
from .config import PretrainConfig
from .pretext import Pretext

__all__ = ["PretrainingModule"]

_WARMUP = 0.1  # share of the run


class PretrainingModule(L.LightningModule):
    """Trains a backbone by a method."""

    def __init__(self, backbone: Backbone, pretext: Pretext, config: PretrainConfig, steps_per_epoch: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pretext = pretext
        self.config = config
        self.steps = steps_per_epoch * config.epochs
        self.means = LossMean(pretext.parts)

    def configure_optimizers(self) -> Any:
        """Return AdamW, whose rate follows every step."""
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in learnt if p.ndim > 1], "weight_decay": self.config.weight_decay},
                {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=self.config.lr,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def rate(self, step: int) -> float:
        """Return the share of the highest learning rate at a step."""
        rising = max(1.0, self.steps * _WARMUP)
        if step < rising:
            return (step + 1) / (rising + 1)
        return (1 + math.cos(math.pi * (step - rising) / max(self.steps - rising, 1))) / 2

    def on_train_epoch_start(self) -> None:
        """Start an epoch's means."""
        self.means = LossMean(self.pretext.parts)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Learn from the views of one batch."""
        parts = self.pretext(self.backbone, *batch)
        if not bool(torch.isfinite(parts["loss"])):
            raise InputError(
                f"the loss of step {batch_idx + 1} of epoch {self.current_epoch + 1} is not finite",
                remedy="start again with a lower --lr, or with --precision fp32",
            )
        self.means.add(torch.stack([parts[name].detach() for name in self.pretext.parts]), len(batch[0]))
        return parts["loss"]  # type: ignore[no-any-return]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let the method follow the step."""
        self.pretext.after_step(self.backbone, self.global_step / self.steps)
