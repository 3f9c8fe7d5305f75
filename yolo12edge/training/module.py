"""The Lightning module: one training step, one validation pass, and what a resumed run needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..data.loader import Batch
from ..detections import Detections
from ..metrics.detection import DetectionMetrics, evaluate_detections
from ..metrics.evaluate import EVAL_THRESHOLDS
from ..metrics.target import Target
from ..nn import YOLO12
from ..tasks.detect import decode
from .ema import WeightAverage
from .loss import DetectionLoss, LossParts
from .optim import Plan, apply_step, build_optimizer

__all__ = ["DetectorModule", "LossMean"]


class LossMean:
    """Mean of the loss parts over an epoch, by image."""

    def __init__(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._images = 0

    def add(self, parts: LossParts, images: int) -> None:
        """Add one batch."""
        self._sums += torch.stack([part.detach() for part in parts]).cpu().double() * images
        self._images += images

    def means(self) -> dict[str, float]:
        """Return the means by part."""
        means = (self._sums / max(self._images, 1)).tolist()
        return dict(zip(LossParts._fields, means, strict=True))


class DetectorModule(L.LightningModule):
    """Trains a YOLO12 detector; optimization is manual, because accumulation changes during warm-up.

    Args:
        network: The network to train.
        plan: How.
        class_names: Names by class index.
    """

    def __init__(self, network: YOLO12, plan: Plan, class_names: Sequence[str]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.plan = plan
        self.class_names = list(class_names)
        self.loss = DetectionLoss(plan.config.gains)
        self.average = WeightAverage(network, plan.total_updates)
        self.train_loss = LossMean()
        self.val_loss = LossMean()
        self.metrics: DetectionMetrics | None = None
        self._since_update = 0
        self._predictions: list[Detections] = []
        self._targets: list[Target] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the plan."""
        return build_optimizer(self.network, self.plan)

    def on_fit_start(self) -> None:
        """Bring the average to the device of the network."""
        self.average.network.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Start an epoch's means."""
        self.train_loss = LossMean()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Learn from one batch.

        Args:
            batch: Images (B, 3, S, S) uint8 and their objects.
            batch_idx: Index within the epoch.
        """
        optimizer = self.optimizers()
        assert isinstance(optimizer, L.pytorch.core.optimizer.LightningOptimizer)
        step = self.plan.at(self.current_epoch * self.plan.steps_per_epoch + batch_idx)
        apply_step(optimizer.optimizer, step)
        parts = self._losses(self.network, batch)
        self.train_loss.add(parts, len(batch.images))
        # The recipe's learning rates are made for a loss summed over the images.
        self.manual_backward(parts.total * len(batch.images))
        self._since_update += 1
        if self._since_update < step.accumulate and batch_idx + 1 < self.plan.steps_per_epoch:
            return
        self._since_update = 0
        optimizer.step()
        optimizer.zero_grad()
        self.average.update(self.network)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients; Lightning calls this once mixed precision's scale is taken off them."""
        clip_grad_norm_(self.network.parameters(), self.plan.config.clip_norm)

    def on_validation_epoch_start(self) -> None:
        """Start a validation pass."""
        self.val_loss = LossMean()
        self._predictions, self._targets = [], []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Detect with the averaged weights; boxes stay in network pixels, which overlaps do not mind.

        Args:
            batch: Letterboxed images and their objects.
            batch_idx: Index within the pass.
        """
        network = self.average.network
        output = network(images_to_float(batch.images))
        self.val_loss.add(self.loss(output, batch.image_index, batch.class_id, batch.boxes), len(batch.images))
        decoded = network.head.decode(output)
        boxes, scores = (decoded[role].float().cpu().numpy() for role in ("boxes", "scores"))
        image_index, class_id = batch.image_index.cpu().numpy(), batch.class_id.cpu().numpy()
        labelled = batch.boxes.cpu().numpy()
        height, width = batch.images.shape[2:]
        for index in range(len(batch.images)):
            self._predictions.append(decode(boxes[index], scores[index], EVAL_THRESHOLDS))
            mine = image_index == index
            self._targets.append(Target(labelled[mine], class_id[mine], (height, width)))

    def on_validation_epoch_end(self) -> None:
        """Score the pass."""
        self.metrics = evaluate_detections(self._predictions, self._targets, self.class_names)
        self._predictions, self._targets = [], []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the averaged weights to the state of the run."""
        checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the averaged weights."""
        self.average.load_state_dict(checkpoint["average"])

    def _losses(self, network: YOLO12, batch: Batch) -> LossParts:
        output = network(images_to_float(batch.images))
        return self.loss(output, batch.image_index, batch.class_id, batch.boxes)


def images_to_float(images: Tensor) -> Tensor:
    """Map uint8 pixels to float32 in [0, 1]."""
    return images.float().div_(255)
