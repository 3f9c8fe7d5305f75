"""``Detections`` to and from other libraries' types: free functions, none of which imports more than it returns."""

from __future__ import annotations

from .coco_results import to_coco_results, write_coco_results
from .ros_image import from_image
from .ros_vision import to_classification, to_detection2d_array, to_label_image, to_label_info
from .supervision_detections import (
    from_supervision,
    to_supervision,
    to_supervision_classes,
    to_supervision_keypoints,
)

__all__ = [
    "from_image",
    "from_supervision",
    "to_classification",
    "to_coco_results",
    "to_detection2d_array",
    "to_label_image",
    "to_label_info",
    "to_supervision",
    "to_supervision_classes",
    "to_supervision_keypoints",
    "write_coco_results",
]
