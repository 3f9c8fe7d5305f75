"""Moving pictures and their labels out of a dataset, and writing down where each was."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ...errors import DatasetError, InputError
from ..dataset import Dataset, label_path
from .copies import Place

__all__ = ["move_out"]


def move_out(dataset: Dataset, places: Sequence[Place], folder: Path) -> Path:
    """Move pictures and their label files into a folder; each keeps its path from the dataset's root on.

    ``moved.csv`` there says where each file was; it is written first, so that nothing is lost from sight.

    Args:
        dataset: Where the pictures are.
        places: Which.
        folder: Where to; it must not be there.

    Returns:
        ``moved.csv``.

    Raises:
        DatasetError: If a list, table or COCO file names the pictures: it would name what is gone.
        InputError: If the folder is there, or a file cannot be moved.
    """
    named = [place.path for place in places if place.path in dataset.listed or place.split in dataset.coco]
    if named:
        raise DatasetError(
            f"{named[0]} is named by a file of the dataset, which would name what is gone",
            remedy="use --out, which writes a dataset without it",
        )
    if folder.exists():
        raise InputError(f"{folder} is there already", remedy="name a new folder")
    images = [place.path for place in places]
    labels = [] if dataset.form.whole else [path for path in map(label_path, images) if path.is_file()]
    root = Path(os.path.commonpath([path.parent for path in [*images, *labels]]))
    moves = [(path, folder / path.relative_to(root)) for path in [*images, *labels]]
    try:
        folder.mkdir(parents=True)
        with (folder / "moved.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("from", "to"), *moves])
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
    except OSError as error:
        raise InputError(
            f"cannot move to {folder}: {error}", remedy="see moved.csv there for what was moved"
        ) from error
    return folder / "moved.csv"
