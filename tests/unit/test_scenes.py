from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo12edge.data import scenes
from yolo12edge.data.report import check_dataset
from yolo12edge.data.scenes import CLASS_NAMES, MAX_OBJECTS, MIN_SIDE, MIN_VISIBLE, generate_scenes, render_scene
from yolo12edge.errors import InputError


@pytest.fixture(scope="module")
def many() -> list[scenes.Scene]:
    return [render_scene(seed=0, split="train", index=index, size=160) for index in range(120)]


def test_a_scene_depends_on_nothing_but_its_arguments(many: list[scenes.Scene]) -> None:
    again = render_scene(seed=0, split="train", index=77, size=160)  # alone, and after the others
    assert np.array_equal(again.image, many[77].image)
    assert np.array_equal(again.boxes, many[77].boxes)
    assert np.array_equal(again.instance, many[77].instance)


def test_seeds_splits_and_indices_are_different_streams(many: list[scenes.Scene]) -> None:
    pictures = [scene.image for scene in many[:20]]
    pictures += [render_scene(seed=0, split="val", index=index, size=160).image for index in range(20)]
    pictures += [render_scene(seed=1, split="train", index=index, size=160).image for index in range(20)]
    assert len({picture.tobytes() for picture in pictures}) == 60


def test_every_box_encloses_exactly_the_visible_pixels(many: list[scenes.Scene]) -> None:
    for scene in many:
        assert set(np.unique(scene.instance)) - {0} == set(range(1, len(scene.boxes) + 1))
        for number, (left, top, right, bottom) in enumerate(scene.boxes.tolist(), start=1):
            rows, columns = np.nonzero(scene.instance == number)
            assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert min(right - left, bottom - top) >= MIN_SIDE * 160
        assert (scene.visible >= MIN_VISIBLE).all()


def test_the_instance_map_is_what_was_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks laid far to near, as the picture is painted, give the map that was found near to far."""
    painted: list[Any] = []
    monkeypatch.setattr(scenes, "_paint", lambda image, item, **_: painted.append(item))
    hidden = 0
    for index in range(30):
        painted.clear()
        scene = render_scene(seed=3, split="train", index=index, size=160)
        expected = np.zeros((160, 160), np.int16)
        number = len(scene.boxes)  # the farthest object has the highest number
        for item in painted:
            inside, own = item.overlap(160)
            mask = item.sprite.bgra[own][..., 3] >= 128
            hidden += np.count_nonzero(expected[inside][mask])
            expected[inside][mask] = number if item.class_id >= 0 else 0
            number -= item.class_id >= 0
        assert np.array_equal(scene.instance, expected)
    assert hidden > 1000  # there was occlusion to get wrong


def test_an_object_changes_the_picture_where_its_mask_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of all masks and shadows a picture is its background; inside it is not."""
    monkeypatch.setattr(scenes, "relight", lambda rng, image: image)
    monkeypatch.setattr(scenes, "camera", lambda rng, image: image)
    full = [render_scene(seed=5, split="train", index=index, size=160) for index in range(12)]
    monkeypatch.setattr(scenes, "_paint", lambda *_, **__: None)
    empty = [render_scene(seed=5, split="train", index=index, size=160) for index in range(12)]
    changed = [
        np.abs(a.image.astype(int) - b.image).max(axis=2)[a.instance > 0] > 3 for a, b in zip(full, empty, strict=True)
    ]
    assert np.concatenate(changed).mean() > 0.97


def test_scenes_are_varied(many: list[scenes.Scene]) -> None:
    counts = [len(scene.boxes) for scene in many]
    assert min(counts) == 0
    assert max(counts) <= MAX_OBJECTS
    assert np.mean(counts) > 2.5
    per_class = np.bincount(np.concatenate([scene.class_id for scene in many]), minlength=len(CLASS_NAMES))
    assert per_class.min() > 25
    side = np.concatenate([np.sqrt(np.diff(scene.boxes.reshape(-1, 2, 2), axis=1).prod(axis=2)) for scene in many])
    assert side.min() < 12 < 70 < side.max()
    assert any((scene.visible < 0.8).any() for scene in many)
    brightness = [scene.image.mean() for scene in many]
    assert min(brightness) < 60 < 150 < max(brightness)


def test_dataset_on_disk_agrees_with_the_scenes(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    dataset = generate_scenes(
        tmp_path / "a",
        train=6,
        val=3,
        test=1,
        size=96,
        seed=4,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, 10) for done in range(1, 11)]
    assert dataset.class_names == CLASS_NAMES
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 6, "val": 3, "test": 1}
    errors = check_dataset(dataset, splits=("train", "val", "test"), full=True)
    assert not [problem for problem in errors.problems if "no object of" not in problem.message]
    for split in dataset.splits:
        for index, sample in enumerate(dataset.samples(split)):
            scene = render_scene(seed=4, split=split, index=index, size=96)
            assert np.allclose(sample.boxes * 96, scene.boxes, atol=1e-3)
            assert np.array_equal(sample.class_id, scene.class_id)
    generate_scenes(tmp_path / "b", train=6, val=3, test=1, size=96, seed=4)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_scenes(tmp_path / "a", train=4, val=1, size=64, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [{"train": 0, "val": 0}, {"train": -1, "val": 3}, {"train": 1, "val": 1, "size": 8}]
)
def test_senseless_arguments_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(InputError):
        generate_scenes(tmp_path / "a", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        generate_scenes(tmp_path, train=1, val=1, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
