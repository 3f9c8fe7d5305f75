"""Segmentation: masks are compared by the pixels that they share."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..keypoints import KeypointSpec
from ..masks import Masks
from .coco import coco_tables
from .overlap import Overlap
from .target import Target

__all__ = ["overlap"]


def overlap(keypoints: KeypointSpec | None = None) -> Overlap:
    """Return IoU of masks."""
    return Overlap("segment", "mask", "mask IoU", _table, partial(coco_tables, kind="segm", fields=_fields))


def _masks(part: Detections | Target) -> Masks:
    if part.mask is None:
        raise InputError("there are no masks", expected="one for each object", remedy="evaluate a segmentation model")
    return part.mask


def _table(found: Detections, target: Target) -> npt.NDArray[np.floating[Any]]:
    return _masks(found).iou(_masks(target))


def _fields(part: Detections | Target) -> list[dict[str, Any]]:
    masks = _masks(part)
    pairs = zip(masks.to_rle(), masks.area().tolist(), strict=True)
    return [{"segmentation": rle, "area": float(area)} for rle, area in pairs]
