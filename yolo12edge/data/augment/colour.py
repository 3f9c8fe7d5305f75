"""Colour: what changes pixels of an RGB picture, and not where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .picture import Image
from .settings import Augmentation, Blur, BrightnessContrast, Clahe, Hsv, Op

__all__ = ["equalized", "grayed", "jitter_colour", "jitter_levels", "lookup", "recoloured"]


def lookup(image: Image, levels: npt.NDArray[np.floating]) -> Image:
    """Replace each level by that of a table of 256, rounded and clipped."""
    return np.asarray(cv2.LUT(image, levels.round().clip(0, 255).astype(np.uint8)), np.uint8)


def jitter_colour(image: Image, hsv: Hsv, rng: np.random.Generator) -> Image:
    """Multiply hue, saturation and value by random gains."""
    gains = (hsv.hue, hsv.saturation, hsv.value)
    draw = rng.uniform(-1.0, 1.0, size=3)
    if not any(gains):
        return image
    level = np.arange(256)[:, None] * (1.0 + draw * gains)
    table = np.empty((256, 1, 3), np.uint8)
    table[:, 0, 0] = level[:, 0] % 180  # OpenCV stores hue as half degrees
    table[:, 0, 1:] = level[:, 1:].clip(0, 255)
    changed = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table)
    return np.asarray(cv2.cvtColor(changed, cv2.COLOR_HSV2RGB), np.uint8)


def jitter_levels(image: Image, settings: BrightnessContrast, rng: np.random.Generator) -> Image:
    """Multiply the levels, and their distance from the mean, by random factors."""
    bright, contrast = 1.0 + rng.uniform(-1.0, 1.0, size=2) * (settings.brightness, settings.contrast)
    mean = bright * float(image.mean())
    return lookup(image, mean + contrast * (bright * np.arange(256.0) - mean))


def equalized(image: Image) -> Image:
    """Make the histogram of luma (of YCrCb) flat."""
    return _on_first(image, cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB, cv2.equalizeHist)


def _clahe(image: Image, settings: Clahe, rng: np.random.Generator) -> Image:
    apply = cv2.createCLAHE(clipLimit=settings.clip, tileGridSize=(8, 8)).apply
    return _on_first(image, cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB, apply)


def _on_first(image: Image, there: int, back: int, change: Callable[..., cv2.typing.MatLike]) -> Image:
    channels = list(cv2.split(cv2.cvtColor(image, there)))
    channels[0] = change(channels[0])
    return np.asarray(cv2.cvtColor(cv2.merge(channels), back), np.uint8)


def grayed(image: Image) -> Image:
    """Take the colours away."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def _blurred(image: Image, settings: Blur, rng: np.random.Generator) -> Image:
    side = 2 * int(rng.integers(1, settings.radius + 1)) + 1
    return np.asarray(cv2.blur(image, (side, side)), np.uint8)


# In the order in which they are done.
_STAGE: dict[str, Callable[[Image, Any, np.random.Generator], Image]] = {
    "hsv": jitter_colour,
    "brightness_contrast": jitter_levels,
    "equalize": lambda image, settings, rng: equalized(image),
    "clahe": _clahe,
    "blur": _blurred,
    "gray": lambda image, settings, rng: grayed(image),
}


def recoloured(image: Image, augmentation: Augmentation, rng: np.random.Generator) -> Image:
    """Do the stage of colours."""
    for name, change in _STAGE.items():
        op: Op | None = getattr(augmentation, name)
        if op is not None and rng.random() < op.p:
            image = change(image, op, rng)
    return image
