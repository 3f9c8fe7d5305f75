"""ROS 2: detections, classes and label images, without importing ROS; the caller hands in its message modules."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from ..detections import Detections
from ..errors import InputError
from ..imaging.boxes import xywh_from_xyxy
from ._classes import by_class

__all__ = ["to_classification", "to_detection2d_array", "to_label_image", "to_label_info"]

_UNLABELLED = 65535


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
    the hypothesis is a message of its own since Galactic. An oriented box has its angle there; masks go into
    ``to_label_image``. There is no message for keypoints.

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
    upright = np.zeros((len(detections), 5), np.float32)
    upright[:, :4] = xywh_from_xyxy(detections.xyxy)
    boxes = (upright if detections.obb is None else detections.obb).tolist()
    scores = detections.confidence.tolist()
    message_array = msgs.Detection2DArray()
    message_array.header = deepcopy(header)
    for box, score, label, track in zip(boxes, scores, labels, tracks, strict=True):
        message = _detection(box, score, label, msgs)
        message.header = message_array.header
        _set(message, track, "id", "tracking_id")
        message_array.detections.append(message)
    return message_array


def to_classification(
    detections: Detections, header: Any, *, msgs: Any, class_names: Sequence[str] | None = None
) -> Any:
    """Return the classes of a whole image as a ``Classification``, all with their probabilities, the best first.

    Args:
        detections: What a model for classify found.
        header: That of the image; it is copied.
        msgs: The module ``vision_msgs.msg``.
        class_names: As in ``to_detection2d_array``.

    Raises:
        InputError: If there are no probabilities, or a class has no name.
    """
    message = (msgs.Classification if hasattr(msgs, "Classification") else msgs.Classification2D)()
    message.header = deepcopy(header)
    best = [] if detections.probs is not None and not len(detections) else detections.top_classes(_UNLABELLED)
    if class_names is not None and len(best) > len(class_names):
        raise InputError(f"there are {len(best)} classes and {len(class_names)} class names", expected="one each")
    for class_id, score in best:
        hypothesis = msgs.ObjectHypothesis()
        _set(hypothesis, str(class_id) if class_names is None else class_names[class_id], "class_id", "id")
        hypothesis.score = score
        message.results.append(hypothesis)
    return message


def to_label_image(detections: Detections, header: Any, *, image: Any) -> Any:
    """Return masks as a label image, ``mono16``: the class of each pixel, which ``LabelInfo`` names.

    Where masks overlap, it is that of the most confident object; 65,535 is a pixel of none.

    Args:
        detections: With masks.
        header: That of the image; it is copied.
        image: The type ``sensor_msgs.msg.Image``.

    Raises:
        InputError: If there are no masks.
    """
    masks = detections.mask
    if masks is None:
        raise InputError("these detections have no masks", expected="what a model for segment found")
    labels = np.full(masks.image_hw, _UNLABELLED, "<u2")
    for i in np.argsort(detections.confidence, kind="stable").tolist():
        crop, (left, top) = masks.crops[i], masks.offsets[i].tolist()
        labels[top : top + crop.shape[0], left : left + crop.shape[1]][crop] = detections.class_id[i]
    message = image()
    message.header = deepcopy(header)
    message.height, message.width = masks.image_hw
    message.encoding, message.is_bigendian, message.step = "mono16", 0, 2 * masks.image_hw[1]
    message.data = array("B", labels.tobytes())  # what rclpy takes without a check of every byte
    return message


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
    if len(class_names) >= _UNLABELLED:
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
    """Return one ``Detection2D``; the box is centre x, centre y, width, height, angle."""
    message = msgs.Detection2D()
    message.bbox.size_x, message.bbox.size_y = box[2], box[3]
    center = getattr(message.bbox.center, "position", message.bbox.center)
    center.x, center.y = box[0], box[1]
    message.bbox.center.theta = box[4]
    result = msgs.ObjectHypothesisWithPose()
    hypothesis = getattr(result, "hypothesis", result)
    _set(hypothesis, label, "class_id", "id")
    hypothesis.score = score
    message.results = [result]
    return message


def _set(message: Any, value: str, name: str, old_name: str) -> None:
    """Set the field under the name that this version of the message has for it."""
    setattr(message, name if hasattr(message, name) else old_name, value)
