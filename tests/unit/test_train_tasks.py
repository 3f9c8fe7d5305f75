"""Training for every task, on a handful of generated pictures; ``tests/task_data.py`` draws them."""

from __future__ import annotations

import csv
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from tests.task_data import CLASS_NAMES, make_dataset
from yolo12edge.checkpoint import Checkpoint
from yolo12edge.data.augment import Picture
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.loader import Batch, PictureDataset, collate
from yolo12edge.data.preview import as_detections
from yolo12edge.errors import InputError
from yolo12edge.manifest import TASKS, Task
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training import EpochRecord, TrainConfig, train
from yolo12edge.training.losses import LOSSES, LossSettings
from yolo12edge.training.module import TrainingModule, images_to_float
from yolo12edge.training.optim import build_optimizer, plan_run
from yolo12edge.training.samples import draw_training_samples
from yolo12edge.training.trainer import TrainResult
from yolo12edge.training.transfer import Transfer, transfer_weights
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


class Run(NamedTuple):
    """What a run of one epoch gave."""

    result: TrainResult
    record: EpochRecord
    transfer: Transfer | None


@pytest.fixture(scope="module")
def runs(data: dict[Task, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Run]:
    """A run of each task; detect is asked for against the dataset's word, classify starts with its weights."""
    root = tmp_path_factory.mktemp("runs")
    other = data["detect"].with_name("other.yaml")
    other.write_text(data["detect"].read_text().replace("task: detect", "task: segment"))
    done: dict[Task, Run] = {}
    for task in TASKS:
        settings = config(data[task], root / task)
        if task == "detect":
            settings = replace(settings, data=other, task=task)
        if task == "classify":
            settings = replace(settings, weights=done["detect"].result.files.last)
        records: list[EpochRecord] = []
        transfers: list[Transfer | None] = []
        result = train(
            settings, on_epoch=records.append, on_start=lambda _, transfer, to=transfers: to.append(transfer)
        )
        done[task] = Run(result, records[0], transfers[0])
    return done


@pytest.mark.parametrize("task", TASKS)
def test_run_of_each_task(runs: dict[Task, Run], task: Task) -> None:
    result = runs[task].result
    checkpoint = Checkpoint.load(result.files.best)
    assert (checkpoint.meta.task, tuple(checkpoint.meta.class_names)) == (task, CLASS_NAMES)
    assert (checkpoint.meta.keypoints is not None) == (task == "pose")
    assert checkpoint.meta.training["epoch"] == 1
    checkpoint.model()
    with result.files.results.open() as file:
        (row,) = csv.DictReader(file)
    for part in LOSSES[task](LossSettings(keypoints=checkpoint.meta.keypoints)).parts:
        assert np.isfinite([float(row[f"train/{part}"]), float(row[f"val/{part}"])]).all()
    assert next(iter(runs[task].record.figures)) == HEADLINE[task]
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


def test_weights_of_one_task_start_another(runs: dict[Task, Run]) -> None:
    origin = Checkpoint.load(runs["detect"].result.files.last)
    transfer = transfer_weights(build_model(ModelConfig(task="segment", num_classes=2)), origin.tensors)
    assert all(key.startswith(("model.21.cv4.", "model.21.proto.")) for key in transfer.skipped)
    taken = runs["classify"].transfer
    assert taken is not None
    assert len(taken.taken) > 200
    assert all(key.startswith("model.9.") for key in taken.skipped)


@pytest.mark.parametrize("task", TASKS)
def test_drawn_labels_are_those_of_the_picture(data: dict[Task, Path], task: Task) -> None:
    dataset = read_dataset(data[task])
    pictures = PictureDataset(dataset.samples("train"), image_size=64, task=task, keypoints=dataset.keypoints)
    item = pictures[0, 1]
    shown = as_detections(pictures.picture(0, 1), dataset)
    assert shown.class_id.tolist() == item.class_id.tolist()
    np.testing.assert_array_equal(shown.xyxy, item.boxes.numpy())
    if shown.mask is not None and item.masks is not None:  # of a quarter of the size, where no object hides another
        middles = shown.mask.full()[:, 2::4, 2::4]
        numbers = item.masks.numpy() == np.arange(1, len(shown) + 1)[:, None, None]
        assert (middles == numbers)[:, middles.sum(axis=0) < 2].mean() > 0.98
        assert numbers.any()
    if shown.keypoints is not None and item.keypoints is not None:
        np.testing.assert_allclose(shown.keypoints, item.keypoints.numpy() * (1, 1, 0.5))
    if shown.obb is not None and item.obb is not None:
        np.testing.assert_allclose(shown.obb, item.obb.numpy())
    held = {name for name in ("mask", "keypoints", "obb", "probs") if getattr(shown, name) is not None}
    own: dict[Task, set[str]] = {"segment": {"mask"}, "pose": {"keypoints"}, "obb": {"obb"}, "classify": {"probs"}}
    assert held == own.get(task, set())


class _Constant:
    parts = ("cls",)

    def __init__(self, *, summed: bool) -> None:
        self.summed = summed

    def __call__(self, output: object, batch: object) -> dict[str, torch.Tensor]:
        return {"cls": torch.ones(())}


@pytest.mark.parametrize(("summed", "expected"), [(True, 3.0), (False, 3 / 8)])
def test_every_picture_of_an_optimizer_step_weighs_the_same(tmp_path: Path, summed: bool, expected: float) -> None:
    settings = replace(config(tmp_path, tmp_path), nominal_batch=8, warmup_epochs=0)
    plan = plan_run(settings, images=16, num_classes=2)
    assert plan.accumulate == 2
    network = build_model(ModelConfig(task="classify", num_classes=2))
    module = TrainingModule(network, plan, _Constant(summed=summed), validation=None)  # type: ignore[arg-type]
    optimizer = LightningOptimizer(build_optimizer(network, plan))
    optimizer.toggle_model = lambda sync_grad: nullcontext()  # type: ignore[assignment,method-assign]
    weights: list[float] = []
    module.optimizers = lambda: optimizer  # type: ignore[assignment,method-assign]
    module.manual_backward = lambda total: weights.append(float(total))  # type: ignore[method-assign]
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)  # the last batch of an epoch is smaller
    nothing = torch.zeros(0)
    module.training_step(Batch(images, nothing, nothing, nothing), 0)
    assert weights == pytest.approx([expected])


def test_smoothing_where_nothing_is_smoothed_is_refused(data: dict[Task, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"label_smoothing is 0\.1 and the task is pose"):
        train(replace(config(data["pose"], tmp_path / "run"), label_smoothing=0.1))


def test_samples_are_spread_over_a_dataset_that_is_sorted_by_class(data: dict[Task, Path], tmp_path: Path) -> None:
    dataset = read_dataset(data["classify"])
    taken: list[int] = []

    class Pictures(PictureDataset):
        def __len__(self) -> int:
            return 100

        def picture(self, epoch: int, index: int) -> Picture:
            taken.append(index)
            return super().picture(epoch, 0)

    pictures = Pictures(dataset.samples("train"), image_size=64, task="classify")
    draw_training_samples(pictures, dataset, tmp_path / "samples.jpg")
    assert len(taken) == 16
    assert (taken[0], taken[-1]) == (0, 99)
    assert set(np.diff(taken)) == {6, 7}
