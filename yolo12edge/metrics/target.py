"""``Target``: the labelled truth of one image, in the pixels its detections are in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["Target"]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Labelled objects of one image.

    Attributes:
        boxes: float32, shape (n, 4): left, top, right, bottom in pixels of the source image.
        class_id: int64, shape (n,), index into the class names.
        image_hw: Height and width of the source image in pixels.

    Raises:
        InputError: If the arrays do not have these shapes or differ in length.
    """

    boxes: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    image_hw: tuple[int, int]

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; conversion happens once, here
        set_(self, "boxes", np.asarray(self.boxes, dtype=np.float32))
        set_(self, "class_id", np.asarray(self.class_id, dtype=np.int64))
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise InputError(f"boxes have shape {self.boxes.shape}", expected="shape (n, 4)")
        if self.class_id.shape != (count,):
            raise InputError(f"class_id has shape {self.class_id.shape}", expected=f"({count},), one per box")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_normalised(
        cls, boxes: npt.NDArray[np.float32], class_id: npt.NDArray[np.int64], image_hw: tuple[int, int]
    ) -> Target:
        """Return the target of a labelled sample, its boxes scaled to pixels.

        Args:
            boxes: Shape (n, 4): left, top, right, bottom as fractions of the image.
            class_id: Shape (n,).
            image_hw: Height and width of the image in pixels.
        """
        height, width = image_hw
        scale = np.array([width, height, width, height], np.float32)
        return cls(np.asarray(boxes, np.float32).reshape(-1, 4) * scale, class_id, image_hw)
