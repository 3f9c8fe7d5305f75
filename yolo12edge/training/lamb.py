"""LAMB: Adam whose steps are as long, layer by layer, as the layer's weights allow (arXiv:1904.00962)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["Lamb"]


class Lamb(torch.optim.Optimizer):
    """LAMB after algorithm 2 of the paper, with bias correction and weight decay inside the trust ratio.

    Groups without decay (norms, biases) take the plain step of Adam, as the authors' own runs do.

    Args:
        params: Groups of parameters.
        lr: Learning rate.
        betas: Decay of the means of gradients and of their squares.
        eps: What keeps the denominator from 0.
        weight_decay: Share of the weights that is added to the step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the parameters once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                state = self.state[weights]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)
                    state["mean"] = torch.zeros_like(weights)
                    state["square"] = torch.zeros_like(weights)
                state["step"] += 1
                count = int(state["step"])
                mean = state["mean"].lerp_(weights.grad, 1 - first)
                square = state["square"].mul_(second).addcmul_(weights.grad, weights.grad, value=1 - second)
                denominator = (square / (1 - second**count)).sqrt_().add_(group["eps"])
                move = (mean / (1 - first**count)).div_(denominator)
                length: torch.Tensor | float = 1.0
                if group["weight_decay"]:
                    move.add_(weights, alpha=group["weight_decay"])
                    size, reach = weights.norm(), move.norm()
                    length = torch.where((size > 0) & (reach > 0), size / reach, torch.ones_like(size))
                weights.sub_(move * (group["lr"] * length))
        return loss
