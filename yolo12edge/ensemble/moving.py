"""``mirror`` and ``shift``: detections moved with their frame, whatever the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..detections import Detections
from ..imaging.boxes import clip_boxes
from ..imaging.rotated import wrap_angle
from ..masks import Masks

__all__ = ["mirror", "shift"]


def mirror(found: Detections, width: int, *, flip: Sequence[int] = ()) -> Detections:
    """Return the detections of the frame mirrored left to right; doing it twice changes nothing.

    Args:
        found: In pixels of a frame of this width.
        width: Of the frame in pixels.
        flip: For each keypoint the one that it becomes in a mirror image, such as the left eye for the right one.
    """
    changed: dict[str, Any] = {
        "xyxy": found.xyxy[:, [2, 1, 0, 3]] * _SIGNS + np.array((width, 0, width, 0), np.float32)
    }
    if found.mask is not None:
        offsets = found.mask.offsets.copy()
        offsets[:, 0] = [
            width - left - crop.shape[1] for left, crop in zip(offsets[:, 0], found.mask.crops, strict=True)
        ]
        crops = tuple(np.ascontiguousarray(crop[:, ::-1]) for crop in found.mask.crops)
        changed["mask"] = Masks(crops, offsets, found.mask.image_hw)
    if found.keypoints is not None:
        points = found.keypoints[:, list(flip)] if len(flip) else found.keypoints.copy()
        points[..., 0] = width - points[..., 0]
        changed["keypoints"] = points
    if found.obb is not None:
        turned = found.obb.copy()
        turned[:, 0] = width - turned[:, 0]
        turned[:, 4] = wrap_angle(-turned[:, 4])
        changed["obb"] = turned
    return replace(found, **changed)


_SIGNS = np.array((-1, 1, -1, 1), np.float32)


def shift(found: Detections, left: int, top: int, image_hw: tuple[int, int]) -> Detections:
    """Return detections as they lie in a part of their frame, cut to it; what lies wholly outside is left out.

    Args:
        found: In pixels of the larger frame.
        left: Column of the larger frame where the part begins.
        top: Row of the larger frame where the part begins.
        image_hw: Height and width of the part in pixels.
    """
    height, width = image_hw
    boxes = clip_boxes(found.xyxy - np.array((left, top, left, top), np.float32), image_hw)
    changed: dict[str, Any] = {"xyxy": boxes}
    if found.mask is not None:
        changed["mask"] = _cut(found.mask, left, top, image_hw)
    if found.keypoints is not None:
        points = found.keypoints.copy()
        points[..., :2] = np.clip(points[..., :2] - (left, top), 0, (width, height))
        changed["keypoints"] = points
    if found.obb is not None:
        moved = found.obb.copy()
        moved[:, :2] -= (left, top)
        changed["obb"] = moved
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return replace(found, **changed)[inside]


def _cut(masks: Masks, left: int, top: int, image_hw: tuple[int, int]) -> Masks:
    height, width = image_hw
    crops, offsets = [], []
    for crop, (column, row) in zip(masks.crops, masks.offsets.tolist(), strict=True):
        x, y = column - left, row - top
        kept = crop[max(0, -y) : max(0, height - y), max(0, -x) : max(0, width - x)]
        crops.append(kept)
        offsets.append((min(max(x, 0), width), min(max(y, 0), height)) if kept.size else (0, 0))
    return Masks(tuple(crops), np.array(offsets, np.int32).reshape(-1, 2), image_hw)
