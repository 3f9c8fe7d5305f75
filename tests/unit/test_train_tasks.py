"""Training for every task, on a handful of generated pictures; ``tests/task_data.py`` draws them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.task_data import CLASS_NAMES, make_dataset
from yolo12edge.checkpoint import Checkpoint
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.loader import Item, PictureDataset, collate
from yolo12edge.manifest import TASKS, Task
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training import EpochRecord, TrainConfig, train
from yolo12edge.training.losses import LOSSES, LossSettings
from yolo12edge.training.module import images_to_float
from yolo12edge.training.samples import as_detections, draw_training_samples
from yolo12edge.training.trainer import transfer_weights
from yolo12edge.training.validation import Validation

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

HEADLINE = {
    "detect": "box AP50-95",
    "segment": "mask AP50-95",
    "classify": "top-1",
    "pose": "keypoint AP50-95",
    "obb": "rotated AP50-95",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    root = tmp_path_factory.mktemp("tasks")
    return {task: make_dataset(task, root / task, images=4, size=96) for task in TASKS}


def config(data: Path, out: Path) -> TrainConfig:
    return TrainConfig(data=data, out=out, epochs=1, batch=4, image_size=64, workers=0, device="cpu")


@pytest.mark.parametrize("task", TASKS)
def test_run_of_each_task(data: dict[Task, Path], tmp_path: Path, task: Task) -> None:
    records: list[EpochRecord] = []
    result = train(config(data[task], tmp_path / "run"), on_epoch=records.append)
    checkpoint = Checkpoint.load(result.files.best)
    assert (checkpoint.meta.task, tuple(checkpoint.meta.class_names)) == (task, CLASS_NAMES)
    assert (checkpoint.meta.keypoints is not None) == (task == "pose")
    assert checkpoint.meta.training["epoch"] == 1
    checkpoint.model()
    with result.files.results.open() as file:
        (row,) = csv.DictReader(file)
    for part in LOSSES[task](LossSettings(keypoints=checkpoint.meta.keypoints)).parts:
        assert np.isfinite([float(row[f"train/{part}"]), float(row[f"val/{part}"])]).all()
    assert next(iter(records[0].figures)) == HEADLINE[task]
    assert result.files.samples.is_file()


@pytest.mark.parametrize("task", TASKS)
def test_labels_that_are_predicted_score_full_marks(data: dict[Task, Path], task: Task) -> None:
    """What the loader gives, read as outputs of the network, is what validation calls right."""
    dataset = read_dataset(data[task])
    samples = dataset.samples("val")
    size = 96
    pictures = PictureDataset(samples, image_size=size, task=task, keypoints=dataset.keypoints)
    validation = Validation(dataset, samples, image_size=size)
    validation.start()
    for index in range(len(samples)):
        validation.add(perfect_outputs(task, collate([pictures[0, index]]), size, len(dataset.class_names)))
    # Masks are learnt on a grid of four pixels, which is coarse for objects of thirty.
    assert validation.score().score >= (0.6 if task == "segment" else 0.999)


def perfect_outputs(task: Task, batch, size: int, classes: int) -> dict[str, torch.Tensor]:  # type: ignore[no-untyped-def]
    """Return the outputs by role that say just what one picture is labelled with."""
    scores = torch.nn.functional.one_hot(batch.class_id, classes).float()
    if task == "classify":
        return {"probabilities": scores.amax(0, keepdim=True)}
    outputs = {"boxes": batch.boxes.t()[None], "scores": scores.t()[None]}
    if task == "segment":
        numbers = torch.arange(1, 33)[:, None, None]
        prototypes = (batch.masks == numbers).float() * 20 - 10
        outputs |= {"coefficients": torch.eye(32)[:, : len(batch.class_id)][None], "prototypes": prototypes[None]}
    if task == "pose":
        points = torch.cat((batch.keypoints[..., :2], (batch.keypoints[..., 2:] > 0).float()), 2)
        outputs["keypoints"] = points.flatten(1).t()[None]
    if task == "obb":
        outputs = {"scores": outputs["scores"]}
        outputs |= {"rotated_boxes": batch.obb[:, :4].t()[None], "angles": batch.obb[:, 4:].t()[None]}
    return outputs


@pytest.mark.parametrize("task", TASKS)
def test_network_learns_a_batch(data: dict[Task, Path], task: Task) -> None:
    torch.manual_seed(0)
    dataset = read_dataset(data[task])
    pictures = PictureDataset(dataset.samples("train"), image_size=96, task=task, keypoints=dataset.keypoints)
    batch = collate([pictures[0, index] for index in range(3)])
    network = build_model(
        ModelConfig(task=task, num_classes=len(dataset.class_names), keypoints=dataset.keypoints)
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    loss = LOSSES[task](LossSettings(keypoints=dataset.keypoints))
    losses = []
    for _ in range(13):
        parts = loss(network(images_to_float(batch.images)), batch)
        total = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.75 * losses[0]


def test_weights_of_one_task_start_another(data: dict[Task, Path], tmp_path: Path) -> None:
    first = train(config(data["detect"], tmp_path / "boxes"))
    origin = Checkpoint.load(first.files.last)
    transfer = transfer_weights(build_model(ModelConfig(task="segment", num_classes=2)), origin.tensors)
    assert all(key.startswith(("model.21.cv4.", "model.21.proto.")) for key in transfer.skipped)
    started = replace(config(data["classify"], tmp_path / "classes"), weights=first.files.last)
    plans = []
    second = train(started, on_start=lambda plan, transfer: plans.append(transfer))
    assert all(key.startswith("model.9.") for key in plans[0].skipped)
    assert Checkpoint.load(second.files.last).meta.task == "classify"


def test_task_that_is_asked_for_wins(data: dict[Task, Path], tmp_path: Path) -> None:
    boxes = data["detect"].with_name("other.yaml")
    boxes.write_text(data["detect"].read_text().replace("task: detect", "task: segment"))
    result = train(replace(config(boxes, tmp_path / "run"), task="detect"))
    assert Checkpoint.load(result.files.last).meta.task == "detect"


@pytest.mark.parametrize("task", TASKS)
def test_drawn_labels_are_those_of_the_picture(data: dict[Task, Path], task: Task) -> None:
    dataset = read_dataset(data[task])
    item = PictureDataset(dataset.samples("train"), image_size=64, task=task, keypoints=dataset.keypoints)[0, 1]
    shown = as_detections(item, dataset)
    assert len(shown) == len(item.class_id)
    held = {name for name in ("mask", "keypoints", "obb", "probs") if getattr(shown, name) is not None}
    own: dict[Task, set[str]] = {"segment": {"mask"}, "pose": {"keypoints"}, "obb": {"obb"}, "classify": {"probs"}}
    assert held == own.get(task, set())


def test_samples_are_spread_over_a_dataset_that_is_sorted_by_class(data: dict[Task, Path], tmp_path: Path) -> None:
    dataset = read_dataset(data["classify"])
    taken: list[int] = []

    class Pictures(PictureDataset):
        def __len__(self) -> int:
            return 100

        def __getitem__(self, key: tuple[int, int]) -> Item:
            taken.append(key[1])
            return super().__getitem__((key[0], 0))

    pictures = Pictures(dataset.samples("train"), image_size=64, task="classify")
    draw_training_samples(pictures, dataset, tmp_path / "samples.jpg")
    assert len(taken) == 16
    assert (taken[0], taken[-1]) == (0, 99)
    assert set(np.diff(taken)) == {6, 7}
