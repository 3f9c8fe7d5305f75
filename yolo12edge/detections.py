"""``Detections``: what a detector found in one frame, as a struct of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError

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

    Arrays of the right type are taken as they are, not copied; a slice shares memory with what it was cut from.

    Attributes:
        xyxy: float32, shape (n, 4): left, top, right, bottom in pixels of the source frame.
        confidence: float32, shape (n,), in [0, 1].
        class_id: int64, shape (n,), index into the class names of the manifest.
        timing: Where the time went; None if not a Runtime made them. Selections keep it, ``merge`` does not.
        stamp_ns: When the frame was taken, nanoseconds since 1970, or when it was handed in if it does not say;
            None if not a Runtime made them. Selections keep it, ``merge`` does not.

    Raises:
        InputError: If the arrays do not have these shapes, differ in length, or cannot be converted without loss of
            meaning (a class 1.5, text).
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    timing: Timing | None = None
    stamp_ns: int | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; conversion happens once, here
        set_(self, "xyxy", _array("xyxy", self.xyxy, np.float32))
        set_(self, "confidence", _array("confidence", self.confidence, np.float32))
        set_(self, "class_id", _array("class_id", self.class_id, np.int64))
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4:
            raise InputError(f"xyxy has shape {self.xyxy.shape}", expected="shape (n, 4)")
        count = len(self.xyxy)
        for name in ("confidence", "class_id"):
            shape = getattr(self, name).shape
            if shape != (count,):
                raise InputError(f"{name} has shape {shape}", expected=f"({count},), as xyxy has {count} rows")

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
        return Detections(self.xyxy[chosen], self.confidence[chosen], self.class_id[chosen], self.timing, self.stamp_ns)

    @classmethod
    def empty(cls) -> Detections:
        """Return ``Detections`` of no objects."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @classmethod
    def merge(cls, parts: Iterable[Detections]) -> Detections:
        """Concatenate several ``Detections`` in the order given."""
        items = list(parts)
        if not items:
            return cls.empty()
        return cls(
            np.concatenate([item.xyxy for item in items]),
            np.concatenate([item.confidence for item in items]),
            np.concatenate([item.class_id for item in items]),
        )

    def to_records(self, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """Return one JSON-ready dictionary per object.

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
        return [
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
