"""A picture of what the network is trained on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

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


def numbered_masks(numbers: npt.NDArray[np.int16], count: int, scale: int) -> Masks:
    """Return the masks of objects 1 to ``count``, each ``scale`` times as large; a hidden object has an empty one."""
    rows, columns = np.nonzero(numbers)
    order = np.argsort(numbers[rows, columns], kind="stable")
    ends = np.bincount(numbers[rows, columns], minlength=count + 1).cumsum()
    crops, offsets = [], []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        row, column = rows[order[start:end]], columns[order[start:end]]
        top, left = (int(row.min()), int(column.min())) if end > start else (0, 0)
        crop = np.zeros((row.max() + 1 - top, column.max() + 1 - left) if end > start else (0, 0), np.bool_)
        crop[row - top, column - left] = True
        crops.append(crop.repeat(scale, 0).repeat(scale, 1))
        offsets.append((left * scale, top * scale))
    height, width = numbers.shape
    return Masks(tuple(crops), np.array(offsets, np.int32).reshape(-1, 2), (height * scale, width * scale))


def as_detections(item: Item, dataset: Dataset) -> Detections:
    """Return what a picture is labelled with as if it had been found there, in network pixels."""
    mask = keypoints = probs = None
    if item.masks is not None:
        mask = numbered_masks(item.masks.numpy(), len(item.class_id), item.image.shape[2] // item.masks.shape[1])
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
