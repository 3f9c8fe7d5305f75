"""``Picture``: an image and the objects in it, and how one is warped, by one matrix, into a training picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...imaging.letterbox import PAD_VALUE, Letterbox, letterbox_image, plan_letterbox
from ..objects import Matrix, Objects, map_points, scaling

__all__ = [
    "Image",
    "Picture",
    "Tile",
    "letterbox_matrix",
    "letterboxed_picture",
    "render",
    "translation",
]

Image = npt.NDArray[np.uint8]


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


def letterboxed_picture(picture: Picture, *, size: int) -> Picture:
    """Letterbox a picture to a square without augmentation, exactly as the Runtime's preprocessing does."""
    letterbox = plan_letterbox(picture.image.shape[:2], (size, size))
    return Picture(letterbox_image(picture.image, letterbox), picture.labels.transform(letterbox_matrix(letterbox)))


def letterbox_matrix(letterbox: Letterbox) -> Matrix:
    """Return the matrix that maps pixels of the source to those of the network's input."""
    (height, width), (new_height, new_width) = letterbox.source_hw, letterbox.resized_hw
    return translation(letterbox.pad_left, letterbox.pad_top) @ scaling(new_width / width, new_height / height)
