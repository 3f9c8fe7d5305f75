"""The Lightning module: one training step, one validation pass, and what a resumed run needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..data.batch import Batch, resized
from ..metrics import Metrics
from ..nn import YOLO12
from .collectives import gather_everywhere, process_count, sum_of_all
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

    def add(self, values: Sequence[float] | Tensor, images: int) -> None:
        """Add the parts of one batch, in the order of their names."""
        self._sums += torch.as_tensor(values, device="cpu").double() * images
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
        rank: The process whose batch it is.
    """

    def __init__(self, what: str, epoch: int, step: int, parts: Mapping[str, float], rank: int = 0) -> None:
        super().__init__(what, epoch, step, parts, rank)
        self.what = what
        self.epoch = epoch
        self.step = step
        self.parts = dict(parts)
        self.rank = rank


class _Taken(NamedTuple):
    """A step since the last one of the optimizer: its number, its images, and the parts of its loss, on the device."""

    step: int
    images: int
    parts: Tensor


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
        self._taken: list[_Taken] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the plan."""
        return build_optimizer(self.network, self.plan)

    def setup(self, stage: str) -> None:
        """Bring the networks into the form in which they compute fastest, before gradients get theirs from it."""
        if self.plan.config.strategy == "deepspeed":  # which lays weights in a row
            return
        for network in (self.network, self.average.network):
            network.to(memory_format=memory_format(self.trainer.strategy.root_device))  # type: ignore[call-overload]

    def on_fit_start(self) -> None:
        """Bring the average to the device of the network."""
        self.average.network.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Start an epoch's means."""
        for layer in self._frozen:
            layer.eval()
        self.train_loss = LossMean(self.loss.parts)

    def forward(self, images: Tensor) -> Any:
        """Run the network that is trained."""
        return self.network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Learn from one batch.

        Args:
            batch: Images (B, 3, S, S) uint8 and their objects.
            batch_idx: Index within the epoch.
        """
        optimizer = self.optimizers()
        assert isinstance(optimizer, L.pytorch.core.optimizer.LightningOptimizer)
        number, per_epoch = self.current_epoch * self.plan.steps_per_epoch + batch_idx, self.plan.steps_per_epoch
        step = self.plan.at(number, scores=self.scores)
        apply_step(optimizer.optimizer, step)
        self._regulariser.start_step(number, self.plan.config.epochs * per_epoch, self.global_rank)
        batch = resized(batch, self._side(number))
        engine = self.trainer.model if self.plan.config.strategy == "deepspeed" else self
        assert engine is not None
        parts = self._stacked(self.loss(engine(images_to_float(batch.images)), batch))
        self._taken.append(_Taken(batch_idx, len(batch.images), parts.detach()))
        share = 1 if self.loss.summed else self.plan.config.batch * step.accumulate
        images = len(batch.images) * process_count()
        moves = len(self._taken) >= step.accumulate or batch_idx + 1 == per_epoch
        with optimizer.toggle_model(sync_grad=moves):  # the processes' gradients are averaged once, not in each step
            self.manual_backward(parts.sum() * (images / share))
        if not moves:
            return
        optimizer.step()
        optimizer.zero_grad()
        self.average.update(self.network)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, unless one is not a number; mixed precision's scale is taken off them by now.

        Raises:
            NotFiniteError: In all processes of the run, of the batch that is to blame.
        """
        if self.plan.config.strategy == "deepspeed":  # which has the gradients, and clips them
            norm = torch.zeros((), device=self.device)
        else:
            norm = clip_grad_norm_(self.network.parameters(), self.plan.config.clip_norm)
        taken, self._taken = self._taken, []
        mine = torch.cat([*(one.parts for one in taken), norm.view(1)])
        wrong = sum_of_all((~mine.isfinite()).any().to(mine).view(1))  # of all processes, as they end together
        # The only time that this process waits for its device.
        *flat, length, any_wrong = torch.cat((mine, wrong)).tolist()
        count = len(self.loss.parts)
        values = [flat[start : start + count] for start in range(0, len(flat), count)]
        for one, parts in zip(taken, values, strict=True):
            self.train_loss.add(parts, one.images)
        if any_wrong:
            self._find_wrong(taken, values, length)

    def _find_wrong(self, taken: Sequence[_Taken], values: Sequence[Sequence[float]], norm: float) -> None:
        """Raise the error of the first batch of all processes that is to blame."""
        blamed = [("loss", one.step, parts) for one, parts in zip(taken, values, strict=True) if not all_finite(*parts)]
        # Mixed precision finds its scale by steps that it leaves out.
        if not blamed and not all_finite(norm) and self.trainer.precision != "16-mixed":
            blamed = [("gradient", taken[-1].step, values[-1])]
        everywhere = enumerate(gather_everywhere(blamed))
        found = [(what != "loss", step, rank, parts) for rank, own in everywhere for what, step, parts in own]
        if found:
            by_gradient, step, rank, parts = min(found)
            named = dict(zip(self.loss.parts, parts, strict=True))
            raise NotFiniteError("gradient" if by_gradient else "loss", self.current_epoch, step, named, rank)

    def _stacked(self, parts: Parts) -> Tensor:
        """Return the parts of a loss as one tensor, in the order of their names."""
        return torch.stack([parts[name] for name in self.loss.parts])

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
        self.val_loss.add(self._stacked(self.loss(output, batch)), len(batch.images))
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


def all_finite(*values: float) -> bool:
    """Return whether all values are numbers, and not infinite."""
    return all(map(isfinite, values))


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the order of a picture's numbers in which convolutions are fastest: channels last, but not on MPS."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def images_to_float(images: Tensor) -> Tensor:
    """Map uint8 pixels (B, 3, H, W) to float32 in [0, 1], in the order that ``memory_format`` names."""
    return images.contiguous(memory_format=memory_format(images.device)).float().div_(255)
