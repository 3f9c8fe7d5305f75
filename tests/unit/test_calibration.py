"""Ranges, quantizers and the choice of images, each against a plain reckoning."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo12edge.calibration.images import choose_images, images_of_folder
from yolo12edge.calibration.observe import TensorObserver
from yolo12edge.calibration.quantizers import activation_params, quantize_weight
from yolo12edge.calibration.ranges import METHODS, solve_range
from yolo12edge.calibration.statistics import TensorStatistics
from yolo12edge.data.dataset import read_dataset
from yolo12edge.errors import InputError


def statistics_of(*parts: np.ndarray) -> TensorStatistics:
    observer = TensorObserver()
    for part in parts:
        assert observer.add(part.astype(np.float32))
    return observer.result()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_mse_range_is_as_good_as_brute_force(seed, symmetric):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(20000) * 2
    values = x / (1 + np.exp(-x))  # SiLU: lopsided, as in the network
    values[:3] = [25.0, 31.0, 40.0]  # outliers that clipping should sacrifice
    statistics = statistics_of(*np.array_split(values, 4))  # few enough at once that all enter the histogram
    low, high = solve_range(statistics, "mse", symmetric=symmetric)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        return float(((np.round(np.clip(values, low, high) / step) * step - values) ** 2).sum())

    tries = np.linspace(0.25, 1, 151)
    if symmetric:
        best = min(error(-40 * f, 40 * f) for f in tries)
    else:
        best = min(error(values.min() * g, 40 * f) for f in tries for g in np.linspace(0.3, 1, 29))
    assert error(low, high) <= 1.05 * best
    assert error(low, high) < error(*solve_range(statistics, "minmax", symmetric=symmetric))


def test_percentile_leaves_out_the_outermost_values():
    values = np.concatenate((np.linspace(-1, 1, 100000), [50.0]))
    low, high = solve_range(statistics_of(*np.array_split(values, 20)), "percentile", symmetric=False)
    assert low == pytest.approx(-1, abs=0.02)
    assert high == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[0.0, 0.0], [2.0, 3.0], [-3.0, -2.0], [-1e-30, 1e-30]])
@pytest.mark.parametrize("symmetric", [False, True])
def test_zero_lies_in_every_range_and_is_exact(method, values, symmetric):
    low, high = solve_range(statistics_of(np.array(values)), method, symmetric=symmetric)
    assert low <= 0 <= high
    assert low < high
    params = activation_params(low, high, signed=symmetric)
    assert params.scale > 0
    assert np.isfinite(params.scale)
    assert params.zero_point.dtype == (np.int8 if symmetric else np.uint8)
    if symmetric:
        assert low == -high
        assert params.zero_point == 0


@pytest.mark.parametrize(("reduced", "limit"), [(True, 64), (False, 127)])
def test_weights_are_symmetric_per_channel_and_keep_to_their_bits(reduced, limit):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 16, 3, 3)).astype(np.float32) * np.logspace(-3, 2, 8)[:, None, None, None]
    weight = weight.astype(np.float32)
    weight[3] = 0
    integers, scales = quantize_weight(weight, reduced_range=reduced)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= limit
    assert np.abs(integers.astype(int)).max() > limit // 2
    error = np.abs(integers * scales[:, None, None, None] - weight).reshape(8, -1).max(1)
    peak = np.abs(weight).reshape(8, -1).max(1)
    assert (error <= 0.41 * peak + 1e-12).all()  # clipping may cost the peak up to 40 %
    plain = peak / limit
    rounded = np.round(weight / np.where(plain, plain, 1)[:, None, None, None]) * plain[:, None, None, None]
    assert ((integers * scales[:, None, None, None] - weight) ** 2).sum() <= ((rounded - weight) ** 2).sum() * 1.001


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
