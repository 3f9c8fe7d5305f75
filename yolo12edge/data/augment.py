"""Augmentation for training: mosaic, affine, mixup, colour jitter and flips, on NumPy and OpenCV.

Every geometric step is one 3×3 matrix that acts on image and objects alike, whatever the task: see ``Objects``. The
tiles of a mosaic are warped straight into the output by the product of their placement and the affine map: the mosaic
canvas never exists, and each output pixel is interpolated once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..imaging.letterbox import PAD_VALUE, Letterbox, letterbox_image, plan_letterbox
from .objects import Matrix, Objects, map_points, scaling

__all__ = ["AugmentConfig", "Picture", "augmented_picture", "letterbox_matrix", "letterboxed_picture"]

Image = npt.NDArray[np.uint8]

# Tiles of a mosaic reach up to 3/4 of the canvas' side from its centre, along both axes: 1 - 2 * 3/4 * 0.6 is above 0.
_STEEPEST = 0.6


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Strength of each augmentation; the defaults are the recipe of YOLO12n.

    Attributes:
        mosaic: Probability that a picture is a mosaic of four.
        mixup: Probability that a picture is blended with a second one.
        scale: Zoom is drawn from ``1 ± scale``; in [0, 1).
        translate: Shift is drawn from ``± translate``, as a share of the output side; in [0, 1].
        degrees: Rotation is drawn from ``± degrees``; in [0, 180].
        shear: Shear along each axis is drawn from ``± shear`` degrees; in [0, 44]: from 45 on, shear along both axes
            can turn a picture into its mirror image.
        perspective: Perspective of each axis is drawn from ``± perspective``, per pixel; in [0, 0.001], and no more
            than keeps all of the picture before the camera.
        hsv: Gains of hue, saturation and value are drawn from ``1 ± hsv``; each in [0, 1].
        fliplr: Probability of a left-right flip. Pictures with keypoints whose mirror images are not known are never
            mirrored.
        flipud: Probability of an upside-down flip.
        crop: Smallest share of a picture's area that a crop keeps, in [0.01, 1]; classify only, which has neither
            mosaic nor mixup nor the affine map. The recipe for ImageNet is 0.08.
        erasing: Probability that a rectangle is painted over; classify only.

    Raises:
        InputError: If a value is outside its range.
    """

    mosaic: float = 1.0
    mixup: float = 0.0
    scale: float = 0.5
    translate: float = 0.1
    degrees: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    hsv: tuple[float, float, float] = (0.015, 0.7, 0.4)
    fliplr: float = 0.5
    flipud: float = 0.0
    crop: float = 0.25
    erasing: float = 0.4

    def __post_init__(self) -> None:
        upper = {"scale": 0.99, "degrees": 180.0, "shear": 44.0, "perspective": 0.001}
        if len(self.hsv) != 3:
            raise InputError(f"hsv has {len(self.hsv)} values", expected="three gains: hue, saturation, value")
        for field in fields(self):
            value = getattr(self, field.name)
            limit = upper.get(field.name, 1.0)
            for number in value if field.name == "hsv" else (value,):
                least = 0.01 if field.name == "crop" else 0.0
                if not least <= number <= limit:  # NaN fails this too
                    raise InputError(f"{field.name} is {value}", expected=f"a number from {least:g} to {limit:g}")

    def without_mosaic(self) -> AugmentConfig:
        """Return the configuration of the last epochs: single pictures, neither tiled nor blended."""
        return replace(self, mosaic=0.0, mixup=0.0)

    def without_flips(self) -> AugmentConfig:
        """Return the configuration for pictures whose mirror images would have wrong labels."""
        return replace(self, fliplr=0.0, flipud=0.0)


class Picture(NamedTuple):
    """An image, uint8 (H, W, 3), and the objects in its pixels."""

    image: Image
    labels: Objects


class Tile(NamedTuple):
    """A picture and the 3×3 matrix that maps its pixels to those of the canvas."""

    picture: Picture
    matrix: Matrix


