"""Batches for training and validation, the same ones for any number of workers.

The sampler hands out ``(epoch, index)``, and all randomness of a picture is seeded by ``(seed, epoch, index)``. So
there is no state to share with worker processes, and a resumed run sees exactly the pictures that it would have seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import InputError
from ..imaging.images import read_image
from ..keypoints import KeypointSpec
from ..manifest import Task
from .augment import Augmentation, Picture
from .batch import Batch, Item, collate
from .cache import Cache, kept_pictures
from .forms import FORMS
from .pipelines import PIPELINES, labelled_picture, possible_augmentation

if TYPE_CHECKING:
    from .dataset import Sample

__all__ = [
    "Batch",
    "EpochSampler",
    "Item",
    "PictureDataset",
    "collate",
    "train_loader",
    "val_loader",
    "worker_options",
]


class PictureDataset(Dataset[Item]):
    """Labelled pictures of any task at the network's size, augmented for training or as the Runtime sees them.

    Args:
        samples: Pictures with their labels, of one task.
        image_size: Side of the square output in pixels.
        task: Which.
        keypoints: The keypoints of an object; needed for pose.
        augment: How to augment; None does only what the Runtime does, which is the letterbox or, for classify, cutting
            out the middle.
        seed: Seed of every random choice; not negative.
        cache: Where the decoded, resized pictures are kept, as ``kept_pictures`` has it. They are decoded when the
            dataset is made, so that worker processes share one copy.
        close_mosaic_from: From this epoch on, pictures are neither tiled nor blended; None never.
        processes: How many on this machine keep the same pictures, for a memory that all of them share.

    Raises:
        InputError: If there are no samples, an argument is out of range, a picture cannot be read, or
            memory or disk do not hold the cache that is asked for.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        image_size: int,
        task: Task = "detect",
        keypoints: KeypointSpec | None = None,
        augment: Augmentation | None = None,
        seed: int = 0,
        cache: Cache = "auto",
        close_mosaic_from: int | None = None,
        processes: int = 1,
    ) -> None:
        if not samples:
            raise InputError("there are no samples", expected="at least one picture")
        if image_size <= 0:
            raise InputError(f"image_size is {image_size}", expected="a positive number of pixels")
        if seed < 0:
            raise InputError(f"seed is {seed}", expected="0 or more")
        if task == "pose" and keypoints is None:
            raise InputError("the keypoints of the pictures are not given", expected="those of the dataset")
        if augment is not None:
            augment = possible_augmentation(augment, task, keypoints)
        self.samples = list(samples)
        self.image_size = image_size
        self.task = task
        self.keypoints = keypoints
        self.augment = augment
        self._form = FORMS[task]
        self._pipeline = PIPELINES[task]
        self.seed = seed
        self.close_mosaic_from = close_mosaic_from
        self._kept = kept_pictures(
            cache,
            self._read,
            [sample.image for sample in self.samples],
            needed=int(len(self.samples) * image_size**2 * 3 * self._pipeline.share),
            recipe=f"{self._keep.__name__} {image_size}",
            processes=processes,
        )

    @property
    def cached(self) -> bool:
        """Whether the pictures are kept, in memory or on disk."""
        return self._kept is not None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        """Return the picture of ``(epoch, index)``; a bare index is one of epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a dataset of {len(self)} pictures")
        picture = self.picture(epoch, index)
        targets = self._form.targets(picture.labels, self.image_size)
        return Item(
            torch.from_numpy(np.ascontiguousarray(picture.image.transpose(2, 0, 1))),
            torch.from_numpy(picture.labels.class_id.astype(np.int64)),
            torch.from_numpy(picture.labels.boxes.astype(np.float32)),
            **{name: torch.from_numpy(array) for name, array in targets.items()},
        )

    def picture(self, epoch: int, index: int) -> Picture:
        """Return the picture of an epoch and an index, as the network gets it, with all that is labelled in it."""
        return self._picture((epoch, index), self._load)

    def _picture(self, key: tuple[int, int], load: Callable[[int], Picture]) -> Picture:
        epoch, index = key
        if self.augment is None:
            return self._pipeline.plain(load(index), size=self.image_size)
        closed = self.close_mosaic_from is not None and epoch >= self.close_mosaic_from
        return self._pipeline.augmented(
            load,
            index,
            count=len(self),
            size=self.image_size,
            augmentation=self.augment.without_mixing() if closed else self.augment,
            rng=np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key)),
        )

    def _load(self, index: int) -> Picture:
        sample = self.samples[index]
        image = (self._kept or self._read)(index)
        return labelled_picture(image, sample, self.task, self.keypoints)

    def sources(self, key: tuple[int, int]) -> list[Path]:
        """Return the files of the pictures that make up the picture of ``(epoch, index)``, itself first."""
        seen = [key[1]]

        def load(index: int) -> Picture:
            seen.append(index)
            return self._load(index)

        self._picture(key, load)
        return [self.samples[index].image for index in dict.fromkeys(seen)]

    @property
    def _keep(self) -> Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]]:
        return self._pipeline.keep_plain if self.augment is None else self._pipeline.keep

    def _read(self, index: int) -> npt.NDArray[np.uint8]:
        """Decode a picture to RGB, at the size that it is kept at."""
        image = self._keep(read_image(self.samples[index].image), self.image_size)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class EpochSampler(Sampler[tuple[int, int]]):
    """Hands out ``(epoch, index)`` for one of several ranks, shuffled anew, but reproducibly, in each epoch.

    Shuffled (training), every rank gets the same number of pictures: the start of the order is repeated at its end
    where needed; the ranks' n-th batches together are the n-th batch of a single rank with as many pictures. In order
    (validation), every picture is given exactly once over all ranks, in whole batches, of which ranks take turns.

    Args:
        length: Number of pictures.
        batch_size: Pictures of one rank in a step; needed to skip steps when resuming.
        shuffle: A new order in each epoch.
        seed: Seed of the orders.
        rank: This process, from 0.
        world_size: Number of processes.
    """

    def __init__(
        self, length: int, *, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if not 0 <= rank < world_size:
            raise InputError(f"rank is {rank} of {world_size}", expected="0 <= rank < world_size")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}", expected="at least 1")
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._resume = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; call it before iterating the loader."""
        self.epoch = epoch

    def resume_at(self, epoch: int, step: int) -> None:
        """Start epoch ``epoch`` at step ``step``, as if the steps before it had been done; other epochs are whole."""
        self.epoch = epoch
        self._resume = (epoch, step)

    def __len__(self) -> int:
        """Return the pictures of a whole epoch on this rank, whether or not the epoch is resumed midway."""
        return -(-self.length // self.world_size) if self.shuffle else len(self._in_turn())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.shuffle:
            order = np.arange(self.length)
            np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.epoch,))).shuffle(order)
            mine = np.resize(order, len(self) * self.world_size)[self.rank :: self.world_size]
        else:
            mine = self._in_turn()
        resumed, step = self._resume
        skipped = step * self.batch_size if resumed == self.epoch else 0
        return iter([(self.epoch, index) for index in mine[skipped:].tolist()])

    def _in_turn(self) -> npt.NDArray[np.int64]:
        index = np.arange(self.length)
        return np.asarray(index[index // self.batch_size % self.world_size == self.rank], np.int64)


def train_loader(
    dataset: PictureDataset, *, batch_size: int, workers: int, rank: int = 0, world_size: int = 1, pin: bool = False
) -> DataLoader[Item]:
    """Return the loader of training: shuffled by epoch; its sampler is an ``EpochSampler``.

    Call ``loader.sampler.set_epoch(epoch)`` before each epoch (Lightning does so by itself) and
    ``loader.sampler.resume_at(epoch, step)`` to go on in the middle of one.

    Args:
        dataset: What to load.
        batch_size: Pictures in a step of this process; the last step of an epoch may have fewer.
        workers: Worker processes; 0 loads in this process.
        rank: This process among ``world_size``.
        world_size: Number of processes that share the dataset.
        pin: Copy batches to pinned memory, for a faster transfer to a GPU.
    """
    return _loader(dataset, batch_size, workers, rank, world_size, pin, shuffle=True)


def val_loader(
    dataset: PictureDataset, *, batch_size: int, workers: int, rank: int = 0, world_size: int = 1, pin: bool = False
) -> DataLoader[Item]:
    """Return the loader of validation: in order, each picture exactly once; arguments as of ``train_loader``."""
    return _loader(dataset, batch_size, workers, rank, world_size, pin, shuffle=False)


def _loader(
    dataset: PictureDataset, batch_size: int, workers: int, rank: int, world_size: int, pin: bool, *, shuffle: bool
) -> DataLoader[Item]:
    sampler = EpochSampler(
        len(dataset), batch_size=batch_size, shuffle=shuffle, seed=dataset.seed, rank=rank, world_size=world_size
    )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        pin_memory=pin,
        **worker_options(workers),
    )


def worker_options(workers: int) -> dict[str, Any]:
    """Return what a ``DataLoader`` of so many worker processes is made with; 0 loads in this process."""
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "worker_init_fn": _single_threaded,
        # Forked workers share the cached pictures; other start methods would copy them to each worker.
        "multiprocessing_context": "fork" if workers > 0 and sys.platform == "linux" else None,
    }


def _single_threaded(worker: int) -> None:
    """Keep OpenCV from starting a thread pool in each worker."""
    cv2.setNumThreads(0)
