"""SimCLR and BYOL: two views of one picture should look alike to the backbone."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..module import images_to_float
from .backbone import Backbone, projector
from .pretext import Pretext, share_right
from .views import Image, chw, distorted

__all__ = ["Byol", "SimClr", "nt_xent"]

_HIDDEN = 512
_OUT = 128


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of contrastive pairs and the share of views that are most alike their partner.

    Row i of one is the partner of row i of the other; all other rows of both are not.

    Args:
        first: (n, d).
        second: (n, d).
        temperature: Of the softmax over cosine similarities.
    """
    count = len(first)
    rows = functional.normalize(torch.cat((first, second)).float(), dim=1)
    logits = rows @ rows.T / temperature
    logits.fill_diagonal_(-math.inf)
    targets = (torch.arange(2 * count, device=rows.device) + count) % (2 * count)
    return functional.cross_entropy(logits, targets), share_right(logits, targets)


class _TwoViews(Pretext):
    @classmethod
    def views(cls, image: Image, size: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.generic], ...]:
        """Return two distorted views, (2, 3, size, size)."""
        return (np.stack([chw(distorted(image, size, rng)) for _ in range(2)]),)


class SimClr(_TwoViews):
    """A view is told from all others of the batch by its partner (arXiv:2002.05709).

    In the first steps the loss falls fastest where all views become one, and there the gradient is so small that they
    stay it. Two norms keep them apart: of what is compared over the batch, as in the authors' program, and of each
    picture's features, for else one picture far from all others takes the whole variance of the batch.

    Args:
        backbone: What is pretrained.
    """

    parts: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    temperature: ClassVar[float] = 0.5
    """The paper's for small batches and short runs, appendix B.9."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        width = backbone.widths[2]
        self.project = nn.Sequential(
            nn.LayerNorm(width, elementwise_affine=False),
            projector(width, _HIDDEN, _OUT),
            nn.BatchNorm1d(_OUT, affine=False),
        )

    @classmethod
    def guessing(cls, batch: int) -> float:
        """Any other view may be the partner."""
        return math.log(2 * batch - 1)

    def forward(self, backbone: Backbone, *views: Tensor) -> dict[str, Tensor]:
        """Compare the pairs of a batch (B, 2, 3, S, S)."""
        (pairs,) = views
        rows = self.project(backbone.pooled(images_to_float(pairs.flatten(0, 1))))
        loss, accuracy = nt_xent(rows[0::2], rows[1::2], self.temperature)
        return {"loss": loss, "accuracy": accuracy}


class Byol(_TwoViews):
    """One view foretells what a slow average of the network sees in the other (arXiv:2006.07733).

    ``spread`` is the standard deviation of what the average sees, over that of evenly spread directions: near 0 the
    features have collapsed.

    Args:
        backbone: What is pretrained.
    """

    parts: ClassVar[tuple[str, ...]] = ("loss", "spread")
    decay: ClassVar[float] = 0.99
    """Of the average at the start; the paper's 0.996 is for ten times as many steps."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.project = projector(backbone.widths[2], _HIDDEN, _OUT)
        self.predict = projector(_OUT, _HIDDEN, _OUT)
        self.average = nn.ModuleList((deepcopy(backbone), deepcopy(self.project))).requires_grad_(False)

    def forward(self, backbone: Backbone, *views: Tensor) -> dict[str, Tensor]:
        """Compare the pairs of a batch (B, 2, 3, S, S), each way."""
        (pairs,) = views
        images = images_to_float(pairs.flatten(0, 1))
        foretold = functional.normalize(self.predict(self.project(backbone.pooled(images))).float(), dim=1)
        slow, project = self.average
        assert isinstance(slow, Backbone)
        with torch.no_grad():
            seen = functional.normalize(project(slow.pooled(images)).float(), dim=1)
        partner = seen.view(-1, 2, _OUT).flip(1).flatten(0, 1)
        return {"loss": (2 - 2 * (foretold * partner).sum(1)).mean(), "spread": seen.std(0).mean() * math.sqrt(_OUT)}

    @torch.no_grad()
    def after_step(self, backbone: Backbone, progress: float) -> None:
        """Let the average follow, ever more slowly."""
        weight = (1 - self.decay) * (math.cos(math.pi * progress) + 1) / 2
        mine: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = [*backbone.parameters(), *self.project.parameters()]
        torch._foreach_lerp_(mine, theirs, weight)
