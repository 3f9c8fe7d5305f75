"""The detection loss against values measured on the public implementation (weights as in test_golden)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from yolo12edge.nn import HeadOutput, ModelConfig, build_model
from yolo12edge.training.assigner import assign
from yolo12edge.training.boxes import complete_iou
from yolo12edge.training.loss import DetectionLoss

# image, class, centre x, centre y, width, height (normalised)
TARGETS = [(0, 3, 0.3, 0.4, 0.4, 0.5), (0, 7, 0.7, 0.6, 0.3, 0.6), (1, 0, 0.5, 0.5, 0.6, 0.7)]


@pytest.fixture(scope="module")
def output(golden_fill: Callable[[torch.nn.Module], None]) -> HeadOutput:
    model = build_model(ModelConfig(num_classes=10)).eval()
    golden_fill(model)
    images = torch.from_numpy(np.random.RandomState(0).rand(2, 3, 96, 160))
    with torch.inference_mode():
        out: HeadOutput = model.double()(images)
    return out


def targets() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    table = torch.tensor(TARGETS, dtype=torch.float64)
    centre, size = table[:, 2:4], table[:, 4:6]
    boxes = torch.cat((centre - size / 2, centre + size / 2), 1) * torch.tensor([160.0, 96.0, 160.0, 96.0])
    return table[:, 0].long(), table[:, 1].long(), boxes


def test_loss_values(output: HeadOutput) -> None:
    parts = DetectionLoss()(output, *targets())
    assert float(parts.box) == pytest.approx(4.949568, rel=1e-5)
    assert float(parts.cls) == pytest.approx(276.010254, rel=1e-6)
    assert float(parts.dfl) == pytest.approx(4.195683, rel=1e-5)
    assert float(parts.total) * 2 == pytest.approx(570.311, rel=1e-5)


def test_loss_without_objects_is_finite_and_has_class_part_only(output: HeadOutput) -> None:
    image, cls, boxes = targets()
    parts = DetectionLoss()(output, image[:0], cls[:0], boxes[:0])
    assert float(parts.box) == 0
    assert float(parts.dfl) == 0
    assert float(parts.cls) > 0
    assert bool(torch.isfinite(parts.total))


def test_assignment_keeps_to_its_rules() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.cartesian_prod(torch.arange(4.0, 160, 8), torch.arange(4.0, 160, 8))
    count = len(points)
    boxes = torch.cat((points - 10, points + 10), 1).repeat(2, 1, 1) + torch.rand(2, count, 4, generator=generator) * 8
    scores = torch.rand(2, 3, count, generator=generator)
    target_image = torch.tensor([0, 0, 0, 1])
    target_class = torch.tensor([0, 1, 2, 1])
    target_boxes = torch.tensor([[10.0, 10, 80, 80], [40, 40, 120, 120], [44, 44, 70, 70], [58, 58, 94, 94]])
    found = assign(scores, boxes, points, target_image, target_class, target_boxes)
    assert len({(int(i), int(c)) for i, c in zip(found.image, found.candidate, strict=True)}) == len(found.image)
    assert bool((target_image[found.target] == found.image).all())
    assert bool((torch.bincount(found.target, minlength=4) >= 1).all())
    assert int(torch.bincount(found.target)[3]) == 10  # alone in its image: exactly the ten best
    centre = points[found.candidate]
    inside = target_boxes[found.target]
    assert bool(((centre > inside[:, :2]) & (centre < inside[:, 2:])).all())
    assert bool(((found.score >= 0) & (found.score <= 1)).all())
    # The best candidate of an object has its best overlap as soft score.
    mine = found.target == 3
    overlap = complete_iou(boxes[1, found.candidate[mine]], target_boxes[3].expand(int(mine.sum()), 4))
    assert float(found.score[mine].max()) == pytest.approx(float(overlap.max()), rel=1e-4)


def test_complete_iou() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    same, shifted, apart = complete_iou(a, b).tolist()
    assert same == pytest.approx(1, abs=1e-5)
    assert shifted == pytest.approx(1 / 3 - 25 / 325, abs=1e-5)
    assert apart == pytest.approx(-800 / 1800, abs=1e-5)
