"""Which images are calibrated on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo12edge.calibration.images import choose_images, images_of_folder
from yolo12edge.data.dataset import read_dataset
from yolo12edge.errors import InputError


def write_dataset(folder: Path, classes_of_images: list[list[int]]) -> Path:
    for index, classes in enumerate(classes_of_images):
        for kind in ("images", "labels"):
            (folder / kind / "train").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / "train" / f"{index:03}.png"), np.full((32, 32, 3), index, np.uint8))
        lines = "".join(f"{class_id} 0.5 0.5 0.2 0.2\n" for class_id in classes)
        (folder / "labels" / "train" / f"{index:03}.txt").write_text(lines)
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/train\nnames: [a, b, c]\n")
    return folder / "data.yaml"


def test_rare_classes_are_calibrated_on_too(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path, [[0]] * 40 + [[0, 1]] * 2 + [[2]]))
    chosen = choose_images(dataset, count=6)
    names = [path.stem for path in chosen.paths]
    assert len(names) == len(set(names)) == 6
    assert "042" in names
    assert {"040", "041"} <= set(names)
    assert choose_images(dataset, count=6).paths == chosen.paths
    assert len(choose_images(dataset, count=1000).paths) == 43


def test_images_that_are_scored_are_not_calibrated_on(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path, [[0]] * 5))
    scored = [sample.image for sample in dataset.samples("train")]
    assert len(choose_images(dataset, exclude=scored[:2]).paths) == 3
    with pytest.raises(InputError, match="no images to calibrate on"):
        choose_images(dataset, exclude=scored)


def test_digest_tells_names_contents_and_order(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path, [[0]] * 3))
    chosen = choose_images(dataset)
    assert sorted(chosen.names) == ["images/train/000.png", "images/train/001.png", "images/train/002.png"]
    before = chosen.digest()
    assert choose_images(dataset).digest() == before
    cv2.imwrite(str(chosen.paths[0]), np.full((32, 32, 3), 99, np.uint8))
    assert chosen.digest() != before


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image"):
        images_of_folder(tmp_path)


def test_few_images_are_cautioned_against(tmp_path):
    for index in range(32):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((8, 8, 3), np.uint8))
    images = images_of_folder(tmp_path)
    assert images.caution() == ""
    assert "only 31 calibration images" in images.first(31).caution()
    assert images.first(31).paths == images.paths[:31]


def test_a_file_that_is_gone_is_named(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path, [[0]] * 3))
    chosen = choose_images(dataset)
    chosen.paths[1].unlink()
    with pytest.raises(InputError, match=chosen.paths[1].name):
        chosen.digest()
