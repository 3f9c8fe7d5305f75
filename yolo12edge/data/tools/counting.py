"""``DatasetStatistics``: what a dataset holds, split by split, and what is the same in several of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ..dataset import Dataset
from ..labels import Labels
from .copies import Copies
from .pictures import PictureFacts

__all__ = ["ClassCount", "CopyGroup", "DatasetStatistics", "SplitFacts", "Spread", "statistics_of"]

SMALL, MEDIUM = 32.0**2, 96.0**2
"""Areas in pixels up to which COCO calls an object small, and medium."""


class Spread(msgspec.Struct, frozen=True):
    """Quantiles of something that differs from picture to picture or from object to object; zeros where there is none.

    Attributes:
        low: 5 %.
        median: 50 %.
        high: 95 %.
        smallest: Of all.
        largest: Of all.
    """

    low: float = 0.0
    median: float = 0.0
    high: float = 0.0
    smallest: float = 0.0
    largest: float = 0.0


class ClassCount(msgspec.Struct, frozen=True):
    """How often a class occurs.

    Attributes:
        name: Of the class.
        objects: Number of its objects.
        images: Number of pictures with one.
    """

    name: str
    objects: int
    images: int


class SplitFacts(msgspec.Struct, frozen=True):
    """What a split holds; sides and areas are in pixels of the pictures.

    Attributes:
        images: Number of pictures.
        unreadable: How many of them cannot be read; they are left out of all that follows but the counts of objects.
        background: How many have no object.
        synthetic: How many were made and not taken.
        bytes: Of all files.
        formats: Number of pictures of each format.
        kinds: Number of pictures of each kind of pixels, such as "3 x 8 bits".
        grey: How many show no colour.
        sizes: Number of pictures of each size, "640 x 480", the most frequent first.
        brightness: Of the pictures' mean values, 0 to 255.
        classes: By class index.
        objects: Of the numbers of objects of a picture.
        sides: Of the roots of the areas of objects' boxes.
        aspects: Of width over height of objects' boxes.
        areas: Number of objects that COCO calls small, medium and large.
        places: Objects by where their centre is: 8 rows of 8 columns of the picture.
        side_counts: Objects by the root of their area: up to each of ``side_edges`` and beyond, in octaves.
        side_edges: See there.
    """

    images: int
    unreadable: int
    background: int
    synthetic: int
    bytes: int
    formats: dict[str, int]
    kinds: dict[str, int]
    grey: int
    sizes: dict[str, int]
    brightness: Spread
    classes: list[ClassCount]
    objects: Spread
    sides: Spread
    aspects: Spread
    areas: dict[str, int]
    places: list[list[int]]
    side_counts: list[int]
    side_edges: list[int]


class CopyGroup(msgspec.Struct, frozen=True):
    """Pictures that show the same.

    Attributes:
        images: By split.
        exact: Whether the files are the same.
        labels_differ: Whether they have different numbers of objects of some class.
    """

    images: dict[str, list[str]]
    exact: bool
    labels_differ: bool


class DatasetStatistics(msgspec.Struct, frozen=True):
    """What a dataset holds.

    Attributes:
        dataset: Its description.
        task: What its labels are for.
        whole: Whether its labels are of whole pictures, so that boxes say nothing.
        splits: By name.
        copies: Groups of pictures that show the same, those that leak between splits first.
    """

    dataset: str
    task: str
    whole: bool
    splits: dict[str, SplitFacts]
    copies: list[CopyGroup]

    @property
    def leaks(self) -> list[CopyGroup]:
        """Copies in several splits."""
        return [group for group in self.copies if len(group.images) > 1]


_EDGES = tuple(2**power for power in range(2, 12))  # 4 to 2048 pixels
_CELLS = 8


def statistics_of(
    dataset: Dataset, found: Mapping[str, Sequence[PictureFacts | None]], copies: Iterable[Copies]
) -> DatasetStatistics:
    """Count what is in a dataset.

    Args:
        dataset: The dataset.
        found: What was seen of the pictures of the splits that are wanted.
        copies: Of these pictures.
    """
    groups = []
    for group in copies:
        images: dict[str, list[str]] = {}
        for place in group.places:
            images.setdefault(place.split, []).append(str(place.path))
        groups.append(CopyGroup(images, group.exact, group.labels_differ))
    return DatasetStatistics(
        str(dataset.path),
        dataset.task,
        dataset.form.whole,
        {split: _split(dataset, split, facts) for split, facts in found.items()},
        sorted(groups, key=lambda group: -len(group.images)),
    )


def _split(dataset: Dataset, split: str, facts: Sequence[PictureFacts | None]) -> SplitFacts:
    labels = dataset.labels(split)
    seen = [one for one in facts if one is not None]
    boxes = _boxes(labels, facts)
    extent = boxes[:, 2:4] - boxes[:, :2]
    sides = np.sqrt(extent.prod(axis=1))
    cells = np.clip(boxes[:, 4:] * _CELLS, 0, _CELLS - 1).astype(int)
    places = np.bincount(cells[:, 1] * _CELLS + cells[:, 0], minlength=_CELLS**2).reshape(_CELLS, _CELLS)
    sizes = Counter(f"{one.size[0]} x {one.size[1]}" for one in seen)
    small, medium = int((sides**2 <= SMALL).sum()), int((sides**2 <= MEDIUM).sum())
    octaves = np.bincount(np.searchsorted(_EDGES, sides), minlength=len(_EDGES) + 1)
    return SplitFacts(
        images=len(facts),
        unreadable=len(facts) - len(seen),
        background=sum(not len(entry.class_id) for entry in labels),
        synthetic=sum(image in dataset.synthetic for image in dataset.images(split)),
        bytes=sum(one.bytes for one in seen),
        formats=dict(Counter(one.format for one in seen).most_common()),
        kinds=dict(Counter(f"{one.channels} x {one.bits} bits" for one in seen).most_common()),
        grey=sum(one.grey for one in seen),
        sizes=dict(sizes.most_common()),
        brightness=_spread([one.brightness for one in seen]),
        classes=_classes(dataset, labels),
        objects=_spread([len(entry.class_id) for entry in labels]),
        sides=_spread(sides),
        aspects=_spread(extent[:, 0] / np.maximum(extent[:, 1], 1e-9)),
        areas={"small": small, "medium": medium - small, "large": len(sides) - medium},
        places=[[int(value) for value in row] for row in places],
        side_counts=[int(value) for value in octaves],
        side_edges=list(_EDGES),
    )


def _boxes(labels: Sequence[Labels], facts: Sequence[PictureFacts | None]) -> npt.NDArray[np.float64]:
    """Return left, top, right, bottom in pixels, and x and y of the centre as shares, of all objects."""
    rows = [np.zeros((0, 6))]
    for entry, one in zip(labels, facts, strict=True):
        if one is not None and len(entry.boxes):
            centres = (entry.boxes[:, :2] + entry.boxes[:, 2:]) / 2
            rows.append(np.concatenate([entry.boxes * np.tile(np.array(one.size, np.float64), 2), centres], axis=1))
    return np.concatenate(rows)


def _classes(dataset: Dataset, labels: Sequence[Labels]) -> list[ClassCount]:
    count = len(dataset.class_names)
    objects, images = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for entry in labels:
        of_image = np.bincount(entry.class_id, minlength=count)
        objects += of_image
        images += of_image > 0
    return [ClassCount(name, int(o), int(i)) for name, o, i in zip(dataset.class_names, objects, images, strict=True)]


def _spread(values: Sequence[float] | npt.NDArray[np.float64]) -> Spread:
    if not len(values):
        return Spread()
    return Spread(*(round(float(value), 3) for value in np.quantile(values, (0.05, 0.5, 0.95, 0.0, 1.0))))
