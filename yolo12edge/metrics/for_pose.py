"""Pose: keypoints are compared by how far they are apart, relative to the object and to how well people place each.

The measure is COCO's object keypoint similarity. COCO takes the area of the object's outline; labels of keypoints have
a box alone, and outlines fill 0.53 of theirs on average, which is what tools that read COCO take in its place.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..imaging.boxes import box_area
from ..keypoints import KeypointSpec
from .coco import coco_tables
from .overlap import Overlap
from .target import Target

__all__ = ["object_keypoint_similarity", "overlap"]

Floats = npt.NDArray[np.float64]

_FILLED = 0.53


def overlap(keypoints: KeypointSpec | None = None) -> Overlap:
    """Return similarity of keypoints.

    Raises:
        InputError: If it is not said which keypoints there are.
    """
    if keypoints is None:
        raise InputError("keypoints cannot be compared", expected="a KeypointSpec, which says how exact each is")
    sigmas = np.asarray(keypoints.sigmas, np.float64)
    return Overlap(
        "pose",
        "keypoint",
        "OKS",
        lambda found, target: object_keypoint_similarity(
            _points(found, len(sigmas)), _points(target, len(sigmas)), target.boxes, sigmas
        ),
        partial(coco_tables, kind="keypoints", fields=partial(_fields, count=len(sigmas)), sigmas=sigmas),
        ignored=lambda target: np.asarray((_points(target, len(sigmas))[:, :, 2] <= 0).all(1)),
    )


def object_keypoint_similarity(
    found: Floats, labelled: Floats, boxes: npt.NDArray[np.float32], sigmas: Floats
) -> Floats:
    """Return COCO's OKS of each pair.

    Args:
        found: Shape (n, K, 3).
        labelled: Shape (m, K, 3); points with visibility 0 do not count. Of an object without any other it is looked
            at whether the points found lie in twice its box.
        boxes: Shape (m, 4), of the labelled objects.
        sigmas: Shape (K,), how far off people place each point.

    Returns:
        Shape (n, m), 0 to 1.
    """
    result = np.zeros((len(found), len(labelled)))
    corner = boxes[:, :2].astype(np.float64)
    width_height = boxes[:, 2:].astype(np.float64) - corner
    area = _FILLED * np.maximum(width_height, 0).prod(1) + np.spacing(1)
    for index, points in enumerate(labelled):
        known = points[:, 2] > 0
        if known.any():
            apart = found[:, known, :2] - points[known, :2]
        else:
            known = np.ones(len(points), np.bool_)
            low, high = corner[index] - width_height[index], corner[index] + 2 * width_height[index]
            apart = np.maximum(low - found[:, :, :2], 0) + np.maximum(found[:, :, :2] - high, 0)
        error = (apart**2).sum(2) / (2 * sigmas[known]) ** 2 / area[index] / 2
        result[:, index] = np.exp(-error).mean(1)
    return result


def _points(part: Detections | Target, count: int) -> Floats:
    points = part.keypoints
    if points is None or points.shape[1:] != (count, 3):
        fact = "there are no keypoints" if points is None else f"keypoints have shape {points.shape}"
        raise InputError(fact, expected=f"({len(part)}, {count}, 3)", remedy="evaluate a pose model of these keypoints")
    return points.astype(np.float64)


def _fields(part: Detections | Target, *, count: int) -> list[dict[str, Any]]:
    points = _points(part, count)
    boxes = part.boxes if isinstance(part, Target) else part.xyxy
    known = (points[:, :, 2] > 0).sum(1).tolist()
    rows = zip(points.reshape(-1, 3 * count).tolist(), known, box_area(boxes).tolist(), strict=True)
    return [{"keypoints": row, "num_keypoints": number, "area": _FILLED * area} for row, number, area in rows]
