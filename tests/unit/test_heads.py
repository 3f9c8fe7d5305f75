"""Heads of all tasks: their geometry by hand, what configurations fill in, and what tensors tell."""

from __future__ import annotations

from math import cos, pi, sin
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from yolo12edge.errors import CheckpointError, InputError
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import TASKS, InputSpec, output_shapes
from yolo12edge.nn import HEADS, HeadOutput, ModelConfig, build_model, deploy_form
from yolo12edge.nn.config import REG_MAX, TRAITS
from yolo12edge.nn.heads import decode_angles, decode_keypoints, decode_rotated_boxes
from yolo12edge.nn.infer import infer_config

BINS = torch.arange(REG_MAX, dtype=torch.float64)
CONFIGS: dict[str, dict[str, Any]] = {
    "detect": {},
    "segment": {},
    "classify": {},
    "pose": {"keypoints": KeypointSpec(count=5, dimensions=3)},
    "obb": {},
}


def config_of(task: str, **more: Any) -> ModelConfig:
    return ModelConfig(task=task, **{"num_classes": 7, **CONFIGS[task], **more})  # type: ignore[arg-type]


def candidate(distances: tuple[int, int, int, int], branch: list[float], stride: int = 8) -> HeadOutput:
    """One candidate in the cell (3, 2) whose distances are these whole numbers of cells."""
    box = torch.full((1, 4, REG_MAX), -1e4, dtype=torch.float64)
    for side, distance in enumerate(distances):
        box[0, side, distance] = 1e4
    anchors = torch.tensor([[3.5, 2.5]], dtype=torch.float64)
    own = torch.tensor(branch, dtype=torch.float64).view(1, -1, 1)
    strides = torch.tensor([float(stride)], dtype=torch.float64)
    return HeadOutput(box.view(1, 4 * REG_MAX, 1), torch.zeros(1, 1, 1), anchors, strides, own)


def test_tables_name_every_task() -> None:
    assert tuple(HEADS) == tuple(TRAITS) == TASKS
    assert set(CONFIGS) == set(TASKS)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_keypoints_lie_where_their_rows_say(dimensions: int) -> None:
    points = [[0.0, 0.0, 0.0], [1.0, -0.5, 100.0], [-1.5, 2.0, -100.0]]
    output = candidate((1, 1, 1, 1), [value for point in points for value in point[:dimensions]])
    found = decode_keypoints(output, dimensions)[0, :, :, 0]
    expected = [[24.0, 16.0, 0.5], [40.0, 8.0, 1.0], [0.0, 48.0, 0.0]]  # the cell's corner, then two cells a unit
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64)[:, :dimensions])


@pytest.mark.parametrize("angle", [0.0, 0.3, pi / 2, -0.7, 2.2])
def test_oriented_boxes_turn_about_their_candidate(angle: float) -> None:
    share = torch.tensor(angle / pi + 0.25, dtype=torch.float64)
    output = candidate((1, 2, 4, 3), [float(share.logit())])
    angles = decode_angles(output)
    assert float(angles) == pytest.approx(angle, abs=1e-9)
    x, y, width, height = decode_rotated_boxes(output, BINS, angles)[0, :, 0].tolist()
    assert (width, height) == (40.0, 40.0)
    # Along the box's own axes the candidate is 1 from the left, 2 from the top, 4 from the right, 3 from the bottom.
    # x points right and y down, so that a positive angle turns the box clockwise in the picture.
    right, down = (cos(angle), sin(angle)), (-sin(angle), cos(angle))
    corners = [
        (28 + 8 * (along * right[0] + across * down[0]), 20 + 8 * (along * right[1] + across * down[1]))
        for along, across in ((-1, -2), (4, -2), (4, 3), (-1, 3))
    ]
    assert x == pytest.approx(sum(corner[0] for corner in corners) / 4)
    assert y == pytest.approx(sum(corner[1] for corner in corners) / 4)


@pytest.mark.parametrize("raw", [-1e4, -3.0, 0.0, 3.0, 1e4])
def test_angles_stay_in_their_range(raw: float) -> None:
    angle = float(decode_angles(candidate((1, 1, 1, 1), [raw])))
    assert -pi / 4 <= angle <= 3 * pi / 4


