"""Batches of views, the same ones for any number of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...data.loader import EpochSampler, worker_options
from ...imaging.draw import evenly
from ...imaging.images import read_image
from ..module import images_to_float
from .pretext import Pretext
from .views import Image, chw, plain

__all__ = ["ViewDataset", "plain_batches", "read_rgb", "view_loader"]

_FITTED = 256  # pictures that the statistics of batch norms are taken from


class ViewDataset(Dataset[tuple[Tensor, ...]]):
    """What a method makes of pictures; all randomness of one is seeded by ``(seed, epoch, index)``.

    Args:
        paths: The pictures.
        pretext: The method.
        image_size: Side of the network's input in pixels.
        seed: Seed of every random choice.
    """

    def __init__(self, paths: Sequence[Path], pretext: type[Pretext], *, image_size: int, seed: int) -> None:
        self.paths = list(paths)
        self.pretext = pretext
        self.image_size = image_size
        self.seed = seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the views of ``(epoch, index)``."""
        epoch, index = key
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(epoch, index)))
        views = self.pretext.views(read_rgb(self.paths[index]), self.image_size, rng)
        return tuple(torch.from_numpy(np.asarray(view)) for view in views)


def view_loader(dataset: ViewDataset, *, batch: int, workers: int, pin: bool) -> DataLoader[tuple[Tensor, ...]]:
    """Return the loader of a run: shuffled by epoch, whole batches only, for one picture has nothing to differ from.

    Args:
        dataset: What to load.
        batch: Pictures in a step; all of the dataset if it has fewer.
        workers: Worker processes; 0 loads in this process.
        pin: Copy batches to pinned memory.
    """
    batch = min(batch, len(dataset))
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=EpochSampler(len(dataset), batch_size=batch, shuffle=True, seed=dataset.seed),
        drop_last=True,
        pin_memory=pin,
        **worker_options(workers),
    )


def plain_batches(paths: Sequence[Path], *, image_size: int, batch: int, device: torch.device) -> Iterator[Tensor]:
    """Give pictures without distortion, spread evenly over all, as images (B, 3, S, S) in [0, 1]."""
    chosen = [paths[index] for index in evenly(len(paths), _FITTED)]
    for start in range(0, len(chosen), batch):
        images = np.stack([chw(plain(read_rgb(path), image_size)) for path in chosen[start : start + batch]])
        yield images_to_float(torch.from_numpy(images).to(device))


def read_rgb(path: Path) -> Image:
    """Read a picture as uint8 (H, W, 3), RGB."""
    return np.asarray(cv2.cvtColor(read_image(path), cv2.COLOR_BGR2RGB), np.uint8)
