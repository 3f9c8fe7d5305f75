"""A picture of what the network is trained on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..data.dataset import Dataset
from ..data.loader import Item, PictureDataset
from ..detections import Detections
from ..imaging.draw import draw_detections, evenly, label_grid
from ..imaging.images import write_image
from ..masks import Masks

__all__ = ["draw_training_samples"]

_SHOWN = 16


def draw_training_samples(pictures: PictureDataset, dataset: Dataset, out: Path) -> None:
    """Draw augmented images of epoch 0, spread evenly over the dataset, with their labels.

    Args:
        pictures: The training set.
        dataset: What it is labelled for.
        out: The image file.
    """
    cells = []
    for index in evenly(len(pictures), _SHOWN):
        item = pictures[0, index]
        image = cv2.cvtColor(np.ascontiguousarray(item.image.numpy().transpose(1, 2, 0)), cv2.COLOR_RGB2BGR)
        cells.append(
            draw_detections(
                np.asarray(image, np.uint8),
                as_detections(item, dataset),
                dataset.class_names,
                keypoints=dataset.keypoints,
                confidence=False,
            )
        )
    write_image(out, label_grid(cells))


def as_detections(item: Item, dataset: Dataset) -> Detections:
    """Return what a picture is labelled with as if it had been found there, in network pixels."""
    mask = keypoints = probs = None
    if item.masks is not None:
        scale = item.image.shape[2] // item.masks.shape[1]
        numbers = item.masks.numpy().repeat(scale, 0).repeat(scale, 1)
        mask = Masks.of_full(numbers == np.arange(1, len(item.class_id) + 1)[:, None, None])
    if item.keypoints is not None:
        keypoints = item.keypoints.numpy() * np.array([1, 1, 0.5], np.float32)  # visibility 0, 1, 2 is a share here
    if dataset.task == "classify":
        probs = np.zeros((len(item.class_id), len(dataset.class_names)), np.float32)
        probs[:, item.class_id.numpy()] = 1
    return Detections(
        item.boxes.numpy(),
        np.ones(len(item.class_id), np.float32),
        item.class_id.numpy(),
        mask=mask,
        keypoints=keypoints,
        obb=None if item.obb is None else item.obb.numpy(),
        probs=probs,
    )
