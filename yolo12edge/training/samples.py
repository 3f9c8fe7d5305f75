"""A picture of what the network is trained on."""

from __future__ import annotations

from pathlib import Path

from ..data.dataset import Dataset
from ..data.loader import PictureDataset
from ..data.preview import draw_pictures
from ..imaging.draw import evenly

__all__ = ["draw_training_samples"]

_SHOWN = 16


def draw_training_samples(pictures: PictureDataset, dataset: Dataset, out: Path) -> None:
    """Draw augmented images of epoch 0, spread evenly over the dataset, with their labels.

    Args:
        pictures: The training set.
        dataset: What it is labelled for.
        out: The image file.
    """
    draw_pictures([pictures.picture(0, index) for index in evenly(len(pictures), _SHOWN)], dataset, out)
