"""Pictures for people of what augmentation makes of a dataset, with the labels drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..imaging.draw import draw_detections, evenly, label_grid
from ..imaging.images import read_image, write_image
from ..masks import Masks
from .augment import Augmentation, Picture
from .dataset import Dataset
from .form_segment import MASK_STRIDE
from .forms import FORMS
from .pipelines import PIPELINES, labelled_picture, possible_augmentation

__all__ = ["draw_augmented", "draw_pictures", "drawn"]

_SIDE = 320  # pictures are enlarged to it at least, so that labels do not hide them
_ROWS = 5
_VARIANTS = 3


def draw_augmented(
    dataset: Dataset,
    augmentation: Augmentation,
    out: Path,
    *,
    image_size: int,
    seed: int = 0,
    split: str = "train",
) -> None:
    """Draw pictures of a dataset, and to the right of each what an augmentation makes of it, all with their labels.

    Args:
        dataset: Any task's.
        augmentation: What is shown.
        out: The image file.
        image_size: Side of the network's input in pixels.
        seed: Seed of every random choice; a training run with it sees the same pictures in its first epochs.
        split: Which pictures.

    Raises:
        InputError: If the split has no pictures, one cannot be read, or the task cannot have an operation.
    """
    samples = dataset.samples(split)
    if not samples:
        raise InputError(f"the split {split} has no pictures", expected="at least one")
    augmentation = possible_augmentation(augmentation, dataset.task, dataset.keypoints)
    pipeline = PIPELINES[dataset.task]

    def load(index: int) -> Picture:
        image = cv2.cvtColor(pipeline.keep(read_image(samples[index].image), image_size), cv2.COLOR_BGR2RGB)
        return labelled_picture(np.asarray(image, np.uint8), samples[index], dataset.task, dataset.keypoints)

    pictures = []
    for index in evenly(len(samples), _ROWS):
        pictures.append(pipeline.plain(load(index), size=image_size))
        for epoch in range(_VARIANTS):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, index)))
            pictures.append(
                pipeline.augmented(load, index, count=len(samples), size=image_size, augmentation=augmentation, rng=rng)
            )
    draw_pictures(pictures, dataset, out, columns=1 + _VARIANTS)


def draw_pictures(
    pictures: Sequence[Picture],
    dataset: Dataset,
    out: Path,
    *,
    columns: int | None = None,
) -> None:
    """Draw square pictures with their labels into one image file; arguments as of ``label_grid``."""
    cells = [drawn(picture, dataset) for picture in pictures]
    write_image(out, label_grid(cells, columns=columns))


def drawn(picture: Picture, dataset: Dataset) -> npt.NDArray[np.uint8]:
    """Return a square picture, BGR, with its labels; a small one is enlarged, as they would hide it."""
    zoom = max(1, -(-_SIDE // len(picture.image)))
    image = cv2.cvtColor(picture.image.repeat(zoom, 0).repeat(zoom, 1), cv2.COLOR_RGB2BGR)
    return draw_detections(
        np.asarray(image, np.uint8),
        as_detections(picture, dataset, zoom),
        dataset.class_names,
        keypoints=dataset.keypoints,
        confidence=False,
    )


def as_detections(picture: Picture, dataset: Dataset, zoom: int) -> Detections:
    """Return what a picture is labelled with as if it had been found there, in pixels of it, ``zoom`` times as large.

    Masks are those that the network learns, at a quarter of the size.
    """
    labels = picture.labels
    targets = FORMS[dataset.task].targets(labels, len(picture.image))
    masks, points, oriented = (targets.get(name) for name in ("masks", "keypoints", "obb"))
    probs = None
    if FORMS[dataset.task].whole:
        probs = np.zeros((len(labels), len(dataset.class_names)), np.float32)
        probs[:, labels.class_id] = 1
    return Detections(
        labels.boxes.astype(np.float32) * zoom,
        np.ones(len(labels), np.float32),
        labels.class_id,
        mask=None if masks is None else numbered_masks(masks, len(labels), MASK_STRIDE * zoom),
        # Visibility 0, 1, 2 is a share here.
        keypoints=None if points is None else points * np.array([zoom, zoom, 0.5], np.float32),
        obb=None if oriented is None else oriented * np.array([zoom] * 4 + [1], np.float32),
        probs=probs,
    )


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