def test_an_oriented_box_without_an_angle_is_an_upright_box() -> None:
    torch.manual_seed(0)
    model = build_model(config_of("obb")).eval()
    with torch.inference_mode():
        output = model(torch.rand(1, 3, 64, 96))
        upright = build_model(config_of("detect")).head.decode(output)["boxes"]
        rotated = decode_rotated_boxes(output, model.head.bins, torch.zeros_like(output.branch))
    centre, size = rotated.chunk(2, 1)
    assert torch.allclose(torch.cat((centre - size / 2, centre + size / 2), 1), upright, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("variant", ["v1", "turbo"])
def test_outputs_are_those_of_the_manifest(task: str, variant: str) -> None:
    config = config_of(task, variant=variant)
    size = (64, 96)
    with torch.inference_mode():
        found = deploy_form(build_model(config))(torch.rand(2, 3, *size))
    spec = InputSpec(name="images", batch=2, height=size[0], width=size[1])
    shapes = output_shapes(config.task, spec, classes=7, keypoints=config.keypoints)
    candidates = 64 * 96 // 64 + 64 * 96 // 256 + 64 * 96 // 1024
    assert {role: tuple(value.shape) for role, value in found.items()} == {
        role: tuple(candidates if size is None else size for size in shape) for role, shape in shapes.items()
    }
    assert all(value.dtype == torch.float32 for value in found.values())


def test_probabilities_exclude_each_other_unless_asked_otherwise() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0, 0.5, 0.0, 0.0, 0.0]])

    def probabilities(*, multi_label: bool) -> Tensor:
        return build_model(config_of("classify", multi_label=multi_label)).head.decode(logits)["probabilities"]

    assert torch.equal(probabilities(multi_label=False), logits.softmax(1))
    assert torch.equal(probabilities(multi_label=True), logits.sigmoid())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("variant", ["v1", "turbo"])
def test_tensors_tell_the_task(task: str, variant: str) -> None:
    config = config_of(task, variant=variant)
    with torch.device("meta"):
        shapes = build_model(config).state_dict()
    assert infer_config(shapes) == config


@pytest.mark.parametrize(
    ("rows", "count", "dimensions"), [(51, 17, 3), (2, 1, 2), (3, 1, 3), (8, 4, 2), (34, 17, 2), (6, 2, 3)]
)
def test_rows_tell_the_keypoints_as_far_as_they_can(rows: int, count: int, dimensions: int) -> None:
    points = KeypointSpec(count=rows // 2, dimensions=2) if rows % 2 == 0 else KeypointSpec(count=rows // 3)
    with torch.device("meta"):
        shapes = build_model(ModelConfig(task="pose", keypoints=points)).state_dict()
    assert infer_config(shapes).keypoints == KeypointSpec(count=count, dimensions=dimensions)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", ["v1", "turbo"])
def test_ratio_and_residual_of_large_turbo_segmenters_come_from_their_shapes(variant: str) -> None:
    # Code that is public builds these with a ratio of 1.0; published weights have 1.5.
    for ratio in (1.0, 1.5):
        with torch.device("meta"):
            shapes = build_model(config_of("segment", scale="l", variant=variant, mlp_ratio=ratio)).state_dict()
        assert infer_config(shapes).mlp_ratio == ratio
    for residual in (True, False):
        with torch.device("meta"):
            shapes = build_model(config_of("segment", variant=variant, residual=residual)).state_dict()
        assert infer_config(shapes).residual is residual


def test_configurations_fill_in_what_public_models_have() -> None:
    assert config_of("detect").bn_eps == 1e-3
    assert config_of("classify").bn_eps == 1e-5
    assert config_of("classify").areas == config_of("segment", variant="turbo").areas == (4, 1)
    assert config_of("classify", variant="turbo").areas == (1, 1)
    assert config_of("classify", variant="turbo").residual
    assert config_of("segment", variant="turbo").residual
    assert not config_of("pose", variant="turbo").residual
    assert not config_of("segment").residual


@pytest.mark.parametrize(("task", "eps", "momentum"), [("pose", 1e-3, 0.03), ("classify", 1e-5, 0.1)])
def test_batch_norms_are_those_of_the_task(task: str, eps: float, momentum: float) -> None:
    norms = [m for m in build_model(config_of(task)).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(eps, momentum)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "track"},
        {"task": "pose"},
        {"task": "detect", "keypoints": KeypointSpec(count=3)},
        {"task": "segment", "multi_label": True},
    ],
)
def test_configurations_that_no_task_has_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ModelConfig(**wrong)


def test_a_model_without_a_head_is_refused() -> None:
    with torch.device("meta"):
        shapes = {k: v for k, v in build_model(ModelConfig()).state_dict().items() if not k.startswith("model.21.")}
    with pytest.raises(CheckpointError, match="no head"):
        infer_config(shapes)


@pytest.mark.parametrize("task", TASKS)
def test_every_parameter_learns(task: str) -> None:
    torch.manual_seed(0)
    model = build_model(config_of(task)).train()
    output = model(torch.rand(2, 3, 64, 64))
    parts = [output] if isinstance(output, Tensor) else [v for v in output if v is not None and v.requires_grad]
    torch.stack([part.square().mean() for part in parts]).sum().backward()
    still = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not still
