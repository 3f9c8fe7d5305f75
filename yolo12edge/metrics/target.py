"""``Target``: the labelled truth of one image, in the pixels its detections are in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..imaging.rotated import rotated_of_corners
from ..masks import Masks

if TYPE_CHECKING:
    from ..data.dataset import Sample

__all__ = ["Target"]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Labelled objects of one image.

    Attributes:
        boxes: float32, shape (n, 4): left, top, right, bottom in pixels of the source image; to classify, the whole
            image once for each of its labels.
        class_id: int64, shape (n,), index into the class names.
        image_hw: Height and width of the source image in pixels.
        mask: Which pixels belong to each object, or None where that is not labelled.
        keypoints: float32, shape (n, K, 3): x, y, and 0 where the point is not labelled, else 1 or 2; or None.
        obb: float32, shape (n, 5): centre x, centre y, width, height, angle in radians; or None.

    Raises:
        InputError: If the arrays do not have these shapes or differ in length.
    """

    boxes: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    image_hw: tuple[int, int]
    mask: Masks | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    obb: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; conversion happens once, here
        set_(self, "boxes", np.asarray(self.boxes, dtype=np.float32))
        set_(self, "class_id", np.asarray(self.class_id, dtype=np.int64))
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise InputError(f"boxes have shape {self.boxes.shape}", expected="shape (n, 4)")
        if self.class_id.shape != (count,):
            raise InputError(f"class_id has shape {self.class_id.shape}", expected=f"({count},), one per box")
        if self.keypoints is not None:
            set_(self, "keypoints", np.asarray(self.keypoints, dtype=np.float32))
            if self.keypoints.ndim != 3 or self.keypoints.shape[::2] != (count, 3):
                raise InputError(f"keypoints have shape {self.keypoints.shape}", expected=f"({count}, points, 3)")
        if self.obb is not None:
            set_(self, "obb", np.asarray(self.obb, dtype=np.float32))
            if self.obb.shape != (count, 5):
                raise InputError(f"obb has shape {self.obb.shape}", expected=f"({count}, 5)")
        if self.mask is not None and (len(self.mask) != count or self.mask.image_hw != tuple(self.image_hw)):
            raise InputError(
                f"there are {len(self.mask)} masks of a frame of {self.mask.image_hw}",
                expected=f"{count}, of {tuple(self.image_hw)}",
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(cls, sample: Sample, image_hw: tuple[int, int]) -> Target:
        """Return the target of a labelled sample in pixels.

        Args:
            sample: What its image is labelled with, as shares of the image's sides.
            image_hw: Height and width of the image in pixels.
        """
        height, width = image_hw
        scale = np.array([width, height], np.float32)
        target = cls.from_normalised(sample.boxes, sample.class_id, image_hw)
        mask = keypoints = obb = None
        if sample.polygons is not None:
            mask = Masks.of_polygons([[ring * scale for ring in rings] for rings in sample.polygons], image_hw)
        if sample.keypoints is not None:
            keypoints = sample.keypoints * np.append(scale, np.float32(1))
        if sample.corners is not None:
            obb = rotated_of_corners(sample.corners * scale)
        return cls(target.boxes, target.class_id, image_hw, mask, keypoints, obb)

    @classmethod
    def of_detections(cls, found: Detections, image_hw: tuple[int, int] | None = None) -> Target:
        """Take what one model found for the truth, to compare what another finds with it.

        Args:
            found: Of one image.
            image_hw: Its height and width in pixels; left out, as the masks say, if there are any.
        """
        keypoints = None
        if found.keypoints is not None:  # a point that is rather not visible is not compared
            keypoints = found.keypoints.copy()
            keypoints[:, :, 2] = np.where(keypoints[:, :, 2] >= 0.5, 2, 0)
        if image_hw is None:
            image_hw = (0, 0) if found.mask is None else found.mask.image_hw
        return cls(found.xyxy, found.class_id, image_hw, found.mask, keypoints, found.obb)

    def as_detections(self) -> Detections:
        """Return the objects as if they had been found, to draw them; points that are not labelled are not visible."""
        keypoints = (
            None if self.keypoints is None else np.minimum(self.keypoints, (np.inf, np.inf, 1)).astype(np.float32)
        )
        return Detections(
            self.boxes, np.ones(len(self), np.float32), self.class_id, mask=self.mask, keypoints=keypoints, obb=self.obb
        )

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
