"""Pictures that are kept in memory or on disk, and batches of another size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from yolo12edge.data import cache as cache_module
from yolo12edge.data import loader as loader_module
from yolo12edge.data.batch import Batch, resized
from yolo12edge.data.dataset import Sample
from yolo12edge.data.loader import PictureDataset
from yolo12edge.errors import InputError
from yolo12edge.imaging.images import read_image
from yolo12edge.training import TrainConfig

SIZE = 64
COUNT = 5


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    made = []
    for index in range(COUNT):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.full((50, 100, 3), 40 * index + 1, np.uint8))
        made.append(Sample(path, np.zeros(1, np.int64), np.array([[0.2, 0.2, 0.6, 0.8]], np.float32)))
    return made


def pictures(samples: list[Sample], **settings: Any) -> PictureDataset:
    return PictureDataset(samples, image_size=SIZE, **settings)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_kept_pictures_are_the_pictures(samples: list[Sample], cache: Any) -> None:
    kept, plain = pictures(samples, cache=cache), pictures(samples, cache="none")
    assert (kept.cached, plain.cached) == (True, False)
    for index in range(COUNT):
        assert torch.equal(kept[index].image, plain[index].image)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_picture_that_is_gone_is_named(samples: list[Sample], cache: Any) -> None:
    samples[1].image.unlink()
    with pytest.raises(InputError, match=r"1\.png"):
        pictures(samples, cache=cache)


def test_pictures_on_disk_are_found_again_until_their_file_changes(
    samples: list[Sample], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = samples[:1]
    first = pictures(own, cache="disk")[0].image
    (kept,) = folder.rglob("*.npy")
    reads: list[Path] = []
    monkeypatch.setattr(loader_module, "read_image", lambda path: reads.append(path) or read_image(path))
    again = pictures(own, cache="disk")
    assert torch.equal(again[0].image, first)
    assert not reads
    kept.write_bytes(b"\x93NUMPY")  # damaged by somebody
    assert torch.equal(again[0].image, first)
    assert reads
    cv2.imwrite(str(own[0].image), 255 - read_image(own[0].image))
    assert not torch.equal(pictures(own, cache="disk")[0].image, first)
    assert not torch.equal(
        pictures([replace(own[0], image=samples[1].image)], cache="disk")[0].image, first
    )  # another picture


def test_memory_and_disk_are_guarded(samples: list[Sample], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = COUNT * SIZE * SIZE * 3
    assert cache_module.available_memory() > needed
    monkeypatch.setattr(cache_module, "available_memory", lambda: 2 * needed)
    assert not pictures(samples, cache="auto").cached
    assert pictures(samples, cache="ram").cached
    with pytest.raises(InputError, match="memory"):
        pictures(samples, cache="ram", processes=2)
    monkeypatch.setattr(cache_module, "available_memory", lambda: needed)
    with pytest.raises(InputError, match="memory"):
        pictures(samples, cache="ram")
    monkeypatch.setattr(cache_module, "available_memory", lambda: 4 * needed)
    assert pictures(samples, cache="auto").cached
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    with pytest.raises(InputError, match="disk"):
        pictures(samples, cache="disk")
    assert not list(folder.rglob("*.npy"))


def test_memory_that_others_take_meanwhile_is_seen(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    needed = COUNT * SIZE * SIZE * 3
    monkeypatch.setattr(cache_module, "_LOOK_EVERY", 2)
    free = iter([4 * needed, needed // 2] * 2)
    monkeypatch.setattr(cache_module, "available_memory", lambda: next(free))
    assert not pictures(samples, cache="auto").cached
    with pytest.raises(InputError, match="memory"):
        pictures(samples, cache="ram")


def test_disk_that_is_full_is_told(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.np, "save", full)
    with pytest.raises(InputError, match="No space left"):
        pictures(samples, cache="disk")


def test_pictures_of_a_mosaic_are_named(samples: list[Sample]) -> None:
    augment = TrainConfig(data=Path("data"), out=Path("run")).augmentation
    data = pictures(samples, augment=augment, close_mosaic_from=1)
    named = data.sources((0, 3))
    assert named[0] == samples[3].image
    assert 1 < len(named) <= 4
    assert data.sources((1, 3)) == [samples[3].image]


@pytest.mark.parametrize("side", [32, 96])
def test_batch_changes_its_size_with_all_that_is_in_it(side: int) -> None:
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    images[..., 16:32, 8:24] = 200
    masks = torch.zeros(1, 16, 16, dtype=torch.int16)
    masks[0, 4:8, 2:6] = 1
    batch = Batch(
        images,
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.tensor([[8.0, 16, 24, 32]]),
        masks,
        torch.tensor([[[8.0, 16, 2]]]),
        torch.tensor([[16.0, 24, 16, 16, 0.5]]),
    )
    made = resized(batch, side)
    assert made.masks is not None
    assert made.keypoints is not None
    assert made.obb is not None
    left, top, right, bottom = (round(value) for value in made.boxes[0].tolist())
    assert made.images.shape == (1, 3, side, side)
    assert made.images.dtype == torch.uint8
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert ((made.images[0, 0] > 100) == inside).all()
    assert ((made.masks[0] == 1) == inside[2::4, 2::4]).all()
    assert made.masks.dtype == torch.int16
    assert made.keypoints[0, 0].tolist() == [left, top, 2]
    assert made.obb[0].tolist() == [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0.5]
    assert resized(batch, 64) is batch
