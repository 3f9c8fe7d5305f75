"""Detection: boxes are compared by the area that they share."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..detections import Detections
from ..imaging.boxes import box_iou
from ..keypoints import KeypointSpec
from .coco import coco_tables
from .overlap import Overlap
from .target import Target

__all__ = ["overlap"]


def overlap(keypoints: KeypointSpec | None = None) -> Overlap:
    """Return IoU of boxes."""
    tables = partial(coco_tables, kind="bbox", fields=_nothing)
    return Overlap("detect", "box", "IoU", lambda found, target: box_iou(found.xyxy, target.boxes), tables)


def _nothing(part: Detections | Target) -> list[dict[str, Any]]:
    """COCO compares the boxes that every annotation has."""
    return [{} for _ in range(len(part))]
