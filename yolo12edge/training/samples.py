"""A picture of what the network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.dataset import Dataset
from ..data.loader import PictureDataset
from ..data.preview import draw_pictures
from ..imaging.draw import evenly

__all__ = ["draw_training_samples"]

_SHOWN = 16


def draw_training_samples(
    pictures: PictureDataset, dataset: Dataset, out: Path, *, keys: Sequence[tuple[int, int]] | None = None
) -> None:
    """Draw augmented images with their labels.

    Args:
        pictures: The training set.
        dataset: What it is labelled for.
        out: The image file.
        keys: Which, by epoch and index; None spreads them evenly over the dataset in epoch 0.
    """
    keys = keys or [(0, index) for index in evenly(len(pictures), _SHOWN)]
    draw_pictures([pictures.picture(*key) for key in keys], dataset, out)
