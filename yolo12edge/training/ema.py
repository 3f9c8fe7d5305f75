"""Exponential moving average of a network's weights."""

from __future__ import annotations

from copy import deepcopy
from math import exp
from typing import Any

import torch

from ..nn import YOLO12
from .collectives import take_from_first

__all__ = ["WeightAverage"]

_MAX_DECAY = 0.9999
_MAX_RAMP = 2000.0


class WeightAverage:
    """Average of parameters and buffers, with a decay that ramps up from 0.

    After ``u`` updates the decay is ``0.9999 * (1 - exp(-u / ramp))``. The published ramp of 2000
    updates would average next to nothing in a short run, so it is a fifth of the run where that is
    shorter.

    Args:
        network: What to average; the average starts as its copy.
        total_updates: Number of updates that the run will make.
    """

    def __init__(self, network: YOLO12, total_updates: int) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.ramp = min(_MAX_RAMP, max(1.0, total_updates / 5))
        self.updates = 0

    @torch.no_grad()
    def update(self, network: YOLO12) -> None:
        """Move the average towards the network's present weights."""
        self.updates += 1
        weight = 1 - _MAX_DECAY * (1 - exp(-self.updates / self.ramp))
        mine, theirs = self.network.state_dict(), network.state_dict()
        floating = [key for key, tensor in mine.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[key] for key in floating], [theirs[key] for key in floating], weight)
        for key in mine.keys() - set(floating):
            mine[key].copy_(theirs[key])

    def share(self) -> None:
        """Take the first process's average, with its statistics of batch norms, in all processes of a run."""
        take_from_first([tensor for tensor in self.network.state_dict().values() if tensor.is_floating_point()])

    def state_dict(self) -> dict[str, Any]:
        """Return what ``load_state_dict`` needs."""
        return {"updates": self.updates, "weights": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that ``state_dict`` gave."""
        self.updates = state["updates"]
        self.network.load_state_dict(state["weights"])
