"""Arithmetic on oriented boxes: centre x, centre y, width, height (pixels), angle (radians); shape (n, 5).

The angle turns the box's width from the x axis towards the y axis, which is clockwise in an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .nms import check_candidates

__all__ = [
    "corners_of_rotated",
    "hull_of_rotated",
    "probabilistic_iou",
    "rotated_area",
    "rotated_iou",
    "rotated_nms",
    "rotated_of_corners",
    "stretch_rotated",
    "wrap_angle",
]

Floats = npt.NDArray[np.floating[Any]]

_PAIRS = 1 << 18  # pairs of boxes compared at a time
_CHUNK = 256  # candidates that settle among themselves at a time
_GROW = 2.345e-9  # see _overlap
_SLACK = 1e-5  # what float32 may be wrong by in a bound
_TINY = 1e-12


def wrap_angle(angle: Floats) -> Floats:
    """Return the same angle of a rectangle in [-pi/4, 3 pi/4): half a turn changes nothing."""
    turned = np.mod(angle + np.pi / 4, np.pi)
    return np.asarray(np.where(turned >= np.pi, 0.0, turned) - np.pi / 4, angle.dtype)


def rotated_area(boxes: Floats) -> Floats:
    """Return areas, shape (n,), square pixels; 0 for a box with no or negative extent."""
    area: Floats = np.maximum(boxes[:, 2], 0) * np.maximum(boxes[:, 3], 0)
    return area


def corners_of_rotated(boxes: Floats) -> Floats:
    """Return corners, shape (n, 4, 2): top left, top right, bottom right, bottom left before the turn."""
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    along = np.stack((cos, sin), axis=1) * (boxes[:, 2:3] / 2)
    across = np.stack((-sin, cos), axis=1) * (boxes[:, 3:4] / 2)
    centre = boxes[:, :2]
    corners: Floats = np.stack(
        (centre - along - across, centre + along - across, centre + along + across, centre - along + across), axis=1
    )
    return corners


def rotated_of_corners(corners: Floats) -> npt.NDArray[np.float32]:
    """Return the smallest oriented box around each four corners.

    Args:
        corners: shape (n, 4, 2), in order around a convex shape.

    Returns:
        float32, shape (n, 5). The width is the longer side; the angle is in [-pi/4, 3 pi/4).
    """
    points = np.asarray(corners, np.float64).reshape(-1, 4, 2)
    ways = np.roll(points, -1, axis=1) - points
    # The smallest rectangle around a convex shape shares a direction with one of its sides.
    angles = np.arctan2(ways[..., 1], ways[..., 0])
    cos, sin = np.cos(angles)[..., None], np.sin(angles)[..., None]
    x, y = points[:, None, :, 0], points[:, None, :, 1]
    along, across = cos * x + sin * y, cos * y - sin * x  # (n, side, corner)
    wide, high = np.ptp(along, axis=2), np.ptp(across, axis=2)
    best = np.argmin(wide * high, axis=1)
    row = np.arange(len(points))
    along, across = along[row, best], across[row, best]
    middle_along = (along.min(axis=1) + along.max(axis=1)) / 2
    middle_across = (across.min(axis=1) + across.max(axis=1)) / 2
    wide, high, angle = wide[row, best], high[row, best], angles[row, best]
    cos, sin = np.cos(angle), np.sin(angle)
    centre_x, centre_y = cos * middle_along - sin * middle_across, sin * middle_along + cos * middle_across
    turned = high > wide
    wide, high = np.where(turned, high, wide), np.where(turned, wide, high)
    angle = np.asarray(wrap_angle(np.where(turned, angle + np.pi / 2, angle).astype(np.float32)), np.float64)
    return np.stack([centre_x, centre_y, wide, high, angle], axis=1).astype(np.float32)


def hull_of_rotated(boxes: Floats) -> Floats:
    """Return the upright boxes around oriented ones: left, top, right, bottom, shape (n, 4)."""
    cos, sin = np.abs(np.cos(boxes[:, 4])), np.abs(np.sin(boxes[:, 4]))
    half_x = (boxes[:, 2] * cos + boxes[:, 3] * sin) / 2
    half_y = (boxes[:, 2] * sin + boxes[:, 3] * cos) / 2
    x, y = boxes[:, 0], boxes[:, 1]
    hull: Floats = np.stack((x - half_x, y - half_y, x + half_x, y + half_y), axis=1)
    return hull


def stretch_rotated(boxes: Floats, gain_x: float, gain_y: float) -> Floats:
    """Return boxes in an image whose sides were multiplied.

    Where both factors differ, which a letterbox makes by a fraction of a pixel, a turned box would become a
    parallelogram: both sides keep their lengths, and the angle is that of the width.
    """
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    width, height = np.hypot(cos * gain_x, sin * gain_y), np.hypot(sin * gain_x, cos * gain_y)
    return np.stack(
        (
            boxes[:, 0] * gain_x,
            boxes[:, 1] * gain_y,
            boxes[:, 2] * width,
            boxes[:, 3] * height,
            wrap_angle(np.arctan2(sin * gain_y, cos * gain_x)),
        ),
        axis=1,
    ).astype(boxes.dtype, copy=False)


def rotated_iou(a: Floats, b: Floats) -> npt.NDArray[np.float32]:
    """Return the exact intersection over union of every oriented box of ``a`` with every one of ``b``.

    Args:
        a: shape (n, 5).
        b: shape (m, 5).

    Returns:
        float32, shape (n, m), in [0, 1]; 0 where the union is empty or a number is not finite.
    """
    iou = np.zeros((len(a), len(b)), np.float32)
    step = max(1, _PAIRS // max(1, len(b)))
    for begin in range(0, len(a), step):
        part = a[begin : begin + step]
        rows, columns = np.nonzero(_may_overlap(part, b, None))
        iou[begin + rows, columns] = _pair_iou(part[rows], b[columns])
    return iou


def probabilistic_iou(a: Floats, b: Floats) -> npt.NDArray[np.float32]:
    """Return how alike paired oriented boxes are as Gaussians, one less their Hellinger distance.

    It is smooth, and what training assigns and learns boxes by; ``rotated_iou`` is what they are scored by. From
    "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection" (Llerena et al. 2021).

    Args:
        a: shape (n, 5).
        b: shape (n, 5).

    Returns:
        float32, shape (n,), in [0, 1].
    """
    ax, ay, axy = _covariance(a)
    bx, by, bxy = _covariance(b)
    eps = 1e-7
    dx, dy = (a[:, :2] - b[:, :2]).astype(np.float64).T
    sx, sy, sxy = ax + bx, ay + by, axy + bxy
    determinant = sx * sy - sxy**2
    apart = (sx * dy**2 + sy * dx**2) / (determinant + eps) / 4 - sxy * dx * dy / (determinant + eps) / 2
    own = np.sqrt(np.maximum(ax * ay - axy**2, 0) * np.maximum(bx * by - bxy**2, 0))
    shape = np.log(determinant / (4 * own + eps) + eps) / 2
    distance = np.clip(apart + shape, eps, 100.0)
    return np.asarray(1 - np.sqrt(1 - np.exp(-distance) + eps), np.float32)


def _covariance(boxes: Floats) -> tuple[Floats, Floats, Floats]:
    wide, high = boxes[:, 2].astype(np.float64) ** 2 / 12, boxes[:, 3].astype(np.float64) ** 2 / 12
    cos, sin = np.cos(boxes[:, 4].astype(np.float64)), np.sin(boxes[:, 4].astype(np.float64))
    return wide * cos**2 + high * sin**2, wide * sin**2 + high * cos**2, (wide - high) * cos * sin


def rotated_nms(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.floating[Any]],
    *,
    iou_threshold: float,
    class_id: npt.NDArray[np.integer[Any]] | None = None,
    max_detections: int = 300,
) -> npt.NDArray[np.int64]:
    """Keep the best oriented boxes, each suppressing those that overlap it too much by exact IoU.

    Candidates go best first, chunk by chunk: a chunk loses what the boxes kept so far suppress, and the rest settles
    among itself. Only pairs whose upright hulls and areas allow so great an IoU are looked at closely.

    Args:
        boxes: float32, shape (n, 5). A box that is not finite overlaps nothing.
        scores: shape (n,); equal scores rank by index, lower first.
        iou_threshold: A box is suppressed where its IoU with a better one is greater than this.
        class_id: shape (n,); only boxes of one class suppress each other. None: all do.
        max_detections: How many to keep at most.

    Returns:
        int64, shape (k,), indices of the kept boxes, best first.

    Raises:
        InputError: If the arrays do not fit each other.
    """
    check_candidates(boxes, scores, class_id, columns=5)
    order = np.argsort(-scores, kind="stable")
    kept = np.empty(0, np.int64)
    for begin in range(0, len(order), _CHUNK):
        chunk = order[begin : begin + _CHUNK]
        if len(kept):
            _, gone = _suppressed(boxes, class_id, kept, chunk, iou_threshold)
            chunk = np.delete(chunk, gone)
        better, worse = _suppressed(boxes, class_id, chunk, chunk, iou_threshold)
        alive = np.ones(len(chunk), np.bool_)
        for i, j in zip(better.tolist(), worse.tolist(), strict=True):  # ascending: i is decided when it is its turn
            if alive[i]:
                alive[j] = False
        kept = np.concatenate((kept, chunk[alive]))
        if len(kept) >= max_detections:
            break
    return kept[:max_detections]


def _suppressed(
    boxes: npt.NDArray[np.float32],
    class_id: npt.NDArray[np.integer[Any]] | None,
    better: npt.NDArray[np.int64],
    worse: npt.NDArray[np.int64],
    iou_threshold: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return pairs (place in ``better``, place in ``worse``) where the first would suppress the second.

    Where both are the same candidates, each pair comes once, the better one first.
    """
    near = _may_overlap(boxes[better], boxes[worse], iou_threshold)
    if class_id is not None:
        near &= class_id[better][:, None] == class_id[worse][None, :]
    rows, columns = np.nonzero(np.triu(near, 1) if better is worse else near)
    over = _pair_iou(boxes[better[rows]], boxes[worse[columns]]) > np.float32(iou_threshold)
    return rows[over], columns[over]


def _may_overlap(a: Floats, b: Floats, threshold: float | None) -> npt.NDArray[np.bool_]:
    """Return shape (n, m): may the IoU be greater than ``threshold`` (None: greater than 0). It never misses a pair.

    The intersection is no greater than that of the hulls, nor than the smaller box.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite compares as False
        hull_a, hull_b = hull_of_rotated(a), hull_of_rotated(b)
        width = np.minimum(hull_a[:, None, 2], hull_b[None, :, 2])
        width -= np.maximum(hull_a[:, None, 0], hull_b[None, :, 0])
        height = np.minimum(hull_a[:, None, 3], hull_b[None, :, 3])
        height -= np.maximum(hull_a[:, None, 1], hull_b[None, :, 1])
        near = (width > 0) & (height > 0)
        if threshold is None:
            return near
        width *= height
        area_a, area_b = rotated_area(a), rotated_area(b)
        np.minimum(width, np.minimum(area_a[:, None], area_b[None, :]), out=width)
        total = np.add(area_a[:, None], area_b[None, :], out=height)
        # i / (total - i) > t is i * (1 + t) > t * total
        width *= (1 + threshold) * (1 + _SLACK)
        total *= threshold
        return np.asarray(near & (width >= total))


def _pair_iou(a: Floats, b: Floats) -> npt.NDArray[np.float32]:
    """Return the IoU of each box of ``a`` with the box of ``b`` in the same place; both (n, 5)."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    area_a, area_b = rotated_area(first), rotated_area(second)
    with np.errstate(all="ignore"):
        overlap = np.minimum(_overlap(first, second), np.minimum(area_a, area_b))
        iou = overlap / (area_a + area_b - overlap)
    return np.asarray(np.where(np.isfinite(iou), np.clip(iou, 0, 1), 0), np.float32)


def _overlap(a: Floats, b: Floats) -> Floats:
    """Return the area that two oriented boxes share, for each pair; both float64, shape (n, 5).

    The border of what they share is what of each border lies in the other box, and Green's theorem gives the area from
    these pieces in any order. A piece of both borders would count twice or not at all: ``b`` is grown by less than
    float32 can tell, so that there is none.
    """
    # Everything in units of the boxes, and about the centre of ``b``, so that nothing is lost far from the origin.
    size = np.maximum(np.abs(a[:, 2:4]).max(axis=1), np.abs(b[:, 2:4]).max(axis=1)) + _TINY
    x, y = (a[:, 0] - b[:, 0]) / size, (a[:, 1] - b[:, 1]) / size
    half_a = np.maximum(a[:, 2:4], 0) / (2 * size[:, None])
    half_b = np.maximum(b[:, 2:4], 0) / (2 * size[:, None]) + _GROW
    turn = a[:, 4] - b[:, 4]
    cos_b, sin_b = np.cos(b[:, 4]), np.sin(b[:, 4])
    cos, sin = np.cos(turn), np.sin(turn)
    # The centre of ``a`` in the frame of ``b``, and the other way round.
    ax, ay = cos_b * x + sin_b * y, cos_b * y - sin_b * x
    bx, by = -(cos * ax + sin * ay), -(cos * ay - sin * ax)
    shared: Floats = _inside(half_a, ax, ay, cos, sin, half_b)
    # Pieces of the border of ``b`` are found in the frame of ``a``; the integral is about ``b``'s centre here too.
    shared += _inside(half_b, bx, by, cos, -sin, half_a, origin=(bx, by))
    shared *= size**2
    return shared


def _inside(
    half: Floats,
    x: Floats,
    y: Floats,
    cos: Floats,
    sin: Floats,
    clip: Floats,
    origin: tuple[Floats, Floats] | None = None,
) -> Floats:
    """Return the part of the area integral along what of a turned box's border lies in an upright one about zero.

    Args:
        half: shape (n, 2), half of the turned box's sides.
        x: shape (n,), its centre.
        y: shape (n,).
        cos: shape (n,), of its angle.
        sin: shape (n,).
        clip: shape (n, 2), half of the upright box's sides.
        origin: About which point to integrate; None for zero.
    """
    wide, high = half[:, 0], half[:, 1]
    # Corners in order, shape (4, n), and the way to the next one.
    left, up = np.stack((-wide, wide, wide, -wide)), np.stack((-high, -high, high, high))
    from_x, from_y = x + cos * left - sin * up, y + sin * left + cos * up
    way_x, way_y = np.roll(from_x, -1, axis=0) - from_x, np.roll(from_y, -1, axis=0) - from_y
    begin, end = np.zeros_like(from_x), np.ones_like(from_x)
    for start, way, limit in ((from_x, way_x, clip[:, 0]), (from_y, way_y, clip[:, 1])):
        still = np.abs(way) < _TINY
        safe = np.where(still, 1.0, way)
        one, other = (-limit - start) / safe, (limit - start) / safe
        outside = still & (np.abs(start) > limit)
        np.maximum(begin, np.where(still, 0.0, np.minimum(one, other)), out=begin)
        np.minimum(end, np.where(still, 1.0, np.maximum(one, other)), out=end)
        end[outside] = -1.0
    share = np.maximum(end - begin, 0)
    if origin is not None:
        from_x, from_y = from_x - origin[0], from_y - origin[1]
    return np.asarray((share * (from_x * way_y - from_y * way_x)).sum(axis=0) / 2, np.float64)
