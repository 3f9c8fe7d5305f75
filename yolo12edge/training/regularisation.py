"""Dropout for convolutional networks: whole maps before the head, blocks of maps in the backbone; in training alone.

Hooks do it, so that neither the network's own code nor its tensors nor anything exported knows of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn import YOLO12

__all__ = ["Regulariser", "drop_blocks", "drop_maps"]

_BLOCK = 7  # cells; what the paper found best, also at other resolutions
_BLOCK_LAYERS = (6, 8)  # the last stages of the backbone, at strides 16 and 32, as the paper's last two groups


class Regulariser:
    """Drops parts of a network's maps while it trains.

    What is dropped follows from seed and step alone, so that a resumed run goes on as it would have.

    Args:
        network: The network; it must be in training mode for anything to happen.
        dropout: Probability of each map that the head reads to be dropped (Tompson et al., arXiv 1411.4280).
        dropblock: Share of the maps of the backbone's last two stages that is dropped in blocks, at the end of the run;
            it rises from 0, without which the paper found no gain.
        seed: Of the run.
    """

    def __init__(self, network: YOLO12, *, dropout: float, dropblock: float, seed: int) -> None:
        self._network = network
        self._dropout, self._dropblock = dropout, dropblock
        self._seed = seed
        self._share = 0.0
        self._generator = torch.Generator()
        self.start_step(0, 1)
        if dropblock:
            for index in _BLOCK_LAYERS:
                network.model[index].register_forward_hook(self._after_stage)
        if dropout:
            network.head.register_forward_pre_hook(self._before_head)

    def start_step(self, step: int, steps: int, process: int = 0) -> None:
        """Say which step comes.

        Args:
            step: Counted from 0 over the whole run.
            steps: How many there are.
            process: Number of this process among those that train together: each drops other parts.
        """
        self._share = step / max(steps - 1, 1)
        # Not the same seed for step 1 of seed 0 and step 0 of seed 1.
        self._generator.manual_seed(((self._seed * 1_000_003 + process) * 1_000_000_007 + step) % 2**63)

    def _after_stage(self, layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        if not self._network.training:
            return output
        return drop_blocks(output, self._dropblock * self._share, self._generator)

    def _before_head(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self._network.training:
            return None
        return (tuple(drop_maps(x, self._dropout, self._generator) for x in args[0]), *args[1:])


def drop_maps(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set whole maps to 0 and scale the others, so that means stay.

    Args:
        x: (B, C, H, W).
        share: Probability of each map to be dropped.
        generator: On the CPU.
    """
    kept = torch.rand(x.shape[:2], generator=generator) >= share
    return x * (kept.to(x) / (1 - share))[:, :, None, None]


def drop_blocks(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set blocks of each map to 0 and scale the rest, so that means stay (Ghiasi et al., arXiv 1810.12890).

    Args:
        x: (B, C, H, W).
        share: Share of the area that is dropped, about: blocks may overlap.
        generator: On the CPU.
    """
    if share == 0:
        return x
    height, width = x.shape[2:]
    side = min(_BLOCK, height, width)
    side -= 1 - side % 2
    # Centres of blocks lie where the whole block is inside.
    centres = (*x.shape[:2], height - side + 1, width - side + 1)
    probability = share / side**2 * (height * width) / (centres[2] * centres[3])
    dropped = (torch.rand(centres, generator=generator) < probability).to(x)
    kept = 1 - F.max_pool2d(F.pad(dropped, [side // 2] * 4), side, stride=1, padding=side // 2)
    return x * kept * (kept.numel() / kept.sum().clamp(min=1))
