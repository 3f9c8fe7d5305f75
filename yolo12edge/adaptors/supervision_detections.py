"""The ``supervision`` library: its trackers, zones and annotators take what the Runtime finds."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError, Yolo12EdgeError
from ..imaging.rotated import corners_of_rotated, rotated_of_corners
from ..masks import Masks
from ._classes import by_class

if TYPE_CHECKING:
    import supervision

__all__ = ["from_supervision", "to_supervision", "to_supervision_classes", "to_supervision_keypoints"]

_CORNERS = "xyxyxyxy"  # supervision.config.ORIENTED_BOX_COORDINATES


def to_supervision(detections: Detections, class_names: Sequence[str]) -> supervision.Detections:
    """Return detections as ``supervision.Detections``, with ``data["class_name"]``.

    The arrays are shared, not copied. Timing and stamp have no place there. Masks become as large as the frame each;
    oriented boxes go into ``data["xyxyxyxy"]``, where supervision looks for them; for keypoints it has a type of its
    own (``to_supervision_keypoints``), and so it has for classes of the whole frame (``to_supervision_classes``).

    Args:
        detections: n objects.
        class_names: By class index, such as ``runtime.manifest.class_names``.

    Raises:
        InputError: If a class has no name.
        Yolo12EdgeError: If supervision is not installed.
    """
    library = _supervision()
    data: dict[str, Any] = {"class_name": _names(detections, class_names)}
    if detections.obb is not None:
        data[_CORNERS] = corners_of_rotated(detections.obb)
    return library.Detections(
        xyxy=detections.xyxy,
        mask=None if detections.mask is None else detections.mask.full(),
        confidence=detections.confidence,
        class_id=detections.class_id,
        data=data,
    )


def to_supervision_keypoints(detections: Detections, class_names: Sequence[str]) -> supervision.KeyPoints:
    """Return keypoints as ``supervision.KeyPoints``, with ``data["class_name"]``; a point's confidence is visibility.

    Args:
        detections: n objects, with keypoints.
        class_names: By class index.

    Raises:
        InputError: If there are no keypoints, or a class has no name.
        Yolo12EdgeError: If supervision is not installed.
    """
    if detections.keypoints is None:
        raise InputError("these detections have no keypoints", expected="what a model for pose found")
    key_points = _supervision().KeyPoints
    # Its name until 0.29.
    visibility = "keypoint_confidence" if "keypoint_confidence" in signature(key_points).parameters else "confidence"
    return key_points(
        xy=detections.keypoints[..., :2],
        class_id=detections.class_id,
        data={"class_name": _names(detections, class_names)},
        **{visibility: detections.keypoints[..., 2]},
    )


def to_supervision_classes(detections: Detections) -> supervision.Classifications:
    """Return the probabilities of all classes of the whole frame as ``supervision.Classifications``.

    Args:
        detections: What a model for classify found.

    Raises:
        InputError: If there are no probabilities.
        Yolo12EdgeError: If supervision is not installed.
    """
    if detections.probs is None:
        raise InputError("these detections have no probabilities", expected="what a model for classify found")
    probs = detections.probs[0] if len(detections) else np.zeros(0, np.float32)
    return _supervision().Classifications(class_id=np.arange(len(probs)), confidence=probs)


def from_supervision(detections: supervision.Detections) -> Detections:
    """Return the boxes, confidences, classes, masks and oriented boxes of ``supervision.Detections``.

    Track numbers and other ``data`` have no place in ours and stay behind.

    Args:
        detections: n objects, all with a class and a confidence.

    Raises:
        InputError: If there are objects, and they have no class or no confidence.
    """
    if not len(detections):
        return Detections.empty()
    for name in ("confidence", "class_id"):
        if getattr(detections, name) is None:
            raise InputError(
                f"these supervision.Detections have no {name}",
                expected="a class and a confidence for each object",
                remedy=f"set {name} to an array of length {len(detections)} first",
            )
    corners = (getattr(detections, "data", None) or {}).get(_CORNERS)
    masks = getattr(detections, "mask", None)
    return Detections(
        detections.xyxy,
        detections.confidence,
        detections.class_id,
        mask=None if masks is None else Masks.of_full(np.asarray(masks, np.bool_)),
        obb=None if corners is None else rotated_of_corners(np.asarray(corners, np.float64)),
    )


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise Yolo12EdgeError("the package 'supervision' is not installed", remedy="pip install supervision") from error
    return supervision


def _names(detections: Detections, class_names: Sequence[str]) -> npt.NDArray[np.str_]:
    return np.array(by_class(detections, class_names, what="class names"), dtype=np.str_)
