"""Upright boxes in training: containment and their differentiable overlap."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

__all__ = ["complete_iou", "inside_boxes"]

_EPS = 1e-7
_MARGIN = 1e-9


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the complete IoU of paired boxes (Zheng et al., arXiv 1911.08287).

    Args:
        a: (n, 4), xyxy.
        b: (n, 4), xyxy, same unit.

    Returns:
        (n,), at most 1: IoU less a centre distance and an aspect ratio penalty.
    """
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = size_a.prod(1) + size_b.prod(1) - overlap
    iou = overlap / (union + _EPS)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    diagonal = hull.square().sum(1) + _EPS
    distance = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]).square().sum(1) / 4
    angle_a = torch.atan(size_a[:, 0] / (size_a[:, 1] + _EPS))
    angle_b = torch.atan(size_b[:, 0] / (size_b[:, 1] + _EPS))
    aspect = (4 / pi**2) * (angle_b - angle_a).square()
    with torch.no_grad():
        weight = aspect / (aspect - iou + (1 + _EPS))
    return iou - (distance / diagonal + weight * aspect)


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Return which points lie in which boxes.

    Args:
        points: (A, 2), x, y.
        boxes: (G, 4), xyxy, same unit.

    Returns:
        (G, A), bool; the edge is outside.
    """
    x, y = points.unbind(1)
    left, top, right, bottom = boxes.unsqueeze(2).unbind(1)
    inside: Tensor = torch.stack((x - left, y - top, right - x, bottom - y)).amin(0) > _MARGIN
    return inside
