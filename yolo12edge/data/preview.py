"""Pictures for people of a dataset, and of what augmentation makes of it, with the labels drawn in."""

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
from ..imaging.rotated import rotated_of_corners
from ..masks import Masks
from .augment import Augmentation, Picture
from .dataset import Dataset
from .form_obb import Corners
from .form_pose import Keypoints
from .form_segment import Polygons
from .forms import FORMS
from .objects import scaling
from .pipelines import PIPELINES, labelled_picture, possible_augmentation

__all__ = ["draw_augmented", "draw_pictures", "draw_samples", "drawn"]

_SIDE = 320  # pixels; pictures are enlarged to it at least before they are drawn on, so that labels do not hide them
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


def draw_samples(dataset: Dataset, split: str, *, count: int = 16) -> npt.NDArray[np.uint8] | None:
    """Draw pictures of a split as they are, spread evenly over it.

    Args:
        dataset: Where they are; labels that are wrong are left out.
        split: Which split.
        count: How many at most.

    Returns:
        uint8, (height, width, 3), BGR; None if none of them can be read.
    """
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
        small = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=how), cv2.COLOR_BGR2RGB)
        picture = labelled_picture(np.asarray(small, np.uint8), labels[index], dataset.task, dataset.keypoints)
        cells.append(drawn(picture, dataset))
    return label_grid(cells, cell=_SIDE) if cells else None


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
    """Return a picture, BGR, with its labels; a small one is enlarged, as they would hide it.

    The names of a dataset's only class would say the same everywhere, and are left out.
    """
    zoom = max(1, -(-_SIDE // max(picture.image.shape[:2])))
    image = cv2.cvtColor(picture.image.repeat(zoom, 0).repeat(zoom, 1), cv2.COLOR_RGB2BGR)
    enlarged = Picture(np.asarray(image, np.uint8), picture.labels.transform(scaling(zoom, zoom)))
    return draw_detections(
        enlarged.image,
        as_detections(enlarged, dataset),
        dataset.class_names,
        keypoints=dataset.keypoints,
        labels=len(dataset.class_names) > 1,
        confidence=False,
    )


def as_detections(picture: Picture, dataset: Dataset) -> Detections:
    """Return what a picture is labelled with as if it had been found there."""
    labels, form = picture.labels, FORMS[dataset.task]
    height, width = picture.image.shape[:2]
    mask = keypoints = obb = probs = None
    if isinstance(labels.part, Polygons):
        mask = Masks.of_polygons(labels.part.rings, (height, width))
    elif isinstance(labels.part, Keypoints):
        keypoints = labels.part.points * np.array((1, 1, 0.5), np.float32)  # visibility 0, 1, 2 is a share here
    elif isinstance(labels.part, Corners):
        obb = rotated_of_corners(labels.part.corners)
    elif form.whole:
        probs = np.zeros((len(labels), len(dataset.class_names)), np.float32)
        probs[np.arange(len(labels)), labels.class_id] = 1
    return Detections(
        labels.boxes.astype(np.float32),
        np.ones(len(labels), np.float32),
        labels.class_id,
        mask=mask,
        keypoints=keypoints,
        obb=obb,
        probs=probs,
    )
