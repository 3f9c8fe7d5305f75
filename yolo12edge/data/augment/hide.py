"""Hide: parts of a picture are painted over, and what is hidden for the most part is not asked for.

An object keeps its whole label while not more than 80 % of its box is hidden: that there is a part to be guessed is the
point of it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ...imaging.letterbox import PAD_VALUE
from ..objects import Objects
from .picture import Image
from .settings import Augmentation, Erasing, Gridmask

__all__ = ["MOST_HIDDEN", "erasing_mask", "gridmask_mask", "hidden_mask", "painted_over", "without_hidden"]

Mask = npt.NDArray[np.bool_]

MOST_HIDDEN = 0.8
"""An object is dropped when more than this share of its box is hidden."""


def gridmask_mask(settings: Gridmask, size: int, rng: np.random.Generator) -> Mask:
    """Draw a grid of hidden squares, bool (size, size)."""
    unit = max(2, round(size * rng.uniform(*settings.unit)))
    square = max(1, round(unit * settings.hidden))
    right, down = rng.integers(unit, size=2)
    along = np.arange(size)
    rows, columns = (along + down) % unit < square, (along + right) % unit < square
    return np.asarray(rows[:, None] & columns, np.bool_)


def erasing_mask(settings: Erasing, size: int, rng: np.random.Generator) -> Mask:
    """Draw a hidden rectangle, bool (size, size)."""
    area = size * size * rng.uniform(*settings.area)
    aspect = math.exp(rng.uniform(-math.log(settings.aspect), math.log(settings.aspect)))
    wide, high = (min(size, max(1, round(math.sqrt(area * ratio)))) for ratio in (aspect, 1 / aspect))
    left, top = int(rng.integers(size - wide + 1)), int(rng.integers(size - high + 1))
    mask = np.zeros((size, size), np.bool_)
    mask[top : top + high, left : left + wide] = True
    return mask


def hidden_mask(augmentation: Augmentation, size: int, rng: np.random.Generator) -> Mask | None:
    """Draw what the stage of hiding paints over; None if it is nothing."""
    grid, rectangle = augmentation.gridmask, augmentation.erasing
    masks = []
    if grid is not None and rng.random() < grid.p:
        masks.append(gridmask_mask(grid, size, rng))
    if rectangle is not None and rng.random() < rectangle.p:
        masks.append(erasing_mask(rectangle, size, rng))
    return np.logical_or.reduce(masks) if masks else None


def painted_over(image: Image, hidden: Mask) -> Image:
    """Return the image with grey where it is hidden."""
    image = image.copy()
    image[hidden] = PAD_VALUE
    return image


def without_hidden(labels: Objects, hidden: Mask) -> Objects:
    """Drop the objects of which more than ``MOST_HIDDEN`` of the box is hidden, bool (H, W)."""
    counts = np.zeros((hidden.shape[0] + 1, hidden.shape[1] + 1))
    counts[1:, 1:] = hidden.cumsum(0).cumsum(1)
    left, top = np.floor(labels.boxes[:, :2]).T.astype(int).clip(0)
    right, bottom = np.ceil(labels.boxes[:, 2:]).T.astype(int)
    right, bottom = right.clip(left, hidden.shape[1]), bottom.clip(top, hidden.shape[0])
    inside = counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
    return labels.select(inside <= MOST_HIDDEN * (right - left) * (bottom - top))
