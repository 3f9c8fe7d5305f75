"""Mix: training pictures that are made of several, and objects that are copied within one."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ...imaging.letterbox import plan_letterbox
from ...masks import Masks
from ..form_segment import Polygons
from ..objects import Objects
from .geometry import flip
from .hide import without_hidden
from .picture import Picture, Tile, translation

__all__ = ["blend", "centred_tile", "copy_paste", "cut_in", "mosaic_tiles"]

_COVERED = 0.3  # share of an object's box that pasted ones, together, stay below


def centred_tile(picture: Picture, *, size: int) -> Tile:
    """Place one picture where the letterbox of the validation would have it, on a canvas of the output's size."""
    letterbox = plan_letterbox(picture.image.shape[:2], (size, size))
    return Tile(picture, translation(letterbox.pad_left, letterbox.pad_top))


def mosaic_tiles(pictures: Sequence[Picture], rng: np.random.Generator, *, size: int) -> list[Tile]:
    """Place four pictures around a random point of a canvas of twice the output's side, or nine on one of three times.

    Each touches the one before it in its row and its column, wherever there is room; the long side of each is ``size``.
    """
    side = 2 if len(pictures) == 4 else 3
    # Where the second column and row begin; those that follow are a picture's long side further.
    reach = 0.5 if side == 2 else 0.25
    start_x, start_y = rng.uniform((1 - reach) * size, (1 + reach) * size, size=2)
    tiles = []
    for cell, picture in enumerate(pictures):
        height, width = picture.image.shape[:2]
        row, column = divmod(cell, side)
        left = start_x + (column - 1) * size if column else start_x - width
        top = start_y + (row - 1) * size if row else start_y - height
        tiles.append(Tile(picture, translation(left, top)))
    return tiles


def blend(first: Picture, second: Picture, rng: np.random.Generator) -> Picture:
    """Mix two pictures of one size by a weight from Beta(32, 32) and join their labels (mixup, arXiv:1710.09412)."""
    weight = float(rng.beta(32.0, 32.0))
    image = cv2.addWeighted(first.image, weight, second.image, 1.0 - weight, 0.0)
    return Picture(np.asarray(image, np.uint8), Objects.concat([first.labels, second.labels]))


def cut_in(first: Picture, second: Picture, rng: np.random.Generator) -> Picture:
    """Replace a random square of a square picture by what is there in a second one (CutMix, arXiv:1905.04899).

    Its share of the area is uniform in [0, 1], as that of the paper's Beta(1, 1). Objects of the second picture are
    clipped to it, and those of the first are dropped where it hides more than 80 % of their boxes.
    """
    size = len(first.image)
    side = round(size * float(np.sqrt(rng.random())))
    if side == 0:
        return first
    left, top = rng.integers(size - side + 1, size=2).tolist()
    window = np.s_[top : top + side, left : left + side]
    image = first.image.copy()
    image[window] = second.image[window]
    hidden = np.zeros((size, size), np.bool_)
    hidden[window] = True
    there = second.labels.transform(translation(-left, -top)).within(side).transform(translation(left, top))
    return Picture(image, Objects.concat([without_hidden(first.labels, hidden), there]))


def copy_paste(picture: Picture, probability: float, rng: np.random.Generator) -> Picture:
    """Copy each object, with a probability, to where its mirror image is, while copies cover less than 30 % of any box.

    Args:
        picture: Square, with polygons (segment).
        probability: Of each object.
        rng: Source of randomness.
    """
    chosen = rng.random(len(picture.labels)) < probability
    if not chosen.any():
        return picture
    mirrored = flip(Picture(picture.image, picture.labels.select(chosen)), horizontal=True, vertical=False)
    count = len(picture.labels)
    shares = _covered(np.concatenate([picture.labels.boxes, mirrored.labels.boxes]), mirrored.labels.boxes)
    there = np.arange(len(shares)) < count
    covered = np.zeros(len(shares), np.float32)
    for place, share in enumerate(shares.T, start=count):
        if (covered + share)[there].max() < _COVERED:
            covered[there] += share[there]
            there[place] = True
    pasted = there[count:]
    added = mirrored.labels.select(pasted)
    assert isinstance(added.part, Polygons)  # ``Augmentation.check`` lets no other task come here
    image = picture.image.copy()
    masks = Masks.of_polygons(added.part.rings, (image.shape[0], image.shape[1]))
    for crop, (left, top) in zip(masks.crops, masks.offsets.tolist(), strict=True):
        window = np.s_[top : top + crop.shape[0], left : left + crop.shape[1]]
        np.copyto(image[window], mirrored.image[window], where=crop[..., None])
    return Picture(image, Objects.concat([picture.labels, added]))


def _covered(boxes: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the share of each of n boxes that lies in each of m others, (n, m)."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(np.prod((high - low).clip(0), axis=2) / np.maximum(area, 1e-6)[:, None], np.float32)
