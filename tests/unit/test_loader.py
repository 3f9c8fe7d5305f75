"""Loaders: the same batches for any number of workers, ranks and restarts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.augmentations import STILL, usual
from yolo12edge.data.dataset import Sample
from yolo12edge.data.loader import EpochSampler, Item, PictureDataset, collate, train_loader, val_loader
from yolo12edge.errors import InputError
from yolo12edge.imaging.images import read_image
from yolo12edge.imaging.letterbox import letterbox_image, plan_letterbox

SIZE = 64


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Eleven pictures, each of one grey level of its own, three of them without objects."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    result = []
    for k in range(11):
        height, width = rng.integers(30, 150, size=2).tolist()
        path = folder / f"{k}.png"
        assert cv2.imwrite(str(path), np.full((height, width, 3), 20 * k + 1, np.uint8))
        count = 0 if k % 4 == 3 else k % 4 + 1
        corner = rng.uniform(0, 0.5, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.5, (count, 2))], 1).astype(np.float32)
        result.append(Sample(path, np.full(count, k, np.int64), boxes))
    return result


def dataset(samples, augment=None, **options):
    return PictureDataset(samples, image_size=SIZE, augment=augment, **options)


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(one, other, strict=True))


def epochs(loader, count):
    batches = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def test_workers_do_not_change_batches(samples):
    data = dataset(samples, usual(mixup=0.3, degrees=5), seed=5)
    here, workers = (epochs(train_loader(data, batch_size=3, workers=count), 2) for count in (0, 2))
    assert len(here) == 8
    assert_equal(here, workers)
    assert not torch.equal(here[0].images, here[4].images)


def test_seed_epoch_and_index_decide(samples):
    data, other = (dataset(samples, usual(), seed=seed) for seed in (0, 1))
    assert_equal([data[(3, 2)]], [data[(3, 2)]])
    images = [data[(0, 2)], data[(1, 2)], data[(0, 3)], other[(0, 2)]]
    for k, item in enumerate(images):
        assert not any(torch.equal(item.image, earlier.image) for earlier in images[:k])


def test_cache_does_not_change_pictures(samples):
    cached, plain = (dataset(samples, usual(), cache=cache) for cache in ("ram", "none"))
    assert cached.cached
    assert not plain.cached
    assert_equal([cached[k] for k in range(11)], [plain[k] for k in range(11)])


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_validation_pictures_are_the_runtimes(samples, cache, tmp_path):
    for name, hw in (("wide", (113, 150)), ("tall", (50, 37)), ("exact", (SIZE, 41))):
        noise = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.png"), noise)
        samples = [*samples, Sample(tmp_path / f"{name}.png", samples[2].class_id, samples[2].boxes)]
    data = dataset(samples, cache=cache)
    for index, sample in enumerate(samples):
        image = read_image(sample.image)
        height, width = image.shape[:2]
        letterbox = plan_letterbox((height, width), (SIZE, SIZE))
        item = data[index]
        expected = letterbox_image(image, letterbox)[..., ::-1].transpose(2, 0, 1)
        np.testing.assert_array_equal(item.image.numpy(), expected)
        source = sample.boxes * np.array([width, height, width, height], np.float32)
        np.testing.assert_allclose(item.boxes.numpy(), letterbox.to_network(source), atol=1e-3)
        assert item.class_id.tolist() == sample.class_id.tolist()


def test_colours_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((SIZE, SIZE, 3), (0, 0, 255), np.uint8))
    sample = Sample(tmp_path / "red.png", np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    for augment in (None, STILL):
        image = dataset([sample], augment)[0].image
        assert image.amin((1, 2)).tolist() == image.amax((1, 2)).tolist() == [255, 0, 0]


def test_close_mosaic(samples):
    data = dataset(samples, usual(mixup=1, hsv=(0, 0, 0)), close_mosaic_from=2)
    shades = [[len(set(data[(epoch, k)].image.unique().tolist()) - {114}) for k in range(11)] for epoch in range(4)]
    assert max(shades[0] + shades[1]) > 2
    assert set(shades[2] + shades[3]) == {1}


def test_collate():
    def item(count, value):
        boxes = torch.full((count, 4), float(value))
        return Item(torch.full((3, 4, 4), value, dtype=torch.uint8), torch.full((count,), value), boxes)

    batch = collate([item(2, 5), item(0, 6), item(1, 7)])
    assert batch.images.shape == (3, 3, 4, 4)
    assert batch.images.dtype == torch.uint8
    assert batch.image_index.tolist() == [0, 0, 2]
    assert batch.class_id.tolist() == [5, 5, 7]
    assert batch.boxes[:, 0].tolist() == [5, 5, 7]
    assert (batch.image_index.dtype, batch.class_id.dtype, batch.boxes.dtype) == (
        torch.int64,
        torch.int64,
        torch.float32,
    )
    nothing = collate([item(0, 1), item(0, 2)])
    assert nothing.image_index.shape == (0,)
    assert nothing.image_index.dtype == torch.int64
    assert nothing.boxes.shape == (0, 4)


def test_resume_gives_the_rest_of_the_epoch(samples):
    data = dataset(samples, usual(), seed=2)
    whole = epochs(train_loader(data, batch_size=3, workers=0), 3)
    loader = train_loader(data, batch_size=3, workers=0)
    loader.sampler.resume_at(1, 2)
    assert len(loader) == 4
    loader.sampler.set_epoch(1)  # as a trainer does at the start of each epoch
    rest = list(loader)
    loader.sampler.set_epoch(2)
    assert_equal(rest + list(loader), whole[6:])


def test_orders_differ_by_epoch_and_seed():
    sampler, other = (EpochSampler(100, batch_size=4, shuffle=True, seed=seed) for seed in (0, 1))
    first = list(sampler)
    assert first == list(sampler)
    assert sorted(index for _, index in first) == list(range(100))
    assert first != list(other)
    running = iter(sampler)
    sampler.set_epoch(1)
    assert list(running) == first  # a new epoch does not reach into one that runs
    assert {epoch for epoch, _ in sampler} == {1}
    assert [index for _, index in sampler] != [index for _, index in first]


@pytest.mark.parametrize(("length", "world"), [(11, 1), (11, 2), (11, 4), (3, 5)])
def test_ranks_share_an_epoch(length, world):
    train, val = (
        [EpochSampler(length, batch_size=2, shuffle=shuffle, rank=rank, world_size=world) for rank in range(world)]
        for shuffle in (True, False)
    )
    for samplers in (train, val):
        assert all(len(list(sampler)) == len(sampler) for sampler in samplers)
        assert {index for sampler in samplers for _, index in sampler} == set(range(length))
    assert len({len(sampler) for sampler in train}) == 1
    assert sum(len(sampler) for sampler in val) == length


@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_together_do_the_batches_of_one(shuffle):
    def batches(rank: int, world: int, size: int) -> list[set[int]]:
        order = [index for _, index in EpochSampler(23, batch_size=size, shuffle=shuffle, rank=rank, world_size=world)]
        return [set(order[start : start + size]) for start in range(0, len(order), size)]

    whole = batches(0, 1, 4)
    first, second = (batches(rank, 2, 2 if shuffle else 4) for rank in (0, 1))
    if shuffle:
        assert len(first) == len(second) == len(whole)
        assert [one | other for one, other in zip(first, second, strict=True)][:-1] == whole[:-1]
        assert first[-1] | second[-1] > whole[-1]  # filled up to an even number
    else:
        assert (first, second) == (whole[::2], whole[1::2])


def test_val_loader_is_in_order(samples):
    batches = list(val_loader(dataset(samples), batch_size=4, workers=0))
    assert [len(batch.images) for batch in batches] == [4, 4, 3]
    order = torch.cat([batch.class_id for batch in batches])
    assert order.tolist() == sorted(order.tolist())


def test_wrong_arguments(samples):
    with pytest.raises(InputError, match="no samples"):
        PictureDataset([], image_size=SIZE)
    with pytest.raises(InputError, match="image_size"):
        PictureDataset(samples, image_size=0)
    with pytest.raises(InputError, match="seed"):
        dataset(samples, seed=-1)
    with pytest.raises(InputError, match="cache"):
        dataset(samples, cache="tape")
    with pytest.raises(InputError, match="rank"):
        EpochSampler(5, batch_size=1, shuffle=True, rank=2, world_size=2)
    with pytest.raises(InputError, match="batch_size"):
        EpochSampler(5, batch_size=0, shuffle=True)
    with pytest.raises(IndexError):
        dataset(samples)[11]


def test_unreadable_picture_is_named(samples, tmp_path):
    broken = Sample(tmp_path / "gone.png", samples[0].class_id, samples[0].boxes)
    with pytest.raises(InputError, match=r"gone\.png"):
        dataset([*samples, broken], cache="ram")
