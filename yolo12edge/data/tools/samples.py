"""Pictures of a dataset with their labels drawn into them, as a grid."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..dataset import Dataset
from ..pipelines import labelled_picture
from ..preview import SIDE, drawn

__all__ = ["draw_samples"]


def draw_samples(dataset: Dataset, split: str, *, count: int = 16) -> npt.NDArray[np.uint8] | None:
    """Draw pictures of a split, spread evenly over it.

    Args:
        dataset: Where they are.
        split: Which split.
        count: How many at most.

    Returns:
        uint8, (height, width, 3), BGR; None if none of them can be read.
    """
    from ...imaging.draw import evenly, label_grid
    from ...imaging.images import read_image

    images, labels = dataset.images(split), dataset.labels(split)
    cells = []
    for index in evenly(len(images), count):
        try:
            image = read_image(images[index])
        except InputError:
            continue
        scale = SIDE / max(image.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        small = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=how), cv2.COLOR_BGR2RGB)
        picture = labelled_picture(np.asarray(small, np.uint8), labels[index], dataset.task, dataset.keypoints)
        cells.append(drawn(picture, dataset))
    return label_grid(cells, cell=SIDE) if cells else None
