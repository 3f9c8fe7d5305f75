"""Which real images an INT8 model is calibrated on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.dataset import Dataset
from ..errors import InputError
from ..files import sha256_of
from ..imaging.images import list_images, read_image
from ..preprocess import Preprocessor

__all__ = [
    "MAX_IMAGES",
    "CalibrationImages",
    "caution_of",
    "choose_images",
    "content_of",
    "digest_of",
    "images_of_folder",
]

MAX_IMAGES = 512
"""Gains flatten out below this number."""

_FEW_IMAGES = 32


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Images in the order in which they are used.

    Attributes:
        split: The split they were taken from, or ``folder`` for unlabelled images.
        root: What ``names`` are relative to.
        paths: The files.
    """

    split: str
    root: Path
    paths: tuple[Path, ...]

    @property
    def names(self) -> list[str]:
        """Paths relative to the root, with forward slashes: they go into the manifest."""
        return [Path(os.path.relpath(path, self.root)).as_posix() for path in self.paths]

    def digest(self) -> str:
        """Return the SHA-256 over names and contents, in order.

        Raises:
            InputError: If a file cannot be read.
        """
        return digest_of(self.names, self.contents())

    def contents(self) -> list[str]:
        """Return the SHA-256 of each file, in order.

        Raises:
            InputError: If a file cannot be read.
        """
        return [content_of(path) for path in self.paths]

    def first(self, count: int) -> CalibrationImages:
        """Return the first images; as the order is balanced or random, they are a fair sample."""
        return replace(self, paths=self.paths[:count])

    def caution(self) -> str:
        """Return a warning if there are too few images, else an empty string."""
        return caution_of(len(self.paths))

    def batches(self, preprocessor: Preprocessor) -> Iterator[npt.NDArray[np.float32]]:
        """Yield each image as network input, prepared exactly as the Runtime prepares a frame."""
        for path in self.paths:
            yield preprocessor(read_image(path))[0]


def choose_images(
    dataset: Dataset,
    *,
    split: str = "train",
    count: int = MAX_IMAGES,
    seed: int = 0,
    exclude: Iterable[Path] = (),
) -> CalibrationImages:
    """Choose images of a labelled split so that every class is seen, the rare ones too.

    Classes take turns, the rarest first; each takes one more of its images. Images without objects are one more class.

    Args:
        dataset: Where from.
        split: Never the one that the result is scored on.
        count: How many at most.
        seed: The same seed chooses the same images.
        exclude: Images that the result will be scored on, should some of them, or copies, be in the split as well.

    Raises:
        DatasetError: If the split is not there or a label is wrong.
        InputError: If no image is left.
    """
    excluded = list(exclude)
    scored, contents = {path.resolve() for path in excluded}, {content_of(path) for path in excluded}
    samples = [sample for sample in dataset.samples(split) if sample.image.resolve() not in scored]
    sizes = {path.stat().st_size for path in excluded}  # only equal sizes are worth a digest
    samples = [s for s in samples if s.image.stat().st_size not in sizes or content_of(s.image) not in contents]
    if not samples:
        raise InputError(
            f"split {split!r} of {dataset.path} has no images to calibrate on",
            expected="images other than those that the result is scored on",
            remedy="give data with a training split of its own",
        )
    order = np.random.default_rng(seed).permutation(len(samples))
    by_class: dict[int, list[int]] = {}
    for index in order:
        for class_id in set(samples[index].class_id.tolist()) or {-1}:
            by_class.setdefault(class_id, []).append(int(index))
    turns = [iter(by_class[class_id]) for class_id in sorted(by_class, key=lambda c: (len(by_class[c]), c))]
    chosen: dict[int, None] = {}  # an ordered set
    while turns and len(chosen) < count:
        turns = [turn for turn in turns if _take(turn, chosen, count)]
    return CalibrationImages(split, dataset.path.parent, tuple(samples[index].image for index in chosen))


def caution_of(count: int) -> str:
    """Return a warning if so many calibration images are too few, else an empty string."""
    if count >= _FEW_IMAGES:
        return ""
    return (
        f"There are only {count} calibration images; {_FEW_IMAGES} are the least that make sense, and "
        f"{MAX_IMAGES} are better. Values that no calibration image reaches are clipped on the device: expect more "
        "mistakes and lower confidence on images unlike these."
    )


def content_of(path: Path) -> str:
    """Return the SHA-256 of an image file.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", expected="an image file") from error


def digest_of(names: Iterable[str], contents: Iterable[str]) -> str:
    """Return the SHA-256 over names and contents, in order."""
    total = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()


def images_of_folder(folder: Path, *, count: int = MAX_IMAGES, seed: int = 0) -> CalibrationImages:
    """Choose images of a folder without labels, at random.

    Raises:
        InputError: If the folder is missing or holds no image.
    """
    paths = list_images(folder)
    if not paths:
        raise InputError(f"{folder} holds no image to calibrate with", remedy="give a data.yaml or a folder of images")
    order = np.random.default_rng(seed).permutation(len(paths))[:count]
    return CalibrationImages("folder", folder, tuple(paths[index] for index in order))


def _take(turn: Iterator[int], chosen: dict[int, None], count: int) -> bool:
    """Let a class take its next image that is not chosen yet; return False when it has none left."""
    if len(chosen) >= count:
        return True
    for index in turn:
        if index not in chosen:
            chosen[index] = None
            return True
    return False