def translation(x: float, y: float) -> Matrix:
    """Return the matrix that shifts by ``(x, y)`` pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def flip_matrix(size: int, *, horizontal: bool, vertical: bool) -> Matrix:
    """Return the matrix that mirrors a square picture of side ``size``."""
    x, y = (-1 if horizontal else 1), (-1 if vertical else 1)
    return np.array([[x, 0, size * horizontal], [0, y, size * vertical], [0, 0, 1]], np.float64)


def random_affine(config: AugmentConfig, rng: np.random.Generator, *, canvas: int, size: int) -> Matrix:
    """Draw the map from a square canvas to the square output: zoom, turn, shear and shift about its centre.

    Args:
        config: The ranges to draw from.
        rng: Source of randomness; the number of draws does not depend on ``config``.
        canvas: Side of the canvas in pixels; its centre lands near the centre of the output.
        size: Side of the output in pixels.
    """
    draw = rng.uniform(-1.0, 1.0, size=8)
    perspective = np.eye(3)
    perspective[2, :2] = min(config.perspective, _STEEPEST / canvas) * draw[0:2]
    angle = math.radians(config.degrees * draw[2])
    gain = 1.0 + config.scale * draw[3]
    cos, sin = gain * math.cos(angle), gain * math.sin(angle)
    rotate = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float64)
    shear = np.eye(3)
    shear[0, 1], shear[1, 0] = np.tan(np.radians(config.shear * draw[4:6]))
    shift_x, shift_y = (0.5 + config.translate * draw[6:8]) * size
    return translation(shift_x, shift_y) @ shear @ rotate @ perspective @ translation(-canvas / 2, -canvas / 2)


def mosaic_tiles(pictures: Sequence[Picture], rng: np.random.Generator, *, size: int) -> list[Tile]:
    """Place four pictures around a random centre of a canvas of twice the output's side."""
    centre_x, centre_y = rng.uniform(0.5 * size, 1.5 * size, size=2)
    tiles = []
    for quadrant, picture in enumerate(pictures):
        height, width = picture.image.shape[:2]
        left = centre_x if quadrant % 2 else centre_x - width
        top = centre_y if quadrant // 2 else centre_y - height
        tiles.append(Tile(picture, translation(left, top)))
    return tiles


def centred_tile(picture: Picture, *, size: int) -> Tile:
    """Place one picture where the letterbox of the validation would have it, on a canvas of the output's size."""
    letterbox = plan_letterbox(picture.image.shape[:2], (size, size))
    return Tile(picture, translation(letterbox.pad_left, letterbox.pad_top))


def render(tiles: Iterable[Tile], matrix: Matrix, *, size: int) -> Picture:
    """Warp tiles through ``matrix`` (canvas to output) into one square picture with grey where no tile is."""
    image = np.full((size, size, 3), PAD_VALUE, np.uint8)
    labels = []
    for tile in tiles:
        total = matrix @ tile.matrix
        _warp_into(image, tile.picture.image, total)
        labels.append(tile.picture.labels.transform(total))
    return Picture(image, Objects.concat(labels).within(size))


