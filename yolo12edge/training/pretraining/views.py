"""Views of a picture: random crops, colours, blur, as the methods of pretraining look at it."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Image", "chw", "crop_and_flip", "distorted", "plain"]

Image = npt.NDArray[np.uint8]

_ASPECT = 4 / 3  # a crop is at most this much wider than high, or higher than wide


def chw(image: Image) -> Image:
    """Return (H, W, 3) as (3, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def plain(image: Image, size: int) -> Image:
    """Return the middle of a picture, as a square of ``size`` pixels."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resized(image[top : top + side, left : left + side], size)


def crop_and_flip(image: Image, size: int, rng: np.random.Generator, *, least: float) -> Image:
    """Return a random part of a picture, mirrored in half of all cases.

    Args:
        image: uint8 (H, W, 3).
        size: Side of the square result in pixels.
        rng: Source of all randomness.
        least: Least share of the picture's area.
    """
    height, width = image.shape[:2]
    area = height * width * rng.uniform(least, 1.0)
    aspect = math.exp(rng.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
    wide = int(np.clip(round(math.sqrt(area * aspect)), 1, width))
    high = int(np.clip(round(math.sqrt(area / aspect)), 1, height))
    left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
    cut = _resized(image[top : top + high, left : left + wide], size)
    return np.ascontiguousarray(cut[:, ::-1]) if rng.random() < 0.5 else cut


def distorted(image: Image, size: int, rng: np.random.Generator) -> Image:
    """Return one view of contrastive learning (SimCLR, arXiv:2002.05709, appendix A, of half its colour strength).

    Args:
        image: uint8 (H, W, 3), RGB.
        size: Side of the square result in pixels.
        rng: Source of all randomness.
    """
    view = crop_and_flip(image, size, rng, least=0.2)
    if rng.random() < 0.8:
        view = _jittered(view, rng)
    if rng.random() < 0.2:
        view = np.asarray(np.repeat(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)[..., None], 3, 2), np.uint8)
    if rng.random() < 0.5:
        sigma = rng.uniform(0.1, 2.0) * max(size / 224, 0.5)
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), sigma), np.uint8)
    return view


def _jittered(image: Image, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, saturation and hue."""
    gain, contrast, saturation = rng.uniform(0.6, 1.4, 3)
    mean = float(image.mean()) * gain
    changed = np.clip((image.astype(np.float32) * gain - mean) * contrast + mean, 0, 255).astype(np.uint8)
    hue, colour, value = cv2.split(cv2.cvtColor(changed, cv2.COLOR_RGB2HSV))
    hue = ((hue.astype(np.int16) + int(rng.integers(-18, 19))) % 180).astype(np.uint8)  # OpenCV's hue is in 2 degrees
    colour = np.clip(colour.astype(np.float32) * saturation, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.merge((hue, colour, value)), cv2.COLOR_HSV2RGB), np.uint8)


def _resized(image: Image, size: int) -> Image:
    shrinks = min(image.shape[:2]) > size
    return np.asarray(
        cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )
