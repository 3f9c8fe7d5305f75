"""Arithmetic on boxes: left, top, right, bottom in pixels, float32, shape (n, 4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["box_area", "box_iou", "clip_boxes", "xywh_from_xyxy", "xyxy_from_xywh"]

Boxes = npt.NDArray[np.float32]


def box_area(xyxy: Boxes) -> npt.NDArray[np.float32]:
    """Return areas, shape (n,), square pixels; 0 for a box with no or negative extent."""
    width = np.maximum(xyxy[:, 2] - xyxy[:, 0], np.float32(0))
    height = np.maximum(xyxy[:, 3] - xyxy[:, 1], np.float32(0))
    area: npt.NDArray[np.float32] = width * height
    return area


def box_iou(a: Boxes, b: Boxes) -> npt.NDArray[np.float32]:
    """Return intersection over union of every box of ``a`` with every box of ``b``.

    Args:
        a: float32, shape (n, 4).
        b: float32, shape (m, 4).

    Returns:
        float32, shape (n, m), in [0, 1]; 0 where the union is empty or a coordinate is not finite.
    """
    iou = raw_iou(np.asarray(a, np.float32), np.asarray(b, np.float32))
    iou[np.isnan(iou)] = 0
    return iou


def raw_iou(a: Boxes, b: Boxes) -> npt.NDArray[np.float32]:
    """Return what :func:`box_iou` does, but NaN where the union is empty or a coordinate is not finite."""
    zero = np.float32(0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        width = np.minimum(a[:, None, 2], b[None, :, 2])
        width -= np.maximum(a[:, None, 0], b[None, :, 0])
        np.maximum(width, zero, out=width)
        height = np.minimum(a[:, None, 3], b[None, :, 3])
        height -= np.maximum(a[:, None, 1], b[None, :, 1])
        np.maximum(height, zero, out=height)
        overlap = np.multiply(width, height, out=width)
        union = np.add(box_area(a)[:, None], box_area(b)[None, :], out=height)
        union -= overlap
        return np.divide(overlap, union, out=overlap)


def clip_boxes(xyxy: Boxes, hw: tuple[int, int]) -> Boxes:
    """Return boxes cut to a frame.

    Args:
        xyxy: float32, shape (n, 4), pixels.
        hw: Height and width of the frame, pixels.
    """
    height, width = hw
    return np.clip(xyxy, np.float32(0), np.array((width, height, width, height), np.float32))


def xywh_from_xyxy(xyxy: Boxes) -> Boxes:
    """Return centre x, centre y, width, height of left, top, right, bottom; shape (n, 4)."""
    corner, opposite = xyxy[:, :2], xyxy[:, 2:]
    return np.concatenate(((corner + opposite) / 2, opposite - corner), axis=1, dtype=np.float32)


def xyxy_from_xywh(xywh: Boxes) -> Boxes:
    """Return left, top, right, bottom of centre x, centre y, width, height; shape (n, 4)."""
    centre, half = xywh[:, :2], xywh[:, 2:] / 2
    return np.concatenate((centre - half, centre + half), axis=1, dtype=np.float32)
