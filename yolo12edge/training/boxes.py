"""Upright boxes in training: containment and their differentiable overlap."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor

__all__ = ["OVERLAPS", "complete_iou", "distance_iou", "generalized_iou", "inside_boxes"]

_EPS = 1e-7
_MARGIN = 1e-9


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalized IoU of paired boxes (Rezatofighi et al., arXiv 1902.09630).

    Args:
        a: (n, 4), xyxy.
        b: (n, 4), xyxy, same unit.

    Returns:
        (n,), in (-1, 1]: IoU less the share of the hull that neither covers.
    """
    iou, union = _iou_and_union(a, b)
    hull = _hull(a, b).prod(1)
    return iou - (hull - union) / (hull + _EPS)


def distance_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the distance IoU of paired boxes (Zheng et al., arXiv 1911.08287).

    Args:
        a: (n, 4), xyxy.
        b: (n, 4), xyxy, same unit.

    Returns:
        (n,), in (-1, 1]: IoU less the squared distance of the centres over that of the hull's corners.
    """
    return _iou_and_union(a, b)[0] - _centre_distance(a, b)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the complete IoU of paired boxes (Zheng et al., arXiv 1911.08287).

    Args:
        a: (n, 4), xyxy.
        b: (n, 4), xyxy, same unit.

    Returns:
        (n,), at most 1: IoU less a centre distance and an aspect ratio penalty.
    """
    iou, _ = _iou_and_union(a, b)
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    angle_a = torch.atan(size_a[:, 0] / (size_a[:, 1] + _EPS))
    angle_b = torch.atan(size_b[:, 0] / (size_b[:, 1] + _EPS))
    aspect = (4 / pi**2) * (angle_b - angle_a).square()
    with torch.no_grad():
        weight = aspect / (aspect - iou + (1 + _EPS))
    return iou - (_centre_distance(a, b) + weight * aspect)


OVERLAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ciou": complete_iou,
    "diou": distance_iou,
    "giou": generalized_iou,
}
"""What the loss of upright boxes may be measured by."""


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


def _iou_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = size_a.prod(1) + size_b.prod(1) - overlap
    return overlap / (union + _EPS), union


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Return width and height of the smallest box around both."""
    return torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])


def _centre_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distance of the centres over the squared diagonal of the hull."""
    diagonal = _hull(a, b).square().sum(1) + _EPS
    return (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]).square().sum(1) / 4 / diagonal
