"""Pseudo-labels: datasets to train with, without the pictures that are scored; here and on a cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.ray_workers import ray_workers
from yolo12edge.cli import app
from yolo12edge.cluster import look
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.report import check_dataset
from yolo12edge.thresholds import Thresholds

SURE = Thresholds(confidence=0.3)


def write_dataset(root: Path, frames: list[np.ndarray], task: str) -> Path:
    """Two labelled pictures to train with and one to validate with."""
    lines = {
        "detect": "0 .5 .5 .4 .4",
        "segment": "0 .3 .3 .7 .3 .5 .7",
        "pose": "0 .5 .5 .4 .4 " + "0.5 0.5 2 " * 4,
        "obb": "0 .3 .3 .7 .3 .7 .7 .3 .7",
    }
    names = ["0: a", "1: b", "2: c"]
    for index, frame in enumerate(frames[:3]):
        split = "val" if index == 2 else "train"
        if task == "classify":
            folders = [root / split / name for name in "abc"]
        else:
            folders = [root / "images" / split]
            label = root / "labels" / split / f"{index}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(lines[task] + "\n")
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{index}.png"), frame)
    if task == "classify":
        return root
    points = "kpt_shape: [4, 3]\nflip_idx: [1, 0, 2, 3]\n" if task == "pose" else ""
    (root / "data.yaml").write_text(
        f"task: {task}\ntrain: images/train\nval: images/val\nnames: {{{', '.join(names)}}}\n{points}"
    )
    return root / "data.yaml"


@pytest.fixture
def unlabelled(tmp_path: Path, scene_frames: list[np.ndarray]) -> Path:
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for index, frame in enumerate(scene_frames[2:]):  # the first is the picture to validate with, smaller and as JPEG
        cv2.imwrite(str(folder / f"{index}.jpg"), cv2.resize(frame, (128, 128)) if index == 0 else frame)
    cv2.imwrite(str(folder / "labelled.png"), scene_frames[0])
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
def test_labels_are_a_dataset_without_what_is_scored(
    task: str,
    tmp_path: Path,
    unlabelled: Path,
    scene_frames: list[np.ndarray],
    tiny_onnx_of: Callable[[str], Any],
) -> None:
    data = write_dataset(tmp_path / "data", scene_frames, task)
    out = tmp_path / "pseudo"
    command = ["pseudo-label", str(tiny_onnx_of(task).path), str(unlabelled), "--data", str(data), "--out", str(out)]
    command += ["--confidence", "0.3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output  # broken.jpg
    assert "3 pictures labelled" in result.output
    assert "2 left out because the dataset holds them, 1 not read" in result.output
    dataset = read_dataset(out / "data.yaml")
    before = read_dataset(data, task=task)  # type: ignore[arg-type]
    assert (dataset.task, dataset.class_names, dataset.keypoints) == (task, before.class_names, before.keypoints)
    assert set(dataset.images("val")) == set(before.images("val"))
    new = [sample for sample in dataset.samples("train") if sample.image not in set(before.images("train"))]
    assert len(new) == 3
    assert all(len(sample) for sample in new)
    check_dataset(dataset).raise_for_errors()
    again = CliRunner().invoke(app, command)
    assert "is not an empty folder" in str(again.exception)


@pytest.mark.slow
def test_cluster_sees_the_same_although_a_worker_is_killed(
    tmp_path: Path, scene_frames: list[np.ndarray], tiny_onnx_of: Callable[[str], Any]
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    pictures = []
    for index in range(48):
        pictures.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(pictures[-1]), np.roll(scene_frames[index % 6], index, axis=1))
    model = tiny_onnx_of("detect").path
    here = list(look(model, pictures, thresholds=SURE))
    killed: list[int] = []
    there = []
    for entry in look(model, pictures, thresholds=SURE, cluster="local", workers=2):
        there.append(entry)
        if not killed:
            killed += ray_workers("MapWorker")[:1]
            os.kill(killed[0], signal.SIGKILL)
    assert killed
    assert sorted(entry.index for entry in there) == list(range(48))
    for mine, theirs in zip(here, sorted(there, key=lambda entry: entry.index), strict=True):
        assert mine.detections is not None
        assert theirs.detections is not None
        assert np.array_equal(mine.detections.xyxy, theirs.detections.xyxy)
