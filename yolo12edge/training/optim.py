"""Optimizer and learning-rate schedule of the published recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .config import RISING, TrainConfig
from .lamb import Lamb
from .schedules import SCHEDULES, Place, cycle_height, plateau_drops

__all__ = ["Plan", "Step", "build_optimizer", "plan_run"]

_AUTO_ADAMW_STEPS = 10_000  # runs of up to so many steps use AdamW
_ENOUGH_UPDATES = 2_000  # fewer optimizer steps than this are not worth accumulating gradients for
_NOMINAL_BATCH = 64
_OWN_LR = {"sgd": 0.01, "lamb": 0.005}  # that of Adam's family follows the number of classes
_MIN_WARMUP_STEPS = 100
_WARMUP_EPOCHS = 3.0
_CYCLED_MOMENTUM = 0.1  # how far the momentum of a one-cycle run falls
_NORMS = (nn.BatchNorm2d,)


@dataclass(frozen=True, slots=True)
class Step:
    """Settings of one training step.

    Attributes:
        lr: Learning rate of weights.
        bias_lr: Learning rate of biases.
        momentum: Momentum of SGD, first beta of the others.
        accumulate: Steps whose gradients are summed before the optimizer moves.
    """

    lr: float
    bias_lr: float
    momentum: float
    accumulate: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run's length makes of its configuration.

    Attributes:
        config: The configuration.
        steps_per_epoch: Batches in an epoch.
        optimizer: ``adamw``, ``sgd``, ``adam`` or ``lamb``.
        lr: Initial learning rate.
        accumulate: Steps per optimizer step after the warm-up.
        weight_decay: Decay of weights, scaled to the images per optimizer step.
    """

    config: TrainConfig
    steps_per_epoch: int
    optimizer: str
    lr: float
    accumulate: int
    weight_decay: float

    @property
    def total_updates(self) -> int:
        """Optimizer steps of the whole run, about."""
        return max(1, self.config.epochs * self.steps_per_epoch // self.accumulate)

    def at(self, step: int, *, scores: Sequence[float] = ()) -> Step:
        """Return the settings of a step, counted from 0 over the whole run.

        Within the warm-up the learning rate rises linearly to that of the schedule.

        Args:
            step: The step.
            scores: Validation scores of the epochs before it; needed by ``plateau``.
        """
        config = self.config
        place = Place.of(
            step,
            steps_per_epoch=self.steps_per_epoch,
            epochs=config.epochs,
            drops=plateau_drops(scores, config.epochs),
            final=config.final_lr,
        )
        lr = self.lr * SCHEDULES[config.schedule](place)
        momentum = config.momentum
        if config.schedule == "one-cycle":
            momentum = max(0.0, momentum - _CYCLED_MOMENTUM * cycle_height(place))
        epochs = config.warmup_epochs
        if epochs is None:
            epochs = 0.0 if config.schedule in RISING else _WARMUP_EPOCHS
        warmup = max(round(epochs * self.steps_per_epoch), _MIN_WARMUP_STEPS)
        if epochs == 0 or step >= warmup:
            return Step(lr, lr, momentum, self.accumulate)
        ramp = step / warmup
        return Step(
            lr * ramp,
            config.warmup_bias_lr + (lr - config.warmup_bias_lr) * ramp,
            config.warmup_momentum + (config.momentum - config.warmup_momentum) * ramp,
            max(1, round(1 + (self.accumulate - 1) * ramp)),
        )


def plan_run(config: TrainConfig, *, images: int, num_classes: int) -> Plan:
    """Choose what the configuration leaves open.

    Args:
        config: The run.
        images: Images of the training split.
        num_classes: Number of classes.
    """
    steps_per_epoch = -(-images // config.batch)
    steps = steps_per_epoch * config.epochs
    name = config.optimizer
    if name == "auto":
        name = "adamw" if steps <= _AUTO_ADAMW_STEPS else "sgd"
    lr = config.lr
    if lr is None:
        lr = _OWN_LR.get(name, round(0.002 * 5 / (4 + num_classes), 6))
    nominal = config.nominal_batch
    if nominal is None:
        nominal = _NOMINAL_BATCH if steps * config.batch / _NOMINAL_BATCH >= _ENOUGH_UPDATES else config.batch
    accumulate = max(round(nominal / config.batch), 1)
    weight_decay = config.weight_decay * config.batch * accumulate / _NOMINAL_BATCH
    return Plan(config, steps_per_epoch, name, lr, accumulate, weight_decay)


def build_optimizer(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Return the optimizer with three groups: decayed weights; norm weights and steps of quantizers; biases."""
    decayed: list[nn.Parameter] = []
    norms: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias":
                biases.append(parameter)
            elif isinstance(module, _NORMS) or not getattr(module, "decayed", True):
                norms.append(parameter)
            else:
                decayed.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": plan.weight_decay, "kind": "weights"},
        {"params": norms, "weight_decay": 0.0, "kind": "norms"},
        {"params": biases, "weight_decay": 0.0, "kind": "biases"},
    ]
    momentum, betas = plan.config.momentum, (plan.config.momentum, 0.999)
    if plan.optimizer == "lamb":
        return Lamb(groups, lr=plan.lr, betas=betas)
    # Elsewhere a fused step would take off mixed precision's scale by itself, and gradients would be clipped before.
    fused = all(parameter.device.type == "cpu" for parameter in network.parameters())
    optimizer: torch.optim.Optimizer
    if plan.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=plan.lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    else:
        kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=plan.lr, betas=betas, fused=fused)
    optimizer.register_load_state_dict_post_hook(_order_as_weights)
    return optimizer


def _order_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Bring what was loaded into the order in memory of its weights, which a fused step takes for granted."""
    for weights, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == weights.shape:
                state[name] = torch.empty_like(weights, dtype=value.dtype).copy_(value)


def apply_step(optimizer: torch.optim.Optimizer, step: Step) -> None:
    """Write the settings of a step into the optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = step.bias_lr if group["kind"] == "biases" else step.lr
        if "betas" in group:
            group["betas"] = (step.momentum, group["betas"][1])
        else:
            group["momentum"] = step.momentum
