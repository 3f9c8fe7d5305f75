"""The Lightning module: one training step, one validation pass, and what a resumed run needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..data.batch import Batch, resized
from ..metrics import Metrics
from ..nn import YOLO12
from .collectives import process_count, sum_of_all
from .ema import WeightAverage
from .losses import Parts, TaskLoss
from .optim import Plan, apply_step, build_optimizer
from .regularisation import Regulariser
from .validation import Validation

__all__ = ["LossMean", "NotFiniteError", "TrainingModule"]


class LossMean:
    """Mean of the loss parts over an epoch, by image.

    Args:
        parts: Their names.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._names = tuple(parts)
        self._sums = torch.zeros(len(self._names), dtype=torch.float64)
        self._images = 0

    def add(self, parts: Parts, images: int) -> None:
        """Add one batch."""
        self._sums += torch.stack([parts[name].detach() for name in self._names]).cpu().double() * images
        self._images += images

    def share(self, device: torch.device) -> None:
        """Make it the mean of all processes.

        Args:
            device: Where they exchange numbers.
        """
        kept = torch.cat((self._sums, self._sums.new_tensor([self._images])))
        total = sum_of_all(kept.to(device, torch.float32 if device.type == "mps" else torch.float64)).cpu().double()
        self._sums, self._images = total[:-1], int(total[-1])

    def means(self) -> dict[str, float]:
        """Return the means by part."""
        means = (self._sums / max(self._images, 1)).tolist()
        return dict(zip(self._names, means, strict=True))


class NotFiniteError(Exception):
    """A loss or gradient is infinite or no number; the weights have not been touched by it.

    Args:
        what: ``loss`` or ``gradient``.
        epoch: Of the batch, from 0.
        step: Within the epoch, from 0.
        parts: Parts of the loss.
    """

    def __init__(self, what: str, epoch: int, step: int, parts: Mapping[str, float]) -> None:
        super().__init__(what, epoch, step, parts)
        self.what = what
        self.epoch = epoch
        self.step = step
        self.parts = dict(parts)


class TrainingModule(L.LightningModule):
    """Trains a YOLO12 of any task; optimization is manual, because accumulation changes during warm-up.

    Args:
        network: The network to train.
        plan: How.
        loss: What it learns by.
        validation: How the averaged weights are scored.
        frozen: Layers that are not trained; their batch norms go on using the averages that they have.
    """

    def __init__(
        self, network: YOLO12, plan: Plan, loss: TaskLoss, validation: Validation, *, frozen: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.plan = plan
        self.loss = loss
        self.validation = validation
        self.average = WeightAverage(network, plan.total_updates)
        self._frozen = tuple(frozen)
        config = plan.config  # after the average is made: what is averaged drops nothing
        self._regulariser = Regulariser(network, dropout=config.dropout, dropblock=config.dropblock, seed=config.seed)
        self.train_loss = LossMean(loss.parts)
        self.val_loss = LossMean(loss.parts)
        self.metrics: Metrics | None = None
        self.scores: list[float] = []  # of the epochs done
        self._parts: Parts = {}
        self._step = 0
        self._since_update = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the plan."""
        return build_optimizer(self.network, self.plan)

    def on_fit_start(self) -> None:
        """Bring the average to the device of the network, and both into the form in which it computes fastest."""
        self.average.network.to(self.device)
        for network in (self.network, self.average.network):
            network.to(memory_format=memory_format(self.device))  # type: ignore[call-overload]  # keyword alone

    def on_train_epoch_start(self) -> None:
        """Start an epoch's means."""
        for layer in self._frozen:
            layer.eval()
        self.train_loss = LossMean(self.loss.parts)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Learn from one batch.

        Args:
            batch: Images (B, 3, S, S) uint8 and their objects.
            batch_idx: Index within the epoch.
        """
        optimizer = self.optimizers()
        assert isinstance(optimizer, L.pytorch.core.optimizer.LightningOptimizer)
        self._step = batch_idx
        number, per_epoch = self.current_epoch * self.plan.steps_per_epoch + batch_idx, self.plan.steps_per_epoch
        step = self.plan.at(number, scores=self.scores)
        apply_step(optimizer.optimizer, step)
        self._regulariser.start_step(number, self.plan.config.epochs * per_epoch, self.global_rank)
        batch = resized(batch, self._side(number))
        parts = self.loss(self.network(images_to_float(batch.images)), batch)
        self.train_loss.add(parts, len(batch.images))
        self._parts = {name: value.detach() for name, value in parts.items()}
        self._check_finite("loss", *self._parts.values())
        total = torch.stack([parts[name] for name in self.loss.parts]).sum()
        share = 1 if self.loss.summed else self.plan.config.batch * step.accumulate
        images = len(batch.images) * process_count()
        self._since_update += 1
        moves = self._since_update >= step.accumulate or batch_idx + 1 == self.plan.steps_per_epoch
        with optimizer.toggle_model(sync_grad=moves):  # the processes' gradients are averaged once, not in each step
            self.manual_backward(total * (images / share))
        if not moves:
            return
        self._since_update = 0
        optimizer.step()
        optimizer.zero_grad()
        self.average.update(self.network)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients; Lightning calls this once mixed precision's scale is taken off them."""
        norm = clip_grad_norm_(self.network.parameters(), self.plan.config.clip_norm)
        if self.trainer.precision != "16-mixed":  # whose scale is found by steps that it leaves out
            self._check_finite("gradient", norm)

    def _check_finite(self, what: str, *values: Tensor) -> None:
        if not all(bool(torch.isfinite(value)) for value in values):
            parts = {name: value.item() for name, value in self._parts.items()}
            raise NotFiniteError(what, self.current_epoch, self._step, parts)

    def _side(self, number: int) -> int:
        """Return the side of the pictures of a step of the run, in pixels."""
        config = self.plan.config
        rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(number,)))
        return int(rng.choice(config.sides))

    def on_validation_epoch_start(self) -> None:
        """Start a validation pass."""
        self.average.share()
        self.val_loss = LossMean(self.loss.parts)
        self.validation.start()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Run the averaged weights.

        Args:
            batch: Prepared as the Runtime prepares frames, and what is labelled.
            batch_idx: Index within the pass.
        """
        network = self.average.network
        output = network(images_to_float(batch.images))
        self.val_loss.add(self.loss(output, batch), len(batch.images))
        self.validation.add(network.head.decode(output))

    def on_validation_epoch_end(self) -> None:
        """Score the pass; the epoch's means become those of all processes."""
        self.train_loss.share(self.device)
        self.val_loss.share(self.device)
        self.metrics = self.validation.score()
        self.scores.append(nan_to_zero(self.metrics.score))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the averaged weights to the state of the run."""
        checkpoint["average"] = self.average.state_dict()
        checkpoint["scores"] = self.scores

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the averaged weights."""
        self.average.load_state_dict(checkpoint["average"])
        self.scores = checkpoint.get("scores", [])  # absent from runs of older versions


def nan_to_zero(value: float) -> float:
    """Return the value, or 0 where there was nothing to measure."""
    return value if value == value else 0.0


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the order of a picture's numbers in which convolutions are fastest: channels last, but not on MPS."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def images_to_float(images: Tensor) -> Tensor:
    """Map uint8 pixels (B, 3, H, W) to float32 in [0, 1], in the order that ``memory_format`` names."""
    return images.contiguous(memory_format=memory_format(images.device)).float().div_(255)
