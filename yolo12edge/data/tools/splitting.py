"""Splitting: groups of pictures are dealt out so that every split gets its share of every class.

The rarest class is dealt first, each group of it to the split that lacks it most: iterative stratification (Sechidis,
Tsoumakas and Vlahavas, 2011), here over groups of pictures that must stay together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..dataset import Dataset
from .copies import Copies, Place, connected

__all__ = ["deal", "fold_pictures", "split_pictures"]


def split_pictures(
    dataset: Dataset, pool: Sequence[str], copies: Sequence[Copies], shares: Mapping[str, float], *, seed: int
) -> dict[str, list[Place]]:
    """Return which pictures each new split has; copies of a picture stay together, what is synthetic is trained on.

    Args:
        dataset: Where the pictures are.
        pool: The splits whose pictures are dealt out.
        copies: Of the dataset.
        shares: Of the pictures, by new split; they sum up to 1.
        seed: The same seed deals the same way.

    Raises:
        InputError: If there are too few pictures.
    """
    places, dealt = _deal_pictures(dataset, pool, copies, list(shares.values()), seed)
    choice = {
        split: [place for place, to in zip(places, dealt, strict=True) if to == number]
        for number, split in enumerate(shares)
    }
    return {**choice, "train": choice.get("train", []) + _synthetic(dataset, pool)}


def fold_pictures(
    dataset: Dataset, pool: Sequence[str], copies: Sequence[Copies], folds: int, *, seed: int
) -> list[dict[str, list[Place]]]:
    """Return ``train`` and ``val`` of each fold: every picture is in one ``val``, and its copies are in the same.

    Raises:
        InputError: If there are too few pictures.
    """
    places, dealt = _deal_pictures(dataset, pool, copies, [1 / folds] * folds, seed)
    return [
        {
            "train": [place for place, to in zip(places, dealt, strict=True) if to != fold] + _synthetic(dataset, pool),
            "val": [place for place, to in zip(places, dealt, strict=True) if to == fold],
        }
        for fold in range(folds)
    ]


def _deal_pictures(
    dataset: Dataset, pool: Sequence[str], copies: Sequence[Copies], shares: Sequence[float], seed: int
) -> tuple[list[Place], list[int]]:
    """Return the pictures that are not synthetic, and the number of the split that each is dealt to."""
    places = [place for place in _places(dataset, pool) if place.path not in dataset.synthetic]
    number = {(place.split, place.index): at for at, place in enumerate(places)}
    known = [[number.get((place.split, place.index)) for place in group.places] for group in copies]
    together = [[at for at in group if at is not None] for group in known]
    pairs = [(group[0], other) for group in together for other in group[1:]]
    _, group_of = np.unique(connected(pairs, len(places)), return_inverse=True)
    group_of = group_of.reshape(-1)
    counts = np.zeros((int(group_of.max(initial=-1)) + 1, len(dataset.class_names)), np.int64)
    labels = {split: dataset.labels(split) for split in pool}
    for group, place in zip(group_of.tolist(), places, strict=True):
        counts[group] += np.bincount(labels[place.split][place.index].class_id, minlength=counts.shape[1])
    dealt = deal(counts, np.bincount(group_of, minlength=len(counts)), shares, seed=seed)
    return places, [int(to) for to in dealt[group_of]]


def _places(dataset: Dataset, pool: Sequence[str]) -> list[Place]:
    return [Place(split, index, path) for split in pool for index, path in enumerate(dataset.images(split))]


def _synthetic(dataset: Dataset, pool: Sequence[str]) -> list[Place]:
    return [place for place in _places(dataset, pool) if place.path in dataset.synthetic]


def deal(
    counts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], shares: Sequence[float], *, seed: int
) -> npt.NDArray[np.int64]:
    """Return which split each group belongs to.

    Args:
        counts: int64, shape (groups, classes): objects of each class in the pictures of each group.
        sizes: int64, shape (groups,): pictures of each group.
        shares: Of the pictures that each split shall have; they sum up to 1.
        seed: The same seed deals the same way.

    Raises:
        InputError: If there are fewer groups than splits.
    """
    if len(counts) < len(shares):
        raise InputError(
            f"there are {len(counts)} groups of different pictures for {len(shares)} splits",
            expected="at least one group for each split",
        )
    rng = np.random.default_rng(seed)
    share = np.asarray(shares, np.float64)
    lacking = share[:, None] * counts.sum(axis=0)  # (splits, classes)
    room = share * sizes.sum()
    split = np.full(len(counts), -1, np.int64)
    holds = counts > 0
    remaining = holds.sum(axis=0)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large groups while there is room

    def put(group: int, wish: npt.NDArray[np.float64]) -> None:
        best = np.flatnonzero(wish == wish.max())
        best = best[room[best] == room[best].max()]
        chosen = int(best[rng.integers(len(best))])
        split[group] = chosen
        lacking[chosen] -= counts[group]
        room[chosen] -= sizes[group]
        remaining[holds[group]] -= 1

    while remaining.any():
        rarest = int(np.where(remaining > 0, remaining, np.iinfo(np.int64).max).argmin())
        for group in order[holds[order, rarest] & (split[order] < 0)].tolist():
            put(group, lacking[:, rarest])
    for group in order[split[order] < 0].tolist():
        put(group, room)
    _fill_empty(split, sizes, len(shares))
    return split


def _fill_empty(split: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], splits: int) -> None:
    """Give every split at least one group: the smallest of the split that has the most."""
    for empty in [number for number in range(splits) if not (split == number).any()]:
        donor = int(np.bincount(split, minlength=splits).argmax())
        groups = np.flatnonzero(split == donor)
        split[groups[sizes[groups].argmin()]] = empty
