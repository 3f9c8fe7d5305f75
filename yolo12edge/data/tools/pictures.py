"""What the files of a dataset's pictures are: format, size, channels, depth, and their digests, in one pass."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...errors import InputError
from ..dataset import Dataset
from ..duplicates import PictureDigests, perceptual_hash
from .copies import Digests

__all__ = ["PictureFacts", "digests_in", "look_at", "survey"]


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is known of one picture.

    Attributes:
        format: ``jpeg``, ``png``, …, or the suffix where the header says nothing.
        size: Width and height in pixels, as it is seen.
        channels: As the file holds them; 1, 3 or 4.
        bits: Of one value of one pixel.
        grey: Whether all its colours are grey.
        bytes: Of the file.
        brightness: Mean of its grey values, 0 to 255.
        digests: What tells it apart from others.
    """

    format: str
    size: tuple[int, int]
    channels: int
    bits: int
    grey: bool
    bytes: int
    brightness: float
    digests: PictureDigests


def look_at(path: Path) -> PictureFacts | None:
    """Return what is known of a picture; None if it cannot be read."""
    from ...imaging.image_header import read_header
    from ...imaging.images import read_image

    try:
        image = read_image(path)
        data = path.read_bytes()
    except (InputError, OSError):
        return None
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        return None
    header = read_header(data)
    grey = bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())
    return PictureFacts(
        header.format if header is not None else path.suffix.lower().removeprefix("."),
        (image.shape[1], image.shape[0]),
        1 if stored.ndim == 2 else int(stored.shape[2]),
        8 * stored.dtype.itemsize,
        grey,
        len(data),
        float(image.mean()),
        PictureDigests(hashlib.sha256(data).hexdigest(), perceptual_hash(image)),
    )


def survey(
    dataset: Dataset, splits: Sequence[str], *, progress: Callable[[int, int], None] | None = None
) -> dict[str, list[PictureFacts | None]]:
    """Look at every picture of some splits; None for one that cannot be read.

    Args:
        dataset: Where they are.
        splits: Which.
        progress: Called with (pictures done, pictures in all), from this thread.
    """
    total = sum(len(dataset.images(split)) for split in splits)
    found: dict[str, list[PictureFacts | None]] = {}
    done = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for split in splits:
            found[split] = []
            for facts in pool.map(look_at, dataset.images(split)):
                found[split].append(facts)
                done += 1
                if progress is not None:
                    progress(done, total)
    return found


def digests_in(found: dict[str, list[PictureFacts | None]]) -> Digests:
    """Return the digests of what was looked at."""
    return {split: [None if one is None else one.digests for one in several] for split, several in found.items()}
