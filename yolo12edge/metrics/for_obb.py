"""Oriented boxes: compared by the area that the rotated rectangles share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..imaging.rotated import rotated_iou
from ..keypoints import KeypointSpec
from .overlap import CocoTables, Overlap
from .tables import tables_of
from .target import Target

__all__ = ["overlap"]


def overlap(keypoints: KeypointSpec | None = None) -> Overlap:
    """Return IoU of rotated rectangles."""
    return Overlap("obb", "rotated", "rotated IoU", _table, _tables)


def _boxes(part: Detections | Target) -> npt.NDArray[np.float32]:
    if part.obb is None:
        raise InputError("there are no oriented boxes", expected="one for each object", remedy="evaluate an obb model")
    return part.obb


def _table(found: Detections, target: Target) -> npt.NDArray[np.floating[Any]]:
    return rotated_iou(_boxes(found), _boxes(target))


def _tables(predictions: Any, targets: Any, num_classes: int) -> CocoTables:
    return tables_of(overlap(), _area, predictions, targets, num_classes)


def _area(part: Detections | Target) -> npt.NDArray[np.float64]:
    return np.asarray(_boxes(part)[:, 2:4].astype(np.float64).prod(1))
