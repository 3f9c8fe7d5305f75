"""Duplicates: what identifies a picture's file and what it shows, and which pictures are the same or nearly so.

Two files of the same bytes have the same SHA-256. A picture that was encoded, scaled or brightened anew keeps its
perceptual hash, which of its lowest 64 cosine coefficients lie above their median, up to a few bits. Measured on copies
(JPEG of quality 50, half the size, brighter) and on different pictures of the same kind, copies differ by up to 4 bits,
and different pictures by less only where they are frames of one scene.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["NEAR", "PictureDigests", "PictureIndex", "digests_of", "near_pairs", "perceptual_hash", "picture_digests"]

NEAR = 4
"""Bits in which the perceptual hashes of copies of a picture may differ."""

_SIDE = 32  # of the picture that is transformed
_KEPT = 8  # coefficients of each axis
_FLAT = 1e-2  # coefficients below are rounding
_BITS = np.array([number.bit_count() for number in range(256)], np.uint8)
_PAIRS_AT_ONCE = 1 << 20


class PictureDigests(NamedTuple):
    """What tells pictures apart.

    Attributes:
        sha256: Of the bytes of the file, 64 hexadecimal digits.
        phash: Of what it shows, 64 bits.
    """

    sha256: str
    phash: int

    def distance(self, other: PictureDigests) -> int:
        """Return in how many bits the perceptual hashes differ."""
        return (self.phash ^ other.phash).bit_count()


def picture_digests(path: Path) -> PictureDigests:
    """Return the digests of a picture.

    Raises:
        InputError: If it cannot be read as a picture.
    """
    from ..imaging.images import read_image

    image = read_image(path)
    try:
        return PictureDigests(hashlib.sha256(path.read_bytes()).hexdigest(), perceptual_hash(image))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", expected="an image file") from error


def perceptual_hash(image: npt.NDArray[np.uint8]) -> int:
    """Return 64 bits that copies of a picture share, up to ``NEAR`` of them.

    Args:
        image: uint8, shape (height, width, 3), BGR.
    """
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low = np.asarray(cv2.dct(small.astype(np.float32)))[:_KEPT, :_KEPT].ravel()
    low[np.abs(low) < _FLAT] = 0
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")


def digests_of(
    paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> list[PictureDigests | None]:
    """Return the digests of pictures in their order; None for one that cannot be read.

    Args:
        paths: The pictures.
        progress: Called with (pictures done, pictures in all), from this thread.
    """
    found: list[PictureDigests | None] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for digests in pool.map(_digests_or_none, paths):
            found.append(digests)
            if progress is not None:
                progress(len(found), len(paths))
    return found


def _digests_or_none(path: Path) -> PictureDigests | None:
    try:
        return picture_digests(path)
    except InputError:
        return None


class PictureIndex:
    """Pictures that another one may be a copy of; for instance those of a validation split.

    Args:
        paths: The pictures; those that cannot be read are left out.
        distance: Bits in which the perceptual hashes of copies may differ.
    """

    def __init__(self, paths: Iterable[Path], *, distance: int = NEAR) -> None:
        pictures = list(paths)
        found = [
            (path, digests) for path, digests in zip(pictures, digests_of(pictures), strict=True) if digests is not None
        ]
        self._paths = [path for path, _ in found]
        self._exact = {digests.sha256: path for path, digests in reversed(found)}
        self._hashes = np.array([digests.phash for _, digests in found], np.uint64)
        self._distance = distance

    def __len__(self) -> int:
        return len(self._paths)

    def find(self, digests: PictureDigests) -> Path | None:
        """Return the picture that one is a copy of, the nearest if there are several; None if there is none."""
        if digests.sha256 in self._exact:
            return self._exact[digests.sha256]
        if not self._paths:
            return None
        distances = _distances(self._hashes, np.uint64(digests.phash))
        nearest = int(distances.argmin())
        return self._paths[nearest] if distances[nearest] <= self._distance else None


def near_pairs(hashes: Sequence[int], *, distance: int = NEAR) -> npt.NDArray[np.int64]:
    """Return which hashes differ in at most so many bits.

    Hashes that do agree in one of ``distance + 1`` bands of bits, so only those within a band are compared: a hundred
    thousand pictures take less than a minute. Of equal hashes, each is paired with the first alone.

    Args:
        hashes: 64 bits each.
        distance: Largest number of different bits.

    Returns:
        int64, shape (pairs, 2): indices, the smaller first, in order.
    """
    values = np.array(hashes, np.uint64)
    unique, firsts, owner = np.unique(values, return_index=True, return_inverse=True)
    firsts = firsts.astype(np.int64)
    same = np.stack([firsts[owner.reshape(-1)], np.arange(len(values))], axis=1)
    pairs = [same[same[:, 0] != same[:, 1]]]
    edges = np.linspace(0, 64, distance + 2).round().astype(int).tolist()
    for start, end in pairwise(edges):
        band = (unique >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1)
        for left, right in _within(band):
            near = _distances(unique[left], unique[right]) <= distance
            pairs.append(firsts[np.stack([left[near], right[near]], axis=1)])
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _within(band: npt.NDArray[np.uint64]) -> Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Give all pairs of places of equal values, some at a time."""
    order = np.argsort(band, kind="stable").astype(np.int64)
    _, starts, counts = np.unique(band[order], return_index=True, return_counts=True)
    place = np.arange(len(band))
    left_over = np.repeat(starts + counts, counts) - place - 1  # how many of its own value follow each place
    ends = left_over.cumsum()
    first = 0
    while first < len(band):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, side="right")))
        counts_here = left_over[first:last]
        left = np.repeat(place[first:last], counts_here)
        step = np.arange(len(left)) - np.repeat(counts_here.cumsum() - counts_here, counts_here)
        yield order[left], order[left + 1 + step]
        first = last


def _distances(hashes: npt.NDArray[np.uint64], others: Any) -> npt.NDArray[np.int64]:
    different = np.ascontiguousarray(hashes ^ others)
    return np.asarray(_BITS[different.view(np.uint8).reshape(-1, 8)].sum(axis=1), np.int64)
