"""Policies: operations that are drawn from lists, so that nobody has to choose them.

A policy is drawn first. What it does to geometry becomes one matrix, which joins those of the picture, so that pixels
are still interpolated once and labels move along; what it does to colours follows. On the picture as a whole, both
orders give the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import cv2
import numpy as np

from ..objects import Matrix
from .colour import equalized, grayed, lookup
from .picture import Image, translation
from .settings import Augmentation, Augmix

__all__ = ["Most", "Step", "augmixed", "draw_policy", "geometry_of", "recoloured_by"]

_LEVELS = np.arange(256.0)
_STEEPEST_TURN = 135.0  # degrees


class Step(NamedTuple):
    """One operation that was drawn: its name, and its strength as a share of what is the most; may be negative."""

    name: str
    strength: float


class Most(NamedTuple):
    """The strongest of each operation."""

    shear: float
    shift: float
    """Share of the side."""
    degrees: float
    factor: float
    """Colour, contrast, brightness and sharpness are multiplied by 1 ± this."""
    bits: int
    """That posterizing takes away."""


USUAL = Most(0.3, 150 / 331, 30.0, 0.9, 4)
"""Of AutoAugment and RandAugment."""
WIDE = Most(0.99, 32 / 224, _STEEPEST_TURN, 0.99, 6)
"""Of TrivialAugment."""


def _sheared(x: float, y: float) -> Matrix:
    return np.array([[1, x, 0], [y, 1, 0], [0, 0, 1]], np.float64)


def _turned(degrees: float) -> Matrix:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float64)


# About the picture's centre, in shares of its side.
_GEOMETRY: dict[str, Callable[[float, Most], Matrix]] = {
    "shear-x": lambda strength, most: _sheared(strength * most.shear, 0),
    "shear-y": lambda strength, most: _sheared(0, strength * most.shear),
    "translate-x": lambda strength, most: translation(strength * most.shift, 0),
    "translate-y": lambda strength, most: translation(0, strength * most.shift),
    "rotate": lambda strength, most: _turned(strength * most.degrees),
}


def _stretched(image: Image) -> Image:
    low, high = image.min((0, 1)).astype(float), image.max((0, 1)).astype(float)
    flat = high == low  # a channel of one level stays as it is
    low, gain = np.where(flat, 0, low), np.where(flat, 1, 255 / np.maximum(high - low, 1))
    return lookup(image, ((_LEVELS[:, None] - low) * gain)[:, None])


def _between(other: Image, image: Image, factor: float) -> Image:
    return np.asarray(cv2.addWeighted(image, factor, other, 1 - factor, 0), np.uint8)


def _smoothed(image: Image) -> Image:
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    return np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)


def _contrasted(image: Image, factor: float) -> Image:
    mean = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    return lookup(image, mean + factor * (_LEVELS - mean))


def _posterized(image: Image, lost: int) -> Image:
    return image & np.uint8(256 - (1 << lost))


def _solarized(image: Image, threshold: float) -> Image:
    return lookup(image, np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS))


_COLOUR: dict[str, Callable[[Image, float, Most], Image]] = {
    "identity": lambda image, strength, most: image,
    "brightness": lambda image, strength, most: lookup(image, (1 + strength * most.factor) * _LEVELS),
    "colour": lambda image, strength, most: _between(grayed(image), image, 1 + strength * most.factor),
    "contrast": lambda image, strength, most: _contrasted(image, 1 + strength * most.factor),
    "sharpness": lambda image, strength, most: _between(_smoothed(image), image, 1 + strength * most.factor),
    "posterize": lambda image, strength, most: _posterized(image, round(abs(strength) * most.bits)),
    "solarize": lambda image, strength, most: _solarized(image, 256 - abs(strength) * 256),
    "autocontrast": lambda image, strength, most: _stretched(image),
    "equalize": lambda image, strength, most: equalized(image),
    "invert": lambda image, strength, most: 255 - image,
}
_DRAWN = (*(name for name in _COLOUR if name != "invert"), *_GEOMETRY)
_MIXED = ("autocontrast", "equalize", "posterize", "solarize")

# Table 9 of arXiv:1805.09501: operation, probability, magnitude from 0 to 9.
_PAIRS: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("colour", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("colour", 1.0, 2)),
    (("colour", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear-x", 0.6, 5), ("equalize", 1.0, 9)),
    (("colour", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def _signed(strength: float, rng: np.random.Generator) -> float:
    return strength if rng.random() < 0.5 else -strength


def draw_policy(augmentation: Augmentation, rng: np.random.Generator) -> tuple[Sequence[Step], Most]:
    """Draw what a policy does to a picture, in its order, and the scale of it; nothing if there is no policy."""
    few, found, one = augmentation.randaugment, augmentation.autoaugment, augmentation.trivialaugment
    steps: list[Step] = []
    if few is not None and rng.random() < few.p:
        names = rng.choice(_DRAWN, size=few.ops)
        steps = [Step(str(name), _signed(few.magnitude / 30, rng)) for name in names]
    elif found is not None and rng.random() < found.p:
        pair = _PAIRS[int(rng.integers(len(_PAIRS)))]
        steps = [Step(name, _signed(level / 9, rng)) for name, p, level in pair if rng.random() < p]
    elif one is not None and rng.random() < one.p:
        steps = [Step(str(rng.choice(_DRAWN)), _signed(rng.random(), rng))]
    return steps, USUAL if one is None else WIDE


def geometry_of(steps: Sequence[Step], most: Most, size: int) -> Matrix:
    """Return the matrix of what steps do to the geometry of a square picture of side ``size``."""
    maps = [_GEOMETRY[name](strength, most) for name, strength in steps if name in _GEOMETRY]
    if not maps:
        return np.eye(3)
    whole = reduce(lambda first, second: second @ first, maps)
    there = np.diag((size, size, 1.0)) @ translation(0.5, 0.5)
    return np.asarray(there @ whole @ np.linalg.inv(there), np.float64)


def recoloured_by(steps: Sequence[Step], most: Most, image: Image) -> Image:
    """Do what steps do to colours."""
    for name, strength in steps:
        if name in _COLOUR:
            image = _COLOUR[name](image, strength, most)
    return image


def augmixed(image: Image, settings: Augmix, rng: np.random.Generator) -> Image:
    """Mix an image with a mixture of three chains of one to three operations each, by weights from Beta(1, 1)."""
    weights, share = rng.dirichlet((1.0, 1.0, 1.0)), float(rng.random())
    mixture = np.zeros(image.shape, np.float32)
    for weight in weights.tolist():
        names = rng.choice(_MIXED, size=int(rng.integers(1, 4)))
        chain = [Step(str(name), settings.severity / 10 * float(rng.random())) for name in names]
        mixture += np.float32(weight) * recoloured_by(chain, USUAL, image)
    return np.asarray((share * image + (1 - share) * mixture).round().clip(0, 255), np.uint8)
