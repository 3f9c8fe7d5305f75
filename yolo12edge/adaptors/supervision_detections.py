"""The ``supervision`` library: its trackers, zones and annotators take what the Runtime finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..detections import Detections
from ..errors import InputError, Yolo12EdgeError
from ._classes import by_class

if TYPE_CHECKING:
    import supervision

__all__ = ["from_supervision", "to_supervision"]


def to_supervision(detections: Detections, class_names: Sequence[str]) -> supervision.Detections:
    """Return detections as ``supervision.Detections``, with ``data["class_name"]``.

    The arrays are shared, not copied. Timing and stamp have no place there.

    Args:
        detections: n objects.
        class_names: By class index, such as ``runtime.manifest.class_names``.

    Raises:
        InputError: If a class has no name.
        Yolo12EdgeError: If supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise Yolo12EdgeError("the package 'supervision' is not installed", remedy="pip install supervision") from error
    names = by_class(detections, class_names, what="class names")
    return supervision.Detections(
        xyxy=detections.xyxy,
        confidence=detections.confidence,
        class_id=detections.class_id,
        data={"class_name": np.array(names, dtype=np.str_)},
    )


def from_supervision(detections: supervision.Detections) -> Detections:
    """Return the boxes, confidences and classes of ``supervision.Detections``.

    Masks, track numbers and ``data`` have no place in ours and stay behind.

    Args:
        detections: n objects, all with a class and a confidence.

    Raises:
        InputError: If there are objects, and they have no class or no confidence.
    """
    if not len(detections):
        return Detections.empty()
    for name in ("confidence", "class_id"):
        if getattr(detections, name) is None:
            raise InputError(
                f"these supervision.Detections have no {name}",
                expected="a class and a confidence for each object",
                remedy=f"set {name} to an array of length {len(detections)} first",
            )
    return Detections(detections.xyxy, detections.confidence, detections.class_id)
