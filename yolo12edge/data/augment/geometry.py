"""Geometry: affine maps, windows and mirror images, each as one 3×3 matrix."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..objects import Matrix, scaling
from .picture import Picture, translation
from .settings import Affine, Crop

__all__ = ["flip", "random_affine", "random_window", "window_matrix"]

# Tiles of a mosaic reach up to 3/4 of the canvas' side from its centre, along both axes: 1 - 2 * 3/4 * 0.6 is above 0.
_STEEPEST = 0.6
_TRIES = 10


def random_affine(affine: Affine, rng: np.random.Generator, *, canvas: int, size: int) -> Matrix:
    """Draw the map from a square canvas to the square output: zoom, turn, shear and shift about its centre.

    Args:
        affine: The ranges to draw from.
        rng: Source of randomness; the number of draws does not depend on ``affine``.
        canvas: Side of the canvas in pixels; its centre lands near the centre of the output. One of three times the
            output's side is zoomed to the share that is seen of one of twice.
        size: Side of the output in pixels.
    """
    draw = rng.uniform(-1.0, 1.0, size=8)
    perspective = np.eye(3)
    perspective[2, :2] = min(affine.perspective, _STEEPEST / canvas) * draw[0:2]
    angle = math.radians(affine.degrees * draw[2])
    gain = (1.0 + affine.scale * draw[3]) * min(1.0, 2 * size / canvas)
    cos, sin = gain * math.cos(angle), gain * math.sin(angle)
    rotate = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float64)
    shear = np.eye(3)
    shear[0, 1], shear[1, 0] = np.tan(np.radians(affine.shear * draw[4:6]))
    shift_x, shift_y = (0.5 + affine.translate * draw[6:8]) * size
    return translation(shift_x, shift_y) @ shear @ rotate @ perspective @ translation(-canvas / 2, -canvas / 2)


def random_window(hw: tuple[int, int], crop: Crop, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw left, top, width and height of a window; the widest one that is allowed if none fits."""
    height, width = hw
    for _ in range(_TRIES):
        area = height * width * rng.uniform(crop.area, 1.0)
        aspect = math.exp(rng.uniform(-math.log(crop.aspect), math.log(crop.aspect)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1)), wide, high
    wide, high = min(width, round(height * crop.aspect)), min(height, round(width * crop.aspect))
    return (width - wide) // 2, (height - high) // 2, max(1, wide), max(1, high)


def window_matrix(window: tuple[int, int, int, int], size: int) -> Matrix:
    """Return the matrix that enlarges a window, left, top, width and height, to a square of side ``size``."""
    left, top, width, height = window
    return scaling(size / width, size / height) @ translation(-left, -top)


def flip_matrix(size: int, *, horizontal: bool, vertical: bool) -> Matrix:
    """Return the matrix that mirrors a square picture of side ``size``."""
    x, y = (-1 if horizontal else 1), (-1 if vertical else 1)
    return np.array([[x, 0, size * horizontal], [0, y, size * vertical], [0, 0, 1]], np.float64)


def flip(picture: Picture, *, horizontal: bool, vertical: bool) -> Picture:
    """Mirror a square picture left-right, upside down, or both."""
    if not (horizontal or vertical):
        return picture
    code = -1 if horizontal and vertical else (1 if horizontal else 0)
    matrix = flip_matrix(len(picture.image), horizontal=horizontal, vertical=vertical)
    return Picture(np.asarray(cv2.flip(picture.image, code), np.uint8), picture.labels.transform(matrix))
