"""Inpainting and colourisation: what was taken from a picture is told from what is left of it."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..module import images_to_float
from .backbone import Backbone, Decoder
from .pretext import Pretext, share_right
from .views import Image, chw, crop_and_flip

__all__ = ["Colourisation", "Inpainting"]

_GREY = 128


class Inpainting(Pretext):
    """Random blocks, a quarter of the picture in all, are filled in again (arXiv:1604.07379, without its adversary).

    Args:
        backbone: What is pretrained.
    """

    hidden: ClassVar[float] = 0.25

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.decode = Decoder(backbone.widths, 3, zoom=2)

    @classmethod
    def views(cls, image: Image, size: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.generic], ...]:
        """Return the picture with holes, (3, size, size), as it was, a quarter as large, and where holes are."""
        whole = crop_and_flip(image, size, rng, least=0.3)
        cells = size // 4
        holes = np.zeros((cells, cells), np.bool_)
        while holes.mean() < cls.hidden:
            high, wide = rng.integers(cells // 6, cells // 3, size=2, endpoint=True)
            top, left = int(rng.integers(cells - high + 1)), int(rng.integers(cells - wide + 1))
            holes[top : top + high, left : left + wide] = True
        small = np.asarray(cv2.resize(whole, (cells, cells), interpolation=cv2.INTER_AREA), np.uint8)
        broken = whole.copy()
        broken[holes.repeat(4, 0).repeat(4, 1)] = _GREY
        return chw(broken), chw(small), holes

    @classmethod
    def guessing(cls, batch: int) -> float:
        """The mean colour is off by the variance, the unit of the loss."""
        return 1.0

    def forward(self, backbone: Backbone, *views: Tensor) -> dict[str, Tensor]:
        """Fill the holes of images (B, 3, S, S); the loss is the squared error there, in units of their variance."""
        broken, whole, holes = views
        mask = holes[:, None].expand(-1, 3, -1, -1)
        wanted = images_to_float(whole)[mask]
        found = self.decode(backbone(images_to_float(broken))).float()[mask] + 0.5
        return {"loss": functional.mse_loss(found, wanted) / (wanted.var() + 1e-4)}


class Colourisation(Pretext):
    """The colour of each cell of 8 pixels is told from the grey picture (arXiv:1603.08511).

    It is one of 484 squares of the a-b plane; rare colours weigh more, as in the paper, by how often they were seen.

    Args:
        backbone: What is pretrained.
    """

    parts: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    step: ClassVar[int] = 12
    """Side of a square in OpenCV's 8-bit a and b."""
    smoothing: ClassVar[float] = 0.5

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.colours = (255 // self.step + 1) ** 2
        self.decode = Decoder(backbone.widths, self.colours)
        self.register_buffer("seen", torch.full((self.colours,), 1 / self.colours))

    @classmethod
    def views(cls, image: Image, size: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.generic], ...]:
        """Return the grey picture, (3, size, size), and the colour of each cell."""
        whole = crop_and_flip(image, size, rng, least=0.3)
        lab = cv2.cvtColor(whole, cv2.COLOR_RGB2LAB)
        small = cv2.resize(lab, (size // 8, size // 8), interpolation=cv2.INTER_AREA).astype(np.int64)
        colours = small[..., 1] // cls.step * (255 // cls.step + 1) + small[..., 2] // cls.step
        return chw(np.asarray(np.repeat(lab[..., :1], 3, 2), np.uint8)), colours

    def forward(self, backbone: Backbone, *views: Tensor) -> dict[str, Tensor]:
        """Tell the colours of grey images (B, 3, S, S)."""
        grey, colours = views
        logits = self.decode(backbone(images_to_float(grey))).float()
        seen = self.get_buffer("seen")
        if self.training:
            counts = torch.bincount(colours.flatten(), minlength=self.colours)
            seen.lerp_(counts / counts.sum(), 0.05)
        weights = 1 / ((1 - self.smoothing) * seen + self.smoothing / self.colours)
        weights = weights / (weights * seen).sum()
        flat = logits.movedim(1, -1).flatten(0, 2)
        loss = (functional.cross_entropy(flat, colours.flatten(), reduction="none") * weights[colours.flatten()]).mean()
        return {"loss": loss, "accuracy": share_right(flat, colours.flatten())}
