"""Oriented boxes in training: containment and their differentiable overlap."""

from __future__ import annotations

from torch import Tensor

__all__ = ["inside_rotated", "probabilistic_iou"]

_EPS = 1e-7
_LEAST_OWN = 1e-24  # its root has a slope that float32 can hold


def inside_rotated(points: Tensor, boxes: Tensor) -> Tensor:
    """Return which points lie in which oriented boxes.

    Args:
        points: (A, 2), x, y.
        boxes: (G, 5), centre, size, angle, same unit.

    Returns:
        (G, A), bool; the edge is inside.
    """
    x, y = points.unbind(1)
    centre_x, centre_y, width, height, angle = boxes.unsqueeze(2).unbind(1)
    dx, dy = x - centre_x, y - centre_y
    cos, sin = angle.cos(), angle.sin()
    inside: Tensor = (dx * cos + dy * sin).abs_() <= width / 2
    inside &= (dy * cos - dx * sin).abs_() <= height / 2
    return inside


def probabilistic_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return how alike paired oriented boxes are, each taken for a normal distribution.

    One less the Hellinger distance of the two (Llerena et al., arXiv 2106.06072). Whatever names the same rectangle
    gives the same value. Nothing here is the difference of two large numbers, which for thin boxes would leave a
    determinant of 0 or below, and no gradient.

    Args:
        a: (n, 5), centre x, centre y, width, height, angle.
        b: (n, 5), same unit.

    Returns:
        (n,), in [0, 1].
    """
    dx, dy = (a[:, :2] - b[:, :2]).unbind(1)
    # Variances of uniform rectangles along their own axes.
    along_a, across_a = (a[:, 2:4].square() / 12).unbind(1)
    along_b, across_b = (b[:, 2:4].square() / 12).unbind(1)
    turn = a[:, 4] - b[:, 4]
    own_a, own_b = along_a * across_a, along_b * across_b
    determinant = (
        own_a
        + own_b
        + (along_a * along_b + across_a * across_b) * turn.sin().square()
        + (along_a * across_b + across_a * along_b) * turn.cos().square()
    )
    spread = _spread(a[:, 4], along_a, across_a, dx, dy) + _spread(b[:, 4], along_b, across_b, dx, dy)
    centres = spread / (determinant + _EPS) / 4
    own = (own_a * own_b).clamp(min=_LEAST_OWN)
    shapes = (determinant / (4 * own.sqrt() + _EPS) + _EPS).log() / 2
    bhattacharyya = (centres + shapes).clamp(_EPS, 100)
    return 1 - (1 - (-bhattacharyya).exp() + _EPS).sqrt()


def _spread(angle: Tensor, along: Tensor, across: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Return the form of the adjugate of a box's covariance at an offset, (n,)."""
    cos, sin = angle.cos(), angle.sin()
    return along * (dy * cos - dx * sin).square() + across * (dx * cos + dy * sin).square()
