"""ROS 2: ``vision_msgs/Detection2DArray``, without importing ROS; the caller hands in ``vision_msgs.msg``."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from ..detections import Detections
from ..errors import InputError
from ..imaging.boxes import xywh_from_xyxy
from ._classes import by_class

__all__ = ["to_detection2d_array", "to_label_info"]


def to_detection2d_array(
    detections: Detections,
    header: Any,
    *,
    msgs: Any,
    class_names: Sequence[str] | None = None,
    track_ids: Sequence[int | str] | None = None,
) -> Any:
    """Return detections as a ``Detection2DArray``, with one hypothesis an object.

    Works with the messages of every ROS 2: ``bbox.center`` is a position and an angle since Humble and flat before,
    the hypothesis is a message of its own since Galactic.

    Args:
        detections: n objects, in pixels of the image.
        header: That of the image they were found in. It is copied, so that time and frame are the camera's.
        msgs: The module ``vision_msgs.msg``.
        class_names: By class index. If given, ``class_id`` is the name of the class, else its index, which listeners
            look up in ``LabelInfo``. It is text either way.
        track_ids: One for each object, for the field ``id``; without a tracker the field stays empty.

    Raises:
        InputError: If a class has no name, or the number of track ids is not that of the objects.
    """
    if track_ids is not None and len(track_ids) != len(detections):
        raise InputError(f"there are {len(track_ids)} track ids", expected=f"{len(detections)}, one for each object")
    if class_names is None:
        labels = [str(index) for index in detections.class_id.tolist()]
    else:
        labels = by_class(detections, class_names, what="class names")
    tracks = [""] * len(detections) if track_ids is None else [str(track) for track in track_ids]
    boxes, scores = xywh_from_xyxy(detections.xyxy).tolist(), detections.confidence.tolist()
    array = msgs.Detection2DArray()
    array.header = deepcopy(header)
    for box, score, label, track in zip(boxes, scores, labels, tracks, strict=True):
        message = _detection(box, score, label, msgs)
        message.header = array.header
        _set(message, track, "id", "tracking_id")
        array.detections.append(message)
    return array


def to_label_info(class_names: Sequence[str], header: Any, *, msgs: Any, threshold: float) -> Any:
    """Return the ``LabelInfo`` that says which class index has which name; publish it once, latched.

    Args:
        class_names: By class index, fewer than 65,535, whose place is that of "unlabelled".
        header: For the message; it is copied.
        msgs: The module ``vision_msgs.msg`` of Humble or later.
        threshold: Lowest confidence that is published, in [0, 1].

    Raises:
        InputError: If there are too many names, or the messages are of an older ROS, which has no ``LabelInfo``.
    """
    if len(class_names) >= 65535:
        raise InputError(f"there are {len(class_names)} class names", expected="fewer than 65,535")
    if not hasattr(msgs, "LabelInfo"):
        raise InputError(
            "this vision_msgs has no LabelInfo",
            expected="that of ROS 2 Humble or later",
            remedy="hand class_names to to_detection2d_array, so that messages carry the names",
        )
    info = msgs.LabelInfo()
    info.header = deepcopy(header)
    info.threshold = float(threshold)
    for index, name in enumerate(class_names):
        entry = msgs.VisionClass()
        entry.class_id, entry.class_name = index, name
        info.class_map.append(entry)
    return info


def _detection(box: list[float], score: float, label: str, msgs: Any) -> Any:
    """Return one ``Detection2D``; the box is centre x, centre y, width, height."""
    message = msgs.Detection2D()
    message.bbox.size_x, message.bbox.size_y = box[2], box[3]
    center = getattr(message.bbox.center, "position", message.bbox.center)
    center.x, center.y = box[0], box[1]
    result = msgs.ObjectHypothesisWithPose()
    hypothesis = getattr(result, "hypothesis", result)
    _set(hypothesis, label, "class_id", "id")
    hypothesis.score = score
    message.results = [result]
    return message


def _set(message: Any, value: str, name: str, old_name: str) -> None:
    """Set the field under the name that this version of the message has for it."""
    setattr(message, name if hasattr(message, name) else old_name, value)
