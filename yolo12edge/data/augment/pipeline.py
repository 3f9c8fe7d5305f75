"""One training picture: the stages in their order, for pictures of objects and for pictures that are classified whole.

Every geometric step is one 3×3 matrix that acts on image and objects alike, whatever the task: see ``Objects``. The
tiles of a mosaic are warped straight into the output by the product of their placement and all maps: the mosaic canvas
never exists, and each output pixel is interpolated once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..objects import Matrix
from .colour import recoloured
from .geometry import flip, random_affine, random_window, window_matrix
from .hide import hidden_mask, painted_over, without_hidden
from .mix import blend, centred_tile, copy_paste, cut_in, mosaic_tiles
from .picture import Image, Picture, Tile, render
from .policies import Most, Step, augmixed, draw_policy, geometry_of, recoloured_by
from .settings import Affine, Augmentation, Op
from .whole import NOTHING, centre_cropped_picture, resized, whole_labels

__all__ = ["augmented_picture", "augmented_whole_picture"]

_STILL = Affine()


def happens(op: Op | None, rng: np.random.Generator) -> bool:
    """Draw whether a picture goes through an operation."""
    return op is not None and bool(rng.random() < op.p)


def augmented_picture(
    load: Callable[[int], Picture],
    index: int,
    *,
    count: int,
    size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Picture:
    """Make one training picture of objects that are somewhere in it.

    Args:
        load: Gives the picture of an index: RGB, its long side ``size`` pixels.
        index: The picture that surely is in the result.
        count: Number of pictures that partners are drawn from.
        size: Side of the square output in pixels.
        augmentation: What is done.
        rng: Source of all randomness.

    Returns:
        An RGB image, uint8 (size, size, 3), and its labels, clipped to it.
    """
    picture = _composed(load, index, count, size, augmentation, rng)
    if happens(augmentation.mixup, rng):
        picture = blend(picture, _composed(load, int(rng.integers(count)), count, size, augmentation, rng), rng)
    elif happens(augmentation.cutmix, rng):
        picture = cut_in(picture, _composed(load, int(rng.integers(count)), count, size, augmentation, rng), rng)
    picture = _recoloured_and_flipped(picture, augmentation, rng)
    hidden = hidden_mask(augmentation, size, rng)
    if hidden is None:
        return picture
    return Picture(painted_over(picture.image, hidden), without_hidden(picture.labels, hidden))


def augmented_whole_picture(
    load: Callable[[int], Picture],
    index: int,
    *,
    count: int,
    size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Picture:
    """Make one training picture that has classes as a whole; arguments as of ``augmented_picture``.

    Args:
        load: Gives the picture of an index, RGB.
        index: Which.
        count: Number of pictures; here they are not mixed.
        size: Side of the square output in pixels.
        augmentation: What is done.
        rng: Source of all randomness.
    """
    picture = load(index)
    if augmentation.crop is not None and happens(augmentation.crop, rng):
        left, top, width, height = random_window(picture.image.shape[:2], augmentation.crop, rng)
        image = resized(picture.image[top : top + height, left : left + width], size, size)
    else:
        image = centre_cropped_picture(picture, size=size).image
    steps, most = draw_policy(augmentation, rng)
    matrix = geometry_of(steps, most, size) @ _affine(augmentation, rng, canvas=size, size=size)
    if not np.array_equal(matrix, np.eye(3)):
        image = render([Tile(Picture(image, NOTHING), np.eye(3))], matrix, size=size).image
    labels = whole_labels(picture.labels, size)
    picture = _recoloured_and_flipped(
        Picture(_by_policy(image, steps, most, augmentation, rng), labels), augmentation, rng
    )
    hidden = hidden_mask(augmentation, size, rng)
    return picture if hidden is None else Picture(painted_over(picture.image, hidden), labels)


def _composed(
    load: Callable[[int], Picture],
    chosen: int,
    count: int,
    size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Picture:
    """Make a picture of one or several, before it is blended with another one."""
    if augmentation.mosaic is not None and happens(augmentation.mosaic, rng):
        others = rng.integers(count, size=augmentation.mosaic.tiles - 1).tolist()
        tiles = mosaic_tiles([load(each) for each in (chosen, *others)], rng, size=size)
        canvas = (2 if len(tiles) == 4 else 3) * size
    else:
        tiles, canvas = [centred_tile(load(chosen), size=size)], size
    matrix = _affine(augmentation, rng, canvas=canvas, size=size)
    if augmentation.crop is not None and happens(augmentation.crop, rng):
        matrix = window_matrix(random_window((size, size), augmentation.crop, rng), size) @ matrix
    steps, most = draw_policy(augmentation, rng)
    picture = render(tiles, geometry_of(steps, most, size) @ matrix, size=size)
    if augmentation.copy_paste is not None:
        picture = copy_paste(picture, augmentation.copy_paste.p, rng)
    return Picture(_by_policy(picture.image, steps, most, augmentation, rng), picture.labels)


def _affine(augmentation: Augmentation, rng: np.random.Generator, *, canvas: int, size: int) -> Matrix:
    """Draw the map from the canvas to the output."""
    affine = augmentation.affine
    wanted = affine if affine is not None and happens(affine, rng) else _STILL
    return random_affine(wanted, rng, canvas=canvas, size=size)


def _by_policy(
    image: Image, steps: Sequence[Step], most: Most, augmentation: Augmentation, rng: np.random.Generator
) -> Image:
    """Do what a policy does to colours."""
    image = recoloured_by(steps, most, image)
    if augmentation.augmix is not None and happens(augmentation.augmix, rng):
        image = augmixed(image, augmentation.augmix, rng)
    return image


def _recoloured_and_flipped(picture: Picture, augmentation: Augmentation, rng: np.random.Generator) -> Picture:
    """Do the stage of colours on a square picture, and mirror it."""
    picture = Picture(recoloured(picture.image, augmentation, rng), picture.labels)
    leftright, upsidedown = (happens(op, rng) for op in (augmentation.fliplr, augmentation.flipud))
    return flip(picture, horizontal=leftright, vertical=upsidedown)
