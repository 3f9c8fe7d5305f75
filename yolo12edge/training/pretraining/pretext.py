"""``Pretext``: what a method of pretraining makes of a picture, and what the backbone has to tell from it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from .backbone import Backbone
from .views import Image

__all__ = ["Pretext", "share_right"]


class Pretext(nn.Module):
    """One method; its parameters are those of what it puts behind the backbone.

    Attributes:
        parts: Names of what ``forward`` gives: the loss first, then figures that tell how the method goes.
    """

    parts: ClassVar[tuple[str, ...]] = ("loss",)

    @classmethod
    @abstractmethod
    def views(cls, image: Image, size: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.generic], ...]:
        """Make what is learnt from one picture.

        Args:
            image: uint8 (H, W, 3), RGB, of any size.
            size: Side of the network's input in pixels.
            rng: Source of all randomness.

        Returns:
            Arrays; those of uint8 are pictures (…, 3, h, w).
        """

    @abstractmethod
    def forward(self, backbone: Backbone, *views: Tensor) -> dict[str, Tensor]:
        """Let the backbone look at the views of a batch, each (B, …) as ``views`` made it.

        Returns:
            A scalar for each of ``parts``.
        """

    @classmethod
    def guessing(cls, batch: int) -> float | None:
        """Return the loss of a network that guesses in a batch of so many pictures; None where there is no such."""
        return None

    def after_step(self, backbone: Backbone, progress: float) -> None:
        """Follow a step of the optimizer.

        Args:
            backbone: The backbone, changed by the step.
            progress: Share of the run that is done.
        """


def share_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the share of rows whose largest logit is at the target."""
    return (logits.detach().argmax(1) == targets).float().mean()
