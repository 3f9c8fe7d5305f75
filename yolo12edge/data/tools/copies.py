"""``Copies``: pictures of a dataset that show the same, which of them are kept, and what leaks between splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..dataset import Dataset
from ..duplicates import NEAR, PictureDigests, near_pairs
from ..labels import Labels

__all__ = ["Copies", "Digests", "Place", "connected", "find_copies"]

Digests = Mapping[str, Sequence[PictureDigests | None]]
"""By split, in the order of its images; None for what cannot be read."""

_KEPT_FIRST = ("test", "val", "train")  # a picture that is both trained and measured on is taken from training


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture of a dataset is.

    Attributes:
        split: Its split.
        index: Its number in the images of the split.
        path: The file.
    """

    split: str
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class Copies:
    """Pictures that hang together by being copies of each other.

    Attributes:
        kept: Those that stay: no two of them are copies of each other; frames of a video may hang together over others.
        redundant: The others.
        exact: Whether all files have the same bytes.
        labels_differ: Whether the pictures have different numbers of objects of some class.
    """

    kept: tuple[Place, ...]
    redundant: tuple[Place, ...]
    exact: bool
    labels_differ: bool

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them."""
        return (*self.kept, *self.redundant)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that they are in; more than one is a leak."""
        return tuple(sorted({place.split for place in self.places}))


def find_copies(dataset: Dataset, digests: Digests, *, distance: int | None = NEAR) -> list[Copies]:
    """Return the groups of copies in a dataset, in the order of their first pictures.

    Kept of each group is what measures (test, then val), then what has the most objects, then what comes first.

    Args:
        dataset: Where the pictures are.
        digests: Of the splits that are looked at.
        distance: Bits in which the perceptual hashes of copies may differ; None finds files of the same bytes only.
    """
    found: list[tuple[Place, PictureDigests, Labels]] = []
    for split, of_split in digests.items():
        several = zip(dataset.images(split), of_split, dataset.labels(split), strict=True)
        for index, (path, one, labels) in enumerate(several):
            if one is not None:
                found.append((Place(split, index, path), one, labels))
    firsts: dict[str, int] = {}
    pairs = [(firsts.setdefault(one.sha256, number), number) for number, (_, one, _) in enumerate(found)]
    if distance is not None:
        pairs += [(a, b) for a, b in near_pairs([one.phash for _, one, _ in found], distance=distance).tolist()]
    groups: dict[int, list[int]] = {}
    for number, root in enumerate(connected(pairs, len(found)).tolist()):
        groups.setdefault(root, []).append(number)
    return [_copies([found[number] for number in group], distance) for group in groups.values() if len(group) > 1]


def connected(pairs: Sequence[tuple[int, int]], count: int) -> npt.NDArray[np.int64]:
    """Return for each of ``count`` things the smallest one that pairs connect it with."""
    root = list(range(count))

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = root[root[number]]
            number = root[number]
        return number

    for a, b in pairs:
        first, second = sorted((find(a), find(b)))
        root[second] = first
    return np.array([find(number) for number in range(count)], np.int64)


def _copies(group: Sequence[tuple[Place, PictureDigests, Labels]], distance: int | None) -> Copies:
    ranked = sorted(group, key=lambda one: (_KEPT_FIRST.index(one[0].split), -len(one[2].class_id)))
    kept: list[tuple[Place, PictureDigests]] = []
    redundant: list[Place] = []
    for place, digests, _ in ranked:
        if any(
            digests.sha256 == k.sha256 or (distance is not None and digests.distance(k) <= distance) for _, k in kept
        ):
            redundant.append(place)
        else:
            kept.append((place, digests))
    return Copies(
        tuple(place for place, _ in kept),
        tuple(redundant),
        exact=len({digests.sha256 for _, digests, _ in group}) == 1,
        labels_differ=any(Counter(a.class_id.tolist()) != Counter(group[0][2].class_id.tolist()) for _, _, a in group),
    )
