"""``fuse``: what several models found in one frame, made one: weighted box fusion, or the vote of the majority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..imaging.boxes import box_iou
from ..imaging.rotated import hull_of_rotated, rotated_iou
from ..masks import Masks

__all__ = ["Method", "check_weights", "fuse", "fuse_probabilities"]

Method = Literal["weighted", "vote"]
"""``weighted``: the confidence of an object is averaged over all models, with 0 of those that did not find it.
``vote``: what more than half of the models found stays, with the average confidence of those."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def fuse(
    parts: Sequence[Detections],
    *,
    weights: Sequence[float] | None = None,
    method: Method = "weighted",
    iou: float = 0.55,
    class_agnostic: bool = False,
) -> Detections:
    """Make one of what several models found in one frame (weighted box fusion, arXiv:1910.13302).

    Objects of one class that overlap by more than ``iou`` are one, at most one of each model, as a model has suppressed
    its own duplicates. Box, keypoints and oriented box are averaged, each weighted by the model's weight times the
    confidence; a pixel belongs to the mask if more than half of that weight says so. Unlike the paper, overlap is
    measured with the most confident box rather than the average so far, so that the order of models does not matter.

    Args:
        parts: What each model found, in pixels of the frame.
        weights: How much each model counts; None means alike.
        method: How confidences are joined.
        iou: Overlap from which two objects are one.
        class_agnostic: Whether objects of different classes may be one; it has the class of the most confident.

    Returns:
        The objects, best first. Of one model, what it found.

    Raises:
        InputError: If weights do not fit, or the parts are of different tasks or of frames of different sizes.
    """
    count = check_weights(parts, weights)
    if method not in get_args(Method):
        raise InputError(f"the method is {method!r}", expected=f"one of {', '.join(get_args(Method))}")
    found = Detections.merge(parts)
    member = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    votes = count[member]
    rank = np.argsort(-votes * found.confidence, kind="stable")
    labels = np.zeros(len(found), np.int64) if class_agnostic else found.class_id
    groups = _groups(_overlap(found), member, labels, rank, iou)
    if method == "vote":
        groups = [group for group in groups if 2 * votes[group].sum() > count.sum()]
    if not groups:
        return found[:0]
    confidence = np.array(
        [
            float(votes[group] @ found.confidence[group])
            / (count.sum() if method == "weighted" else votes[group].sum())
            for group in groups
        ]
    )
    leaders = np.array([group[0] for group in groups])
    fused = found[leaders]
    values: dict[str, Any] = {name: np.array(getattr(fused, name)) for name in _AVERAGED if _has(found, name)}
    masks = [] if found.mask is None else list(fused.mask or ())
    for index, group in enumerate(groups):
        if len(group) == 1:
            continue  # as it is, to the last bit
        share = votes[group] * found.confidence[group] + 1e-12
        share /= share.sum()
        members = found[group]
        for name in values:
            values[name][index] = _AVERAGED[name](members, share)
        if found.mask is not None:
            masks[index] = _mask(members, share)
    if masks:
        values["mask"] = Masks.concatenate(masks)
    order = np.argsort(-confidence, kind="stable")
    return replace(fused, confidence=confidence.astype(np.float32), **values)[order]


def fuse_probabilities(
    parts: Sequence[Detections],
    *,
    weights: Sequence[float] | None = None,
    method: Method = "weighted",
    multi_label: bool = False,
) -> npt.NDArray[np.float32]:
    """Make one of what several models say of a whole frame (classify): their average, or the share of their votes.

    Args:
        parts: What each model said, asked for with a confidence of 0.
        weights: How much each model counts; None means alike.
        method: ``vote`` gives each class the share of the models that choose it; with ``multi_label`` that think it
            more probable than not.
        multi_label: Whether classes do not exclude each other.

    Returns:
        float32, shape (classes,).

    Raises:
        InputError: If weights do not fit, or the parts are no probabilities of the same classes.
    """
    count = check_weights(parts, weights)
    rows = [None if part.probs is None or not len(part.probs) else part.probs[0] for part in parts]
    if any(row is None for row in rows) or len({len(row) for row in rows if row is not None}) > 1:
        raise InputError("there are no probabilities to join", expected="those of the same classes from each model")
    table = np.stack([np.asarray(row, np.float64) for row in rows])
    if method == "vote":
        chosen = table > 0.5 if multi_label else np.arange(table.shape[1]) == table.argmax(axis=1)[:, None]
        table = chosen.astype(np.float64)
    return np.asarray(count @ table / count.sum(), np.float32)


