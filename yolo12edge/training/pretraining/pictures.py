"""Which pictures are learnt from: all of a folder or of a training split, but none that anything is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...data.class_tables import has_class_folders
from ...data.dataset import Dataset, read_dataset
from ...data.duplicates import PictureIndex, digests_of
from ...errors import DatasetError
from ...imaging.images import IMAGE_SUFFIXES

__all__ = ["Pictures", "find_pictures"]

_ABOVE = 3  # folders above one of pictures in which a dataset that it is part of is looked for


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures to learn from.

    Attributes:
        paths: Where they are, in a fixed order.
        left_out: Pictures of the folder that are held out, or copies of such ones.
        sha256: Digest of the contents of all ``paths``, in order.
    """

    paths: tuple[Path, ...]
    left_out: int
    sha256: str


def find_pictures(
    data: Path, *, held_out: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Pictures:
    """Find the pictures to learn from; labels are not read.

    Of a dataset, those of ``train``. Of a folder, all that are in it, at any depth. Pictures of ``val`` and ``test``
    of the dataset, of one that the folder is part of, and of ``held_out`` are left out, and so are copies of them.

    Args:
        data: A folder of pictures, a ``data.yaml``, or a folder that ``read_dataset`` takes.
        held_out: A dataset of which nothing may leak.
        progress: Called with (pictures read, pictures in all).

    Raises:
        DatasetError: If there is no picture, all are held out, or one cannot be read.
    """
    if data.is_file() or _is_dataset(data):
        dataset = read_dataset(data)
        datasets = [dataset]
        found = list(dataset.images("train"))
    else:
        found = _all_images(data)
        datasets = _datasets_around(data)
    if held_out is not None:
        datasets.append(read_dataset(held_out))
    if not found:
        raise DatasetError(f"there is no picture in {data}", expected="JPEG, PNG, BMP, WebP or TIFF")
    scored = {path.resolve() for dataset in datasets for path in _scored(dataset)}
    free = [path for path in found if path.resolve() not in scored]
    digests = digests_of(free, progress=progress)
    broken = [path for path, digest in zip(free, digests, strict=True) if digest is None]
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise DatasetError(
            f"{len(broken)} of {len(free)} pictures cannot be read: {', '.join(map(str, broken[:5]))}{more}",
            remedy="copy them again, or remove them",
        )
    index = PictureIndex(sorted(scored))
    kept = [
        (path, digest)
        for path, digest in zip(free, digests, strict=True)
        if digest is not None and index.find(digest) is None
    ]
    if not kept:
        raise DatasetError(
            f"all {len(found)} pictures of {data} belong to a validation or test split, or are copies of such pictures",
            expected="pictures that nothing is scored on",
            remedy="give the training split, or a folder of other pictures",
        )
    digest = hashlib.sha256(b"".join(bytes.fromhex(digest.sha256) for _, digest in kept)).hexdigest()
    return Pictures(tuple(path for path, _ in kept), len(found) - len(kept), digest)


def _is_dataset(folder: Path) -> bool:
    named = any((folder / name).is_file() for name in ("data.yaml", "train.csv"))
    return named or all(has_class_folders(folder / split) for split in ("train", "val"))


def _datasets_around(folder: Path) -> list[Dataset]:
    """Return the datasets that pictures in a folder belong to, by their descriptions in the folders above it."""
    found = []
    for home in list(folder.absolute().parents)[:_ABOVE]:
        if not _is_dataset(home):
            continue
        try:
            dataset = read_dataset(home)
        except DatasetError:  # nothing is scored on one that cannot be read
            continue
        pictures = (path.resolve() for paths in dataset.splits.values() for path in paths)
        if any(path.is_relative_to(folder.resolve()) for path in pictures):
            found.append(dataset)
    return found


def _scored(dataset: Dataset) -> list[Path]:
    learnt = set(dataset.splits.get("train", ()))
    return [path for split in ("val", "test") for path in dataset.splits.get(split, ()) if path not in learnt]


def _all_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder} does not exist", expected="a folder of pictures, or a dataset")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
