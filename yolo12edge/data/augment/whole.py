"""Pictures that have classes as a whole: resized and cut as the Runtime does for classification."""

from __future__ import annotations

import cv2
import numpy as np

from ...imaging.letterbox import halved, plan_centre_crop
from ..objects import Objects
from .picture import Image, Picture

__all__ = ["NOTHING", "centre_cropped_picture", "cover", "resized", "whole_labels"]

NOTHING = Objects(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
"""Labels of a picture whose labels do not move."""
_STRIP = 8  # a picture is at most this much longer than wide


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
    return Picture(resized(picture.image[window], size, size), whole_labels(picture.labels, size))


def whole_labels(labels: Objects, size: int) -> Objects:
    """Return the classes, each with a box around the whole picture."""
    boxes = np.tile(np.array([0, 0, size, size], np.float32), (len(labels), 1))
    return Objects(labels.class_id, boxes)
