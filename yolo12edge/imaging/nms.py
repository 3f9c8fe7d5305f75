"""Greedy non-maximum suppression: vectorised, deterministic, without a time limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .boxes import raw_iou

__all__ = ["check_candidates", "nms"]

_CHUNK = 256  # candidates compared at a time; measured best on 8400 to 30000 candidates
_PAIRS = 1 << 16  # boxes kept times candidates that are compared with them at a time
_SMALL = 64  # up to here, few calls matter more than what they do: caches are cold after an inference


def nms(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.floating[Any]],
    *,
    iou_threshold: float,
    class_id: npt.NDArray[np.integer[Any]] | None = None,
    max_detections: int = 300,
) -> npt.NDArray[np.int64]:
    """Keep the best boxes, each suppressing those that overlap it too much.

    Candidates are taken best first in blocks. A block loses what the boxes kept so far suppress;
    the rest settles among itself, chunk by chunk. It ends as soon as ``max_detections`` boxes are kept. Classes are
    compared as integers, not by moving boxes apart, which would cost float32 precision.

    Args:
        boxes: float32, shape (n, 4), left, top, right, bottom, pixels. A box that is not finite
            overlaps nothing.
        scores: shape (n,); equal scores rank by index, lower first.
        iou_threshold: A box is suppressed where its IoU with a better one is greater than this.
        class_id: shape (n,); only boxes of one class suppress each other. None: all do.
        max_detections: How many to keep at most.

    Returns:
        int64, shape (k,), indices of the kept boxes, best first.

    Raises:
        InputError: If the arrays do not fit each other.
    """
    check_candidates(boxes, scores, class_id, columns=4)
    count = len(boxes)
    order = np.argsort(-scores, kind="stable")
    if count <= _SMALL:
        return _settle_small(boxes, class_id, order, iou_threshold)[:max_detections]
    kept = np.empty(0, np.int64)
    start = 0
    while start < count and len(kept) < max_detections:
        block = order[start : start + max(_CHUNK, _PAIRS // max(1, len(kept)))]
        start += len(block)
        settled = len(kept)
        if settled:
            block = block[~_suppresses(boxes, class_id, kept, block, iou_threshold).any(axis=0)]
        for begin in range(0, len(block), _CHUNK):
            chunk = block[begin : begin + _CHUNK]
            if len(kept) > settled:  # what this block has added
                chunk = chunk[~_suppresses(boxes, class_id, kept[settled:], chunk, iou_threshold).any(axis=0)]
            within = _suppresses(boxes, class_id, chunk, chunk, iou_threshold)
            alive = np.ones(len(chunk), np.bool_)
            for i in np.flatnonzero(np.triu(within, 1).any(axis=1)):
                if alive[i]:
                    alive[i + 1 :] &= ~within[i, i + 1 :]
            kept = np.concatenate((kept, chunk[alive]))
            if len(kept) >= max_detections:
                break
    return kept[:max_detections]


def check_candidates(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.floating[Any]],
    class_id: npt.NDArray[np.integer[Any]] | None,
    *,
    columns: int,
) -> None:
    """Refuse candidates whose arrays do not fit each other, or whose boxes do not have so many columns.

    Raises:
        InputError: If so.
    """
    count = len(boxes)
    fits = boxes.shape == (count, columns) and scores.shape == (count,)
    if not fits or (class_id is not None and class_id.shape != (count,)):
        shapes = (boxes.shape, scores.shape, None if class_id is None else class_id.shape)
        raise InputError(
            f"boxes, scores and class_id have shapes {shapes}", expected=f"(n, {columns}), (n,) and (n,) or None"
        )


def _settle_small(
    boxes: npt.NDArray[np.float32],
    class_id: npt.NDArray[np.integer[Any]] | None,
    order: npt.NDArray[np.int64],
    iou_threshold: float,
) -> npt.NDArray[np.int64]:
    """Return which of a few candidates are kept, best first; the arithmetic is that of ``raw_iou``, to the last bit."""
    left, top, right, bottom = boxes[order].T.copy()
    zero = np.float32(0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        width = np.minimum(right[:, None], right)
        width -= np.maximum(left[:, None], left)
        np.maximum(width, zero, out=width)
        height = np.minimum(bottom[:, None], bottom)
        height -= np.maximum(top[:, None], top)
        np.maximum(height, zero, out=height)
        width *= height
        area = np.maximum(right - left, zero) * np.maximum(bottom - top, zero)
        np.add(area[:, None], area, out=height)
        height -= width
        width /= height
        over = width > np.float32(iou_threshold)
    if class_id is not None:
        classes = class_id[order]
        over &= classes[:, None] == classes
    alive = np.ones(len(order), np.bool_)
    better, worse = np.nonzero(np.triu(over, 1))  # ascending: whether the better one lives is known when it is its turn
    for i, j in zip(better.tolist(), worse.tolist(), strict=True):
        if alive[i]:
            alive[j] = False
    return order[alive]


def _suppresses(
    boxes: npt.NDArray[np.float32],
    class_id: npt.NDArray[np.integer[Any]] | None,
    better: npt.NDArray[np.int64],
    worse: npt.NDArray[np.int64],
    iou_threshold: float,
) -> npt.NDArray[np.bool_]:
    """Return shape (len(better), len(worse)): would the first suppress the second."""
    over = raw_iou(boxes[better], boxes[worse]) > np.float32(iou_threshold)  # False for NaN
    if class_id is not None:
        over &= class_id[better][:, None] == class_id[worse][None, :]
    return over
