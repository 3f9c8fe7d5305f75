"""``label_lines``: what was found as lines of a YOLO label file, each with the confidence behind it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..imaging.boxes import xywh_from_xyxy
from ..imaging.rotated import corners_of_rotated
from ..keypoints import KeypointSpec

__all__ = ["label_lines"]

Values = list[npt.NDArray[np.float32]]


def label_lines(detections: Detections, image_hw: tuple[int, int], keypoints: KeypointSpec | None = None) -> list[str]:
    """Return one line an object: its class, where it is in fractions of the image, and its confidence.

    Where it is, by task: centre x, centre y, width, height; points of the outline (the largest, where a mask has
    several; an empty mask has no line); the box and x, y of each keypoint, with the probability that it is visible if
    the model gives it; the four corners of an oriented box; nothing for a class of the whole image.

    Args:
        detections: In pixels of the image.
        image_hw: Height and width of the image.
        keypoints: The manifest's.
    """
    size = np.array(image_hw[::-1], np.float32)
    places = next((way for name, way in _PLACES.items() if getattr(detections, name) is not None), _boxes)
    return [
        " ".join((str(class_id), *(f"{value:.6f}" for value in place.ravel()), f"{confidence:.5f}")) + "\n"
        for class_id, place, confidence in zip(
            detections.class_id, places(detections, size, keypoints), detections.confidence, strict=True
        )
        if place.size or detections.mask is None
    ]


def _boxes(found: Detections, size: npt.NDArray[np.float32], spec: KeypointSpec | None) -> Values:
    return list(xywh_from_xyxy(found.xyxy) / np.tile(size, 2))


def _outlines(found: Detections, size: npt.NDArray[np.float32], spec: KeypointSpec | None) -> Values:
    assert found.mask is not None
    objects = found.mask.contours()
    return [max(rings, key=cv2.contourArea) / size if rings else np.zeros(0, np.float32) for rings in objects]


def _keypoints(found: Detections, size: npt.NDArray[np.float32], spec: KeypointSpec | None) -> Values:
    assert found.keypoints is not None
    dimensions = 3 if spec is None else spec.dimensions
    points = (found.keypoints / np.append(size, np.float32(1)))[..., :dimensions]
    return [
        np.concatenate((box, of_box.ravel())) for box, of_box in zip(_boxes(found, size, spec), points, strict=True)
    ]


def _corners(found: Detections, size: npt.NDArray[np.float32], spec: KeypointSpec | None) -> Values:
    assert found.obb is not None
    return list(np.asarray(corners_of_rotated(found.obb), np.float32) / size)


def _nowhere(found: Detections, size: npt.NDArray[np.float32], spec: KeypointSpec | None) -> Values:
    return [np.zeros(0, np.float32)] * len(found)


# What detections hold says of which task they are; without any of these they are boxes.
_PLACES: dict[str, Callable[[Detections, npt.NDArray[np.float32], KeypointSpec | None], Values]] = {
    "mask": _outlines,
    "keypoints": _keypoints,
    "obb": _corners,
    "probs": _nowhere,
}
