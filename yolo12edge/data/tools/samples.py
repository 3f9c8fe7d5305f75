"""Pictures of a dataset with their labels drawn into them, as a grid."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ...detections import Detections
from ...errors import InputError
from ...imaging.rotated import rotated_of_corners
from ...masks import Masks
from ..dataset import Dataset
from ..labels import Labels

__all__ = ["draw_samples", "labelled"]

_SIDE = 320  # pixels; what is smaller is enlarged before it is drawn on, or labels would hide it


def draw_samples(dataset: Dataset, split: str, *, count: int = 16) -> npt.NDArray[np.uint8] | None:
    """Draw pictures of a split, spread evenly over it.

    Args:
        dataset: Where they are.
        split: Which split.
        count: How many at most.

    Returns:
        uint8, (height, width, 3), BGR; None if none of them can be read.
    """
    from ...imaging.draw import draw_detections, evenly, label_grid
    from ...imaging.images import read_image

    images, labels = dataset.images(split), dataset.labels(split)
    cells = []
    for index in evenly(len(images), count):
        try:
            image = read_image(images[index])
        except InputError:
            continue
        scale = _SIDE / max(image.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        small = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
        found = labelled(labels[index], (height, width), dataset)
        names = dataset.class_names
        several = len(names) > 1  # else the labels would say the same everywhere
        cells.append(
            draw_detections(small, found, names, keypoints=dataset.keypoints, labels=several, confidence=False)
        )
    return label_grid(cells, cell=_SIDE) if cells else None


def labelled(labels: Labels, image_hw: tuple[int, int], dataset: Dataset) -> Detections:
    """Return what a picture is labelled with as if it had been found there, in its pixels."""
    size = np.array(image_hw[::-1], np.float32)
    count = len(labels.class_id)
    mask = keypoints = obb = probs = None
    if labels.polygons is not None:
        mask = Masks.of_polygons([[ring * size for ring in rings] for rings in labels.polygons], image_hw)
    if labels.keypoints is not None:
        keypoints = labels.keypoints * np.append(size, np.float32(0.5))  # visibility 0, 1, 2 is a share here
    if labels.corners is not None:
        obb = rotated_of_corners(labels.corners * size)
    if dataset.form.whole:
        probs = np.zeros((count, len(dataset.class_names)), np.float32)
        probs[np.arange(count), labels.class_id] = 1
    return Detections(
        labels.boxes * np.tile(size, 2),
        np.ones(count, np.float32),
        labels.class_id,
        mask=mask,
        keypoints=keypoints,
        obb=obb,
        probs=probs,
    )
