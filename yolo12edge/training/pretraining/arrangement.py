"""Jigsaw and rotation: to tell how a picture was rearranged, the backbone must know what is in it."""

from __future__ import annotations

import math
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..module import images_to_float
from .backbone import Backbone, projector
from .pretext import Pretext, share_right
from .views import Image, chw, crop_and_flip

__all__ = ["Jigsaw", "Rotation", "orders"]

_TILES = 9
_SPREAD = 0.25  # of a tile's pixels around the middle grey


@cache
def orders(count: int) -> npt.NDArray[np.int64]:
    """Return orders of nine tiles, each as far from those before as can be found, by tiles in another place.

    Args:
        count: How many.

    Returns:
        int64 (count, 9); the same for the same number.
    """
    rng = np.random.default_rng(0)
    pool = np.unique(rng.permuted(np.tile(np.arange(_TILES), (4096, 1)), axis=1), axis=0)
    chosen = [0]
    distance = np.full(len(pool), _TILES + 1)
    while len(chosen) < count:
        distance = np.minimum(distance, (pool != pool[chosen[-1]]).sum(1))
        chosen.append(int(distance.argmax()))
    return np.asarray(pool[chosen], np.int64)


class Jigsaw(Pretext):
    """Nine tiles, each seen alone, are put back in order (arXiv:1603.09246): one of 64 orders is told.

    Tiles leave gaps (from 128 pixels on) and are normalised each, so that neither edges nor brightness tell the order.

    Args:
        backbone: What is pretrained.
    """

    parts: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    orders: ClassVar[int] = 64

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        width = 64
        self.reduce = nn.Linear(backbone.widths[2], width)
        self.classify = projector(_TILES * width, 256, self.orders)

    @classmethod
    def views(cls, image: Image, size: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.generic], ...]:
        """Return shuffled tiles, (9, 3, t, t), and which order it was."""
        whole = crop_and_flip(image, size, rng, least=0.5)
        cell = size // 3
        side = max(32, int(cell * 0.9) // 32 * 32)
        offsets = rng.integers(cell - side + 1, size=(_TILES, 2))
        order = int(rng.integers(cls.orders))
        tiles = []
        for place in orders(cls.orders)[order]:
            top, left = np.array(divmod(int(place), 3)) * cell + offsets[place]
            tiles.append(chw(whole[top : top + side, left : left + side]))
        return np.stack(tiles), np.array(order)

    @classmethod
    def guessing(cls, batch: int) -> float:
        """It may be any order."""
        return math.log(cls.orders)

    def forward(self, backbone: Backbone, *views: Tensor) -> dict[str, Tensor]:
        """Tell the order of tiles (B, 9, 3, t, t)."""
        tiles, order = views
        single = images_to_float(tiles.flatten(0, 1))
        deviation, mean = torch.std_mean(single, (1, 2, 3), keepdim=True)
        single = (single - mean) / (deviation + 1e-3) * _SPREAD + 0.5
        seen = self.reduce(backbone.pooled(single)).reshape(len(tiles), -1)
        logits = self.classify(seen).float()
        return {"loss": functional.cross_entropy(logits, order), "accuracy": share_right(logits, order)}


class Rotation(Pretext):
    """Each picture is shown in all four rotations, and the backbone tells which is which (arXiv:1803.07728).

    Args:
        backbone: What is pretrained.
    """

    parts: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.classify = nn.Linear(backbone.widths[2], 4)

    @classmethod
    def views(cls, image: Image, size: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.generic], ...]:
        """Return a part of the picture, (3, size, size)."""
        return (chw(crop_and_flip(image, size, rng, least=0.3)),)

    @classmethod
    def guessing(cls, batch: int) -> float:
        """It may be any quarter."""
        return math.log(4)

    def forward(self, backbone: Backbone, *views: Tensor) -> dict[str, Tensor]:
        """Tell the rotations of images (B, 3, S, S)."""
        (images,) = views
        turned = torch.cat([torch.rot90(images, quarter, (2, 3)) for quarter in range(4)])
        quarters = torch.arange(4, device=images.device).repeat_interleave(len(images))
        logits = self.classify(backbone.pooled(images_to_float(turned))).float()
        return {"loss": functional.cross_entropy(logits, quarters), "accuracy": share_right(logits, quarters)}
