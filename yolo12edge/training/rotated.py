"""Oriented boxes in training: containment and their differentiable overlap."""

from __future__ import annotations

from torch import Tensor

__all__ = ["inside_rotated", "probabilistic_iou"]

_EPS = 1e-7


def inside_rotated(points: Tensor, boxes: Tensor) -> Tensor:
    """Return which points lie in which oriented boxes.

    Args:
        points: (A, 2), x, y.
        boxes: (G, 5), centre, size, angle, same unit.

    Returns:
        (G, A), bool; the edge is inside.
    """
    offset = points.unsqueeze(0) - boxes[:, None, :2]
    cos, sin = boxes[:, 4:].cos(), boxes[:, 4:].sin()
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = offset[..., 1] * cos - offset[..., 0] * sin
    inside: Tensor = (along.abs() <= boxes[:, 2:3] / 2) & (across.abs() <= boxes[:, 3:4] / 2)
    return inside


def probabilistic_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return how alike paired oriented boxes are, each taken for a normal distribution.

    One less the Hellinger distance of the two (Llerena et al., arXiv 2106.06072). Whatever names the same rectangle
    gives the same value.

    Args:
        a: (n, 5), centre x, centre y, width, height, angle.
        b: (n, 5), same unit.

    Returns:
        (n,), in [0, 1].
    """
    dx, dy = (a[:, :2] - b[:, :2]).unbind(1)
    xx_a, yy_a, xy_a = _covariance(a)
    xx_b, yy_b, xy_b = _covariance(b)
    xx, yy, xy = xx_a + xx_b, yy_a + yy_b, xy_a + xy_b
    determinant = xx * yy - xy.square()
    centres = (xx * dy.square() + yy * dx.square() - 2 * xy * dx * dy) / (determinant + _EPS) / 4
    own = (xx_a * yy_a - xy_a.square()).clamp(min=0) * (xx_b * yy_b - xy_b.square()).clamp(min=0)
    shapes = (determinant / (4 * own.sqrt() + _EPS) + _EPS).log() / 2
    bhattacharyya = (centres + shapes).clamp(_EPS, 100)
    return 1 - (1 - (-bhattacharyya).exp() + _EPS).sqrt()


def _covariance(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the variances along x and y and the covariance of uniform rectangles, each (n,)."""
    along, across = (boxes[:, 2:4].square() / 12).unbind(1)
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    return (
        along * cos.square() + across * sin.square(),
        along * sin.square() + across * cos.square(),
        (along - across) * cos * sin,
    )
