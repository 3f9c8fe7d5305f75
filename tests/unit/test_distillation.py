"""Learning from a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.task_data import CLASS_NAMES, make_dataset
from yolo12edge.checkpoint import Checkpoint, meta_of
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.loader import Batch, PictureDataset, collate
from yolo12edge.errors import CheckpointError, InputError
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import TASKS, Task
from yolo12edge.nn import YOLO12, ModelConfig, build_model
from yolo12edge.training import EpochRecord, TrainConfig, resume, train
from yolo12edge.training.distillation import IMITATIONS, Taught, load_teacher
from yolo12edge.training.losses import LossSettings, make_loss

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class _PowerCutError(Exception):
    pass


def network(task: Task, *, scale: str = "n", seed: int = 0, classes: int = 2) -> YOLO12:
    torch.manual_seed(seed)
    points = KeypointSpec(count=4) if task == "pose" else None
    model = build_model(ModelConfig(task=task, scale=scale, num_classes=classes, keypoints=points)).train()
    with torch.no_grad():  # a few batches, so that the averages are those of these pictures and outputs differ
        for _ in range(3):
            model(torch.rand(2, 3, 64, 64))
    return model.eval()


def checkpoint(model: YOLO12, class_names: tuple[str, ...] = CLASS_NAMES) -> Checkpoint:
    meta = meta_of(
        model.config, class_names=class_names, image_size=64, source="trained", weights_license=None, training={}
    )
    return Checkpoint(meta, model.state_dict())


@pytest.mark.parametrize("task", TASKS)
def test_what_agrees_costs_nothing_and_what_does_not_is_learnt(task: Task, tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(task, tmp_path, images=2, size=64))
    pictures = PictureDataset(dataset.samples("train"), image_size=64, task=task, keypoints=dataset.keypoints)
    batch = collate([pictures[0, 0], pictures[0, 1]])
    settings = LossSettings(keypoints=dataset.keypoints)
    teacher, pupil = network(task), network(task, seed=1)
    loss = make_loss(task, settings)
    taught = Taught(loss, teacher, (0, 1), IMITATIONS[task], settings, gain=2.0)
    assert taught.parts == (*loss.parts, "distill")
    images = batch.images.float() / 255
    same = taught(teacher(images), batch)
    assert float(same["distill"]) == pytest.approx(0, abs=1e-4)
    output = pupil.train()(images)
    parts = taught(output, batch)
    assert {name: float(value.detach()) for name, value in parts.items() if name != "distill"} == {
        name: float(value.detach()) for name, value in loss(output, batch).items()
    }
    assert float(parts["distill"].detach()) > 0.01
    parts["distill"].backward()
    grown = {
        key.split(".")[2]
        for key, p in pupil.head.named_parameters(prefix="model.21")
        if p.grad is not None and p.grad.any()
    }
    whole: dict[Task, set[str]] = {"classify": {"conv", "linear"}, "segment": {"cv2", "cv3", "cv4", "proto"}}
    assert grown == whole.get(task, {"cv2", "cv3"} if task == "detect" else {"cv2", "cv3", "cv4"})
    assert not any(p.requires_grad for p in teacher.parameters())


def test_teacher_of_another_scale_teaches_and_its_classes_go_by_name() -> None:
    model = network("classify", scale="s")
    teacher, order = load_teacher(checkpoint(model), network("classify").config, CLASS_NAMES[::-1])
    assert teacher.config.scale == "s"
    assert order == [1, 0]
    seen: list[Tensor] = []

    def imitate(pupil: Tensor, said: Tensor, settings: LossSettings) -> Tensor:
        seen.append(said)
        return said.sum()

    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    batch = Batch(images, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.zeros(2, 4))
    settings = LossSettings()
    Taught(make_loss("classify", settings), teacher, order, imitate, settings, 1.0)(torch.zeros(2, 2), batch)
    assert torch.equal(seen[0], teacher(images.float() / 255)[:, [1, 0]])


@pytest.mark.parametrize(
    ("task", "names", "fact"), [("classify", CLASS_NAMES, "task"), ("detect", ("dart", "ring"), "classes")]
)
def test_teacher_of_something_else_is_refused(task: Task, names: tuple[str, ...], fact: str) -> None:
    with pytest.raises(CheckpointError, match=f"the teacher's {fact}"):
        load_teacher(checkpoint(network(task), names), ModelConfig(num_classes=2), CLASS_NAMES)


def test_weight_of_a_teacher_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no teacher"):
        TrainConfig(data=tmp_path, out=tmp_path, distill=2.0)


def test_run_with_a_teacher_and_dropout_goes_on_as_it_would_have(tmp_path: Path) -> None:
    data = make_dataset("classify", tmp_path / "data", images=4, size=64)
    checkpoint(network("classify", scale="n", seed=5)).save(tmp_path / "teacher.safetensors")
    config = TrainConfig(
        data=data,
        out=tmp_path / "whole",
        epochs=2,
        batch=2,
        image_size=64,
        workers=0,
        device="cpu",
        teacher=tmp_path / "teacher.safetensors",
        dropout=0.2,
        dropblock=0.1,
    )
    whole = train(config)
    assert "train/distill" in whole.files.results.read_text()

    def cut(record: EpochRecord) -> None:
        raise _PowerCutError

    with pytest.raises(_PowerCutError):
        train(replace(config, out=tmp_path / "cut"), on_epoch=cut)
    resumed = resume(tmp_path / "cut")
    first, second = (Checkpoint.load(run.files.last).tensors for run in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)
