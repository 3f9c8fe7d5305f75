"""Conversion: a dataset in one format is read, and written in another; what the other cannot hold is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from ...errors import InputError
from ...files import atomic_directory
from ...manifest import Task
from ..dataset import read_dataset
from .coco_writing import write_coco
from .collection import Collection, collection_of
from .placing import Placer
from .voc_reading import is_voc, read_voc
from .voc_writing import write_voc
from .yolo_writing import write_yolo

__all__ = ["FORMATS", "Format", "convert", "read_any"]

Format = Literal["yolo", "coco", "voc"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WRITERS: dict[Format, Callable[[Collection, Path, Placer], list[str]]] = {
    "yolo": write_yolo,
    "coco": write_coco,
    "voc": write_voc,
}


def read_any(path: Path, *, task: Task | None = None) -> Collection:
    """Read a dataset of any format: a ``data.yaml`` (label files, COCO), class folders or tables, or Pascal VOC.

    Raises:
        DatasetError: If it is none of these, or a label is wrong.
    """
    if is_voc(path):
        if task not in (None, "detect"):
            raise InputError(f"{path} is Pascal VOC, which has boxes alone", remedy=f"leave out --task {task}")
        return read_voc(path)
    return collection_of(read_dataset(path, task=task))


def convert(collection: Collection, out: Path, *, to: Format, link: bool = False) -> list[str]:
    """Write a dataset in another format, pictures included.

    Args:
        collection: What to write.
        out: Folder to make.
        to: The format.
        link: Whether to link the pictures in place of copying them.

    Returns:
        What was lost.

    Raises:
        DatasetError: If the format has no place for the labels of the task.
        InputError: If the folder is there and not empty.
    """
    with atomic_directory(out, overwrite=False) as folder:
        return _WRITERS[to](collection, folder, Placer(link=link))