def _warp_into(target: Image, source: Image, matrix: Matrix) -> None:
    """Warp ``source`` onto the part of ``target`` that it covers, and leave the rest of ``target`` alone."""
    height, width = source.shape[:2]
    corners = map_points(matrix, np.array([[0, 0], [width, 0], [width, height], [0, height]]))
    # A pixel belongs to the tile that holds its centre, so tiles that share an edge neither overlap nor leave a seam.
    bounds = np.array([corners.min(0), corners.max(0)])
    (left, top), (right, bottom) = np.ceil(bounds - 0.5).clip(0, target.shape[1::-1]).astype(int).tolist()
    if left >= right or top >= bottom:
        return
    region = target[top:bottom, left:right]
    # OpenCV's integer coordinates are pixel centres; ours are pixel corners.
    centres = translation(-left - 0.5, -top - 0.5) @ matrix @ translation(0.5, 0.5)
    shape = (right - left, bottom - top)
    if matrix[2, 0] == 0 and matrix[2, 1] == 0:
        warped = cv2.warpAffine(source, centres[:2], shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    else:
        warped = cv2.warpPerspective(source, centres, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if np.count_nonzero(matrix[[0, 1, 2, 2], [1, 0, 0, 1]]) == 0:  # upright: the tile fills its region
        region[:] = warped
    else:
        mask = np.zeros(shape[::-1], np.uint8)
        cv2.fillConvexPoly(mask, np.round((corners - (left + 0.5, top + 0.5)) * 16).astype(np.int32), 255, shift=4)
        np.copyto(region, warped, where=mask[..., None] != 0)


def blend(first: Picture, second: Picture, rng: np.random.Generator) -> Picture:
    """Mix two pictures of one size by a weight from Beta(32, 32) and join their labels (mixup, arXiv:1710.09412)."""
    weight = float(rng.beta(32.0, 32.0))
    image = cv2.addWeighted(first.image, weight, second.image, 1.0 - weight, 0.0)
    return Picture(np.asarray(image, np.uint8), Objects.concat([first.labels, second.labels]))


def jitter_colour(image: Image, gains: tuple[float, float, float], rng: np.random.Generator) -> Image:
    """Scale hue, saturation and value of an RGB image by random gains from ``1 ± gains``."""
    draw = rng.uniform(-1.0, 1.0, size=3)
    if not any(gains):
        return image
    level = np.arange(256)[:, None] * (1.0 + draw * gains)
    table = np.empty((256, 1, 3), np.uint8)
    table[:, 0, 0] = level[:, 0] % 180  # OpenCV stores hue as half degrees
    table[:, 0, 1:] = level[:, 1:].clip(0, 255)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def flip(picture: Picture, *, horizontal: bool, vertical: bool) -> Picture:
    """Mirror a square picture left-right, upside down, or both."""
    if not (horizontal or vertical):
        return picture
    code = -1 if horizontal and vertical else (1 if horizontal else 0)
    matrix = flip_matrix(len(picture.image), horizontal=horizontal, vertical=vertical)
    return Picture(np.asarray(cv2.flip(picture.image, code), np.uint8), picture.labels.transform(matrix))


def recoloured_and_flipped(picture: Picture, config: AugmentConfig, rng: np.random.Generator) -> Picture:
    """Jitter the colours of a square picture and mirror it, as far as the configuration and chance want it."""
    picture = Picture(jitter_colour(picture.image, config.hsv, rng), picture.labels)
    leftright, upsidedown = rng.random(2) < (config.fliplr, config.flipud)
    return flip(picture, horizontal=bool(leftright), vertical=bool(upsidedown))


def letterboxed_picture(picture: Picture, *, size: int) -> Picture:
    """Letterbox a picture to a square without augmentation, exactly as the Runtime's preprocessing does."""
    letterbox = plan_letterbox(picture.image.shape[:2], (size, size))
    return Picture(letterbox_image(picture.image, letterbox), picture.labels.transform(letterbox_matrix(letterbox)))


def letterbox_matrix(letterbox: Letterbox) -> Matrix:
    """Return the matrix that maps pixels of the source to those of the network's input."""
    (height, width), (new_height, new_width) = letterbox.source_hw, letterbox.resized_hw
    return translation(letterbox.pad_left, letterbox.pad_top) @ scaling(new_width / width, new_height / height)


def augmented_picture(
    load: Callable[[int], Picture],
    index: int,
    *,
    count: int,
    size: int,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Picture:
    """Make one training picture.

    Args:
        load: Gives the picture of an index: RGB, its long side ``size`` pixels.
        index: The picture that surely is in the result.
        count: Number of pictures that partners are drawn from.
        size: Side of the square output in pixels.
        config: Strength of each augmentation.
        rng: Source of all randomness.

    Returns:
        An RGB image, uint8 (size, size, 3), and its labels, clipped to it.
    """

    def compose(chosen: int) -> Picture:
        if rng.random() < config.mosaic:
            others = rng.integers(count, size=3).tolist()
            tiles = mosaic_tiles([load(each) for each in (chosen, *others)], rng, size=size)
            return render(tiles, random_affine(config, rng, canvas=2 * size, size=size), size=size)
        tile = centred_tile(load(chosen), size=size)
        return render([tile], random_affine(config, rng, canvas=size, size=size), size=size)

    picture = compose(index)
    if rng.random() < config.mixup:
        picture = blend(picture, compose(int(rng.integers(count))), rng)
    return recoloured_and_flipped(picture, config, rng)
