"""The losses against values measured on the public implementation (weights as in test_golden)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from yolo12edge.data.loader import Batch
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import TASKS, Task
from yolo12edge.nn import HeadOutput, ModelConfig, build_model
from yolo12edge.training.losses import LOSSES, LossSettings

# image, class, centre x, centre y, width, height (normalised)
TARGETS = [(0, 3, 0.3, 0.4, 0.4, 0.5), (0, 7, 0.7, 0.6, 0.3, 0.6), (1, 0, 0.5, 0.5, 0.6, 0.7)]
ANGLES = (0.2, -0.3, 1.0)
WIDTH, HEIGHT = 160, 96
KEYPOINTS = KeypointSpec(count=5, dimensions=3)
BOXES = {"box": 4.949568, "cls": 276.010254, "dfl": 4.195683}
GOLDEN: dict[Task, dict[str, float]] = {
    "detect": BOXES,
    "segment": {**BOXES, "mask": 5.097778},
    "pose": {**BOXES, "keypoint": 2.954574, "visibility": 0.690584},
    "obb": {"box": 3.225386, "cls": 148.124893, "dfl": 4.171178},
}


def batch() -> Batch:
    table = torch.tensor(TARGETS, dtype=torch.float64)
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    centre, sides = table[:, 2:4] * size, table[:, 4:6] * size
    masks = torch.zeros(2, HEIGHT // 4, WIDTH // 4, dtype=torch.int16)
    number = [0, 0]
    for (image, *_), start, end in zip(TARGETS, centre - sides / 2, centre + sides / 2, strict=True):
        number[image] += 1
        (left, top), (right, bottom) = (start / 4).round().int().tolist(), (end / 4).round().int().tolist()
        masks[image, top:bottom, left:right] = number[image]
    keypoints = torch.zeros(len(TARGETS), 5, 3, dtype=torch.float64)
    for point in range(5):
        keypoints[:, point, 0] = centre[:, 0] + sides[:, 0] * (point - 2) / 8
        keypoints[:, point, 1] = centre[:, 1] + sides[:, 1] * (2 - point) / 8
    keypoints[:, :4, 2] = 2
    return Batch(
        torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8),
        table[:, 0].long(),
        table[:, 1].long(),
        torch.cat((centre - sides / 2, centre + sides / 2), 1),
        masks=masks,
        keypoints=keypoints,
        obb=torch.cat((centre, sides, torch.tensor(ANGLES, dtype=torch.float64).unsqueeze(1)), 1),
    )


def without_objects(whole: Batch) -> Batch:
    return whole._replace(
        image_index=whole.image_index[:0],
        class_id=whole.class_id[:0],
        boxes=whole.boxes[:0],
        masks=torch.zeros_like(whole.masks),
        keypoints=whole.keypoints[:0],
        obb=whole.obb[:0],
    )


def settings(task: Task) -> LossSettings:
    return LossSettings(keypoints=KEYPOINTS if task == "pose" else None)


@pytest.fixture(scope="module")
def output_of(golden_fill: Callable[[torch.nn.Module], None]) -> Callable[[Task], HeadOutput]:
    def run(task: Task) -> HeadOutput:
        config = ModelConfig(task=task, num_classes=10, keypoints=settings(task).keypoints)
        model = build_model(config).eval()
        golden_fill(model)
        images = torch.from_numpy(np.random.RandomState(0).rand(2, 3, HEIGHT, WIDTH))
        with torch.no_grad():
            out = model.double()(images)
        assert isinstance(out, HeadOutput)
        return out

    return run


@pytest.mark.parametrize("task", list(GOLDEN))
def test_loss_values(output_of: Callable[[Task], HeadOutput], task: Task) -> None:
    loss = LOSSES[task](settings(task))
    parts = {name: float(part) for name, part in loss(output_of(task), batch()).items()}
    assert tuple(parts) == loss.parts
    assert parts == pytest.approx(GOLDEN[task], rel=2e-6)
    if task == "detect":
        assert sum(parts.values()) * 2 == pytest.approx(570.311, rel=1e-5)


@pytest.mark.parametrize("task", list(GOLDEN))
def test_loss_without_objects_is_finite_and_has_class_part_only(
    output_of: Callable[[Task], HeadOutput], task: Task
) -> None:
    output = HeadOutput(*(None if tensor is None else tensor.requires_grad_() for tensor in output_of(task)))
    parts = LOSSES[task](settings(task))(output, without_objects(batch()))
    assert float(parts.pop("cls").detach()) > 0
    assert [float(part.detach()) for part in parts.values()] == [0] * len(parts)
    parts = LOSSES[task](settings(task))(output, without_objects(batch()))
    torch.stack(list(parts.values())).sum().backward()
    assert bool(torch.isfinite(output.cls.grad).all())


def test_every_task_has_a_loss() -> None:
    assert set(LOSSES) == set(TASKS)
