"""``Detections``: what a detector found in one frame, as a struct of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .masks import Masks

__all__ = ["Detections", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one frame went, in milliseconds of a monotonic clock.

    Attributes:
        pre_ms: Letterbox and colour order.
        infer_ms: The engine.
        post_ms: Thresholds, NMS and the way back to source pixels.
        queue_ms: Waiting before and between these, where the frame was handed to ``submit`` or ``stream``.
    """

    pre_ms: float
    infer_ms: float
    post_ms: float
    queue_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """From the frame being handed in to its detections."""
        return self.pre_ms + self.infer_ms + self.post_ms + self.queue_ms


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Objects of one frame; field names are those of the ``supervision`` library.

    Arrays of the right type are taken as they are, not copied; a slice shares memory with what it was cut from. What
    only some tasks give is None with the others, and there, of length 0, where nothing was found.

    Attributes:
        xyxy: float32, shape (n, 4): left, top, right, bottom in pixels of the source frame. Of an oriented box: of the
            upright one around it. Of a class of the whole frame: the frame.
        confidence: float32, shape (n,), in [0, 1].
        class_id: int64, shape (n,), index into the class names of the manifest.
        timing: Where the time went; None if not a Runtime made them. Selections keep it, ``merge`` does not.
        stamp_ns: When the frame was taken, nanoseconds since 1970, or when it was handed in if it does not say;
            None if not a Runtime made them. Selections keep it, ``merge`` does not.
        mask: Which pixels belong to each object (segment).
        keypoints: float32, shape (n, points, 3): x, y in pixels of the source frame, and how probable it is that the
            point is visible, in [0, 1] (pose).
        obb: float32, shape (n, 5): centre x, centre y, width, height in pixels of the source frame, and the angle from
            the x axis to the width, clockwise in the picture, in radians (obb).
        probs: float32, shape (n, classes): the probability of each class (classify).

    Raises:
        InputError: If the arrays do not have these shapes, differ in length, or cannot be converted without loss of
            meaning (a class 1.5, text).
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    timing: Timing | None = None
    stamp_ns: int | None = None
    mask: Masks | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    obb: npt.NDArray[np.float32] | None = None
    probs: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; conversion happens once, here
        count = 0
        for name, (dtype, shape) in _SHAPES.items():
            value = getattr(self, name)
            if value is None and name in _OF_TASKS:
                continue
            array = _array(name, value, dtype)
            set_(self, name, array)
            if name == "xyxy":
                count = len(array) if array.ndim else 0
            fits = array.ndim == 1 + len(shape) and len(array) == count
            if not fits or any(b is not None and a != b for a, b in zip(array.shape[1:], shape, strict=True)):
                expected = ", ".join("any" if side is None else str(side) for side in (count, *shape))
                raise InputError(f"{name} has shape {array.shape}", expected=f"({expected}), as xyxy has {count} rows")
        if self.mask is not None and len(self.mask) != count:
            raise InputError(f"there are {len(self.mask)} masks", expected=f"{count}, as xyxy has so many rows")

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[Detections]:
        """Yield one single-object ``Detections`` per object."""
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(
        self, index: int | slice | Sequence[int] | npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]
    ) -> Detections:
        """Select objects by integer, slice, boolean mask or index array; always ``Detections``."""
        chosen: Any = [index] if isinstance(index, (int, np.integer)) else index
        if not isinstance(chosen, slice):
            chosen = np.asarray(chosen)
            if chosen.size == 0 and chosen.dtype != np.bool_:
                chosen = chosen.astype(np.int64)
        own = {name: getattr(self, name)[chosen] for name in _OF_TASKS if getattr(self, name) is not None}
        return Detections(
            self.xyxy[chosen], self.confidence[chosen], self.class_id[chosen], self.timing, self.stamp_ns, **own
        )

    @classmethod
    def empty(cls) -> Detections:
        """Return ``Detections`` of no objects, without what only some tasks give."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @classmethod
    def merge(cls, parts: Iterable[Detections]) -> Detections:
        """Concatenate several ``Detections`` in the order given.

        Raises:
            InputError: If they are of different tasks, or of frames of different sizes where there are masks.
        """
        items = list(parts)
        if not items:
            return cls.empty()
        own: dict[str, Any] = {}
        for name in _OF_TASKS:
            values = [getattr(item, name) for item in items]
            there = [value for value in values if value is not None]
            if not there:
                continue
            if len(there) != len(values) or len({value.shape[1:] for value in there if name != "mask"}) > 1:
                raise InputError(f"{name} of some detections do not go with those of others", expected="one task")
            own[name] = Masks.concatenate(there) if name == "mask" else np.concatenate(there)
        return cls(
            np.concatenate([item.xyxy for item in items]),
            np.concatenate([item.confidence for item in items]),
            np.concatenate([item.class_id for item in items]),
            **own,
        )

    def top_classes(self, count: int = 5) -> list[tuple[int, float]]:
        """Return the most probable classes of the whole frame and their probabilities, the best first (classify).

        Args:
            count: How many at most.

        Raises:
            InputError: If these are not of a model that classifies, or nothing is there.
        """
        if self.probs is None or not len(self.probs):
            raise InputError("there are no probabilities of classes", expected="what a model for classify found")
        best = np.argsort(-self.probs[0], kind="stable")[:count]
        return [(int(index), float(self.probs[0, index])) for index in best]

    def to_records(self, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """Return one JSON-ready dictionary per object; coordinates are in pixels of the source frame.

        Besides class, confidence and box it has, by task: ``polygons``, the outlines of the mask, each a list of
        [x, y]; ``keypoints``, a list of [x, y, visibility]; ``obb``, [centre x, centre y, width, height, radians];
        ``probabilities``, by class name.

        Args:
            class_names: Names by class index.

        Raises:
            InputError: If a class has no name.
        """
        if len(self) and not 0 <= self.class_id.min() <= self.class_id.max() < len(class_names):
            raise InputError(
                f"class ids go from {self.class_id.min()} to {self.class_id.max()}",
                expected=f"0 to {len(class_names) - 1}, as there are {len(class_names)} class names",
            )
        records: list[dict[str, Any]] = [
            {
                "class_id": class_id,
                "class_name": class_names[class_id],
                "confidence": round(confidence, 5),
                "xyxy": [round(value, 2) for value in box],
            }
            for box, confidence, class_id in zip(
                self.xyxy.tolist(), self.confidence.tolist(), self.class_id.tolist(), strict=True
            )
        ]
        if self.mask is not None:
            for record, rings in zip(records, self.mask.contours(), strict=True):
                record["polygons"] = [ring.round(2).tolist() for ring in rings]
        if self.keypoints is not None:
            for record, points in zip(records, self.keypoints.tolist(), strict=True):
                record["keypoints"] = [[round(x, 2), round(y, 2), round(visible, 5)] for x, y, visible in points]
        if self.obb is not None:
            for record, (*box, angle) in zip(records, self.obb.tolist(), strict=True):
                record["obb"] = [*(round(value, 2) for value in box), round(angle, 5)]
        if self.probs is not None:
            for record, values in zip(records, self.probs.tolist(), strict=True):
                record["probabilities"] = {name: round(p, 5) for name, p in zip(class_names, values, strict=True)}
        return records


_OF_TASKS = ("mask", "keypoints", "obb", "probs")
# Type and shape of each array, without the number of objects.
_SHAPES: dict[str, tuple[type[np.generic], tuple[int | None, ...]]] = {
    "xyxy": (np.float32, (4,)),
    "confidence": (np.float32, ()),
    "class_id": (np.int64, ()),
    "keypoints": (np.float32, (None, 3)),
    "obb": (np.float32, (5,)),
    "probs": (np.float32, (None,)),
}


def _array(name: str, value: Any, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return ``value`` as an array of ``dtype``; floats become integers only where they are whole."""
    try:
        array = np.asarray(value)
        if array.dtype == dtype:
            return array
        with np.errstate(invalid="ignore"):
            converted = array.astype(dtype)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is not an array of {dtype.__name__}: {error}") from error
    if issubclass(dtype, np.integer) and not np.array_equal(converted, array):
        raise InputError(f"{name} holds values that are not whole numbers", expected=dtype.__name__)
    return converted
