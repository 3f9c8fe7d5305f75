"""Augmentation of pictures that have a class as a whole: random crop, colour jitter, flips and erasing."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from ..imaging.letterbox import PAD_VALUE, halved, plan_centre_crop
from .augment import AugmentConfig, Picture, recoloured_and_flipped
from .objects import Objects

__all__ = ["centre_cropped_picture", "cover", "cropped_picture"]

Image = npt.NDArray[np.uint8]

_ASPECT = 4 / 3  # a crop is at most this much wider than high, or higher than wide
_STRIP = 8  # a picture is at most this much longer than wide
_TRIES = 10
_ERASED = (0.02, 0.33)  # share of the picture's area
_ERASED_ASPECT = 3.3


def resized(image: Image, height: int, width: int) -> Image:
    """Resize as the Runtime does for classification."""
    image = halved(image, (height, width))
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def cover(image: Image, size: int) -> Image:
    """Resize a picture so that its short side is ``size``; what a training picture is cropped from.

    Of a strip only the middle is taken: resized as a whole, one of a pixel's height would fill the memory.
    """
    height, width = (min(side, _STRIP * min(image.shape[:2])) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    image = image[top : top + height, left : left + width]
    scale = size / min(height, width)
    return resized(image, max(size, round(height * scale)), max(size, round(width * scale)))


def centre_cropped_picture(picture: Picture, *, size: int) -> Picture:
    """Cut out the middle of a picture, exactly as the Runtime's preprocessing does."""
    _, window = plan_centre_crop(picture.image.shape[:2], (size, size))
    return Picture(resized(picture.image[window], size, size), _whole(picture.labels, size))


def cropped_picture(
    load: Callable[[int], Picture],
    index: int,
    *,
    count: int,
    size: int,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Picture:
    """Make one training picture (random crops: Szegedy et al. 2014; erasing: arXiv:1708.04896).

    Args:
        load: Gives the picture of an index, RGB.
        index: Which.
        count: Number of pictures; there is no mixing of pictures here.
        size: Side of the square output in pixels.
        config: Strength of each augmentation.
        rng: Source of all randomness.
    """
    picture = load(index)
    left, top, width, height = _random_window(picture.image.shape[:2], config.crop, rng)
    image = resized(picture.image[top : top + height, left : left + width], size, size)
    result = recoloured_and_flipped(Picture(image, _whole(picture.labels, size)), config, rng)
    return Picture(_erased(result.image, config.erasing, rng), result.labels)


def _whole(labels: Objects, size: int) -> Objects:
    boxes = np.tile(np.array([0, 0, size, size], np.float32), (len(labels), 1))
    return Objects(labels.class_id, boxes)


def _random_window(hw: tuple[int, int], least: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw left, top, width and height of a crop; the widest one that is allowed if none fits."""
    height, width = hw
    for _ in range(_TRIES):
        area = height * width * rng.uniform(least, 1.0)
        aspect = math.exp(rng.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1)), wide, high
    wide, high = min(width, round(height * _ASPECT)), min(height, round(width * _ASPECT))
    return (width - wide) // 2, (height - high) // 2, max(1, wide), max(1, high)


def _erased(image: Image, probability: float, rng: np.random.Generator) -> Image:
    if rng.random() >= probability:
        return image
    size = len(image)
    area = size * size * rng.uniform(*_ERASED)
    aspect = math.exp(rng.uniform(-math.log(_ERASED_ASPECT), math.log(_ERASED_ASPECT)))
    wide, high = (min(size, max(1, round(math.sqrt(area * ratio)))) for ratio in (aspect, 1 / aspect))
    left, top = int(rng.integers(size - wide + 1)), int(rng.integers(size - high + 1))
    image = image.copy()
    image[top : top + high, left : left + wide] = PAD_VALUE
    return image
