"""``Detections``: what a detector found in one frame, as a struct of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["Detections"]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Objects of one frame; field names are those of the ``supervision`` library.

    Attributes:
        xyxy: float32, shape (n, 4): left, top, right, bottom in pixels of the source frame.
        confidence: float32, shape (n,), in [0, 1].
        class_id: int64, shape (n,), index into the class names of the manifest.

    Raises:
        InputError: If the arrays do not have these shapes or differ in length.
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; conversion happens once, here
        set_(self, "xyxy", np.asarray(self.xyxy, dtype=np.float32))
        set_(self, "confidence", np.asarray(self.confidence, dtype=np.float32))
        set_(self, "class_id", np.asarray(self.class_id, dtype=np.int64))
        count = len(self.xyxy)
        if self.xyxy.shape != (count, 4):
            raise InputError(f"xyxy has shape {self.xyxy.shape}", expected="shape (n, 4)")
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
        return Detections(self.xyxy[chosen], self.confidence[chosen], self.class_id[chosen])

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
        """
        return [
            {
                "class_id": int(class_id),
                "class_name": class_names[int(class_id)],
                "confidence": round(float(confidence), 5),
                "xyxy": [round(float(value), 2) for value in box],
            }
            for box, confidence, class_id in zip(self.xyxy, self.confidence, self.class_id, strict=True)
        ]
