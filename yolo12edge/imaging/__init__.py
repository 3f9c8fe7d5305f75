"""Images as arrays: reading, letterbox, boxes, NMS, drawing (numpy and OpenCV only)."""

from __future__ import annotations

from .boxes import box_area, box_iou, clip_boxes, xywh_from_xyxy, xyxy_from_xywh
from .draw import class_color, draw_detections, label_grid
from .images import IMAGE_SUFFIXES, list_images, read_image, write_image
from .letterbox import PAD_VALUE, Letterbox, letterbox_image, plan_letterbox
from .nms import nms

__all__ = [
    "IMAGE_SUFFIXES",
    "PAD_VALUE",
    "Letterbox",
    "box_area",
    "box_iou",
    "class_color",
    "clip_boxes",
    "draw_detections",
    "label_grid",
    "letterbox_image",
    "list_images",
    "nms",
    "plan_letterbox",
    "read_image",
    "write_image",
    "xywh_from_xyxy",
    "xyxy_from_xywh",
]