def check_weights(parts: Sequence[object], weights: Sequence[float] | None) -> Floats:
    """Return the weights of so many models.

    Raises:
        InputError: If there is no model, or the weights are not as many numbers above 0.
    """
    if not parts:
        raise InputError("there is nothing to join", expected="at least one model")
    count = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
    if count.shape != (len(parts),) or not (np.isfinite(count) & (count > 0)).all():
        raise InputError(f"the weights are {list(weights or ())}", expected=f"{len(parts)} numbers above 0")
    return count


def _has(found: Detections, name: str) -> bool:
    return getattr(found, name) is not None


def _overlap(found: Detections) -> npt.NDArray[np.float32]:
    return box_iou(found.xyxy, found.xyxy) if found.obb is None else rotated_iou(found.obb, found.obb)


def _groups(
    overlap: npt.NDArray[np.float32], member: Indices, labels: Indices, rank: Indices, threshold: float
) -> list[Indices]:
    """Return which objects are one, the most confident of each first."""
    leaders: list[int] = []
    groups: list[list[int]] = []
    taken = np.zeros((len(member), int(member.max(initial=0)) + 1), np.bool_)  # by group, by model
    for index in rank.tolist():
        best = -1
        if leaders:
            close = overlap[index, leaders].copy()
            close[(labels[leaders] != labels[index]) | taken[: len(leaders), member[index]]] = 0
            best = int(close.argmax()) if close.max() > threshold else -1
        if best < 0:
            best = len(groups)
            leaders.append(index)
            groups.append([])
        groups[best].append(index)
        taken[best, member[index]] = True
    return [np.array(group, np.int64) for group in groups]


def _box(members: Detections, share: Floats) -> Floats:
    if members.obb is None:
        return np.asarray(share @ members.xyxy, np.float64)
    low, high = members.xyxy[:, :2].min(axis=0), members.xyxy[:, 2:].max(axis=0)  # these keep to the frame
    hull = hull_of_rotated(_rotated(members, share)[None].astype(np.float32))[0]
    return np.clip(np.asarray(hull, np.float64), np.tile(low, 2), np.tile(high, 2))


def _rotated(members: Detections, share: Floats) -> Floats:
    """Average oriented boxes: width and height change places where that brings the angle nearer to the first's."""
    assert members.obb is not None
    boxes = members.obb.astype(np.float64)
    turn = boxes[:, 4] - boxes[0, 4]
    quarters = np.round(turn / (np.pi / 2))
    swap = quarters % 2 == 1
    boxes[swap, 2], boxes[swap, 3] = boxes[swap, 3], boxes[swap, 2]
    boxes[:, 4] = boxes[0, 4] + turn - quarters * np.pi / 2
    return np.asarray(share @ boxes, np.float64)


def _points(members: Detections, share: Floats) -> Floats:
    assert members.keypoints is not None
    points = members.keypoints.astype(np.float64)
    weight = share[:, None] * (points[..., 2] + 1e-6)  # where a point is not seen, it is guessed
    where = (weight[..., None] * points[..., :2]).sum(axis=0) / weight.sum(axis=0)[:, None]
    return np.concatenate((where, np.tensordot(share, points[..., 2:], axes=1)), axis=1)


def _mask(members: Detections, share: Floats) -> Masks:
    assert members.mask is not None
    masks = members.mask
    ends = masks.offsets + np.array([crop.shape[::-1] for crop in masks.crops], np.int32)
    (left, top), (right, bottom) = masks.offsets.min(axis=0), ends.max(axis=0)
    weight = np.zeros((bottom - top, right - left))
    for part, crop, (x, y) in zip(share, masks.crops, masks.offsets - (left, top), strict=True):
        weight[y : y + crop.shape[0], x : x + crop.shape[1]] += part * crop
    return Masks((weight > 0.5,), np.array([[left, top]], np.int32), masks.image_hw)


_AVERAGED = {"xyxy": _box, "keypoints": _points, "obb": _rotated}
