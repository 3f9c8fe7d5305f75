"""Images as arrays: reading, letterbox, boxes, NMS, oriented boxes, drawing (numpy and OpenCV only)."""

from __future__ import annotations

from .boxes import box_area, box_iou, clip_boxes, xywh_from_xyxy, xyxy_from_xywh
from .draw import class_color, draw_detections, label_grid
from .images import IMAGE_SUFFIXES, list_images, read_image, write_image
from .letterbox import PAD_VALUE, Letterbox, letterbox_image, plan_centre_crop, plan_letterbox
from .nms import nms
from .rotated import corners_of_rotated, hull_of_rotated, probabilistic_iou, rotated_iou, rotated_nms

__all__ = [
    "IMAGE_SUFFIXES",
    "PAD_VALUE",
    "Letterbox",
    "box_area",
    "box_iou",
    "class_color",
    "clip_boxes",
    "corners_of_rotated",
    "draw_detections",
    "hull_of_rotated",
    "label_grid",
    "letterbox_image",
    "list_images",
    "nms",
    "plan_centre_crop",
    "plan_letterbox",
    "probabilistic_iou",
    "read_image",
    "rotated_iou",
    "rotated_nms",
    "write_image",
    "xywh_from_xyxy",
    "xyxy_from_xywh",
]
