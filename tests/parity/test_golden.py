"""Counts, key digests and forward values of the public YOLO12 detectors.

The numbers were measured on the public models in float64. To regenerate the forward values, fill a
public model as ``fill_golden`` in ``tests/conftest.py`` does, run it on ``golden_images`` in float64 and
print the statistics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolo12edge.nn import YOLO12, ModelConfig, build_model, decode_boxes, deploy_form

PARAMETERS = {
    "v1": {"n": 2_602_288, "s": 9_284_096, "m": 20_199_168, "l": 26_450_784, "x": 59_210_784},
    "turbo": {"n": 2_553_904, "s": 9_127_424, "m": 19_670_784, "l": 26_506_496, "x": 59_414_176},
}
FUSED_PARAMETERS = {"n": 2_590_824, "s": 9_261_840, "m": 20_166_592, "l": 26_400_752, "x": 59_135_744}
DIGESTS = {
    "v1": {
        "n": ("2601d05b9921", 691),
        "s": ("9aa659429625", 691),
        "m": ("849a1cd68a85", 751),
        "l": ("86887a396a62", 1245),
        "x": ("746a4524fabe", 1245),
    },
    "turbo": {
        "n": ("2073575d0a02", None),
        "s": ("8b2ad49f668b", None),
        "m": ("bf812bbb06e4", None),
        "l": ("154ab6e72edb", None),
        "x": ("671fef445769", None),
    },
}
# variant, scale: boxes (centre x, centre y, width, height in pixels) mean, std, first, last; scores mean, std, last
FORWARD = {
    ("v1", "n"): ((112.357, 81.5544, 4.50584, 485.148), (0.499386, 0.0573912, 0.174947)),
    ("v1", "l"): ((111.798, 83.3962, 4.41316, 480.243), (0.501077, 0.0214639, 0.452036)),
    ("turbo", "n"): ((112.578, 83.866, 4.7966, 474.564), (0.500989, 0.0517999, 0.336993)),
    ("turbo", "l"): ((112.078, 86.1544, 4.93856, 622.802), (0.500719, 0.0345057, 0.52373)),
}
MODELS = [(variant, scale) for variant in PARAMETERS for scale in PARAMETERS[variant]]


def build(variant: str, scale: str, num_classes: int = 80) -> YOLO12:
    with torch.device("meta"):
        return build_model(ModelConfig(scale=scale, variant=variant, num_classes=num_classes))


def golden_images(batch: int = 1) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).rand(batch, 3, 96, 160).astype(np.float32))


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize(("variant", "scale"), MODELS)
def test_parameter_count(variant: str, scale: str) -> None:
    model = build(variant, scale)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[variant][scale]


@pytest.mark.parametrize(("variant", "scale"), MODELS)
def test_key_and_shape_digest(variant: str, scale: str) -> None:
    state = build(variant, scale).state_dict()
    lines = sorted(f"{key} {'x'.join(map(str, tensor.shape))}" for key, tensor in state.items())
    expected, count = DIGESTS[variant][scale]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] == expected
    assert count is None or len(state) == count


@pytest.mark.parametrize("scale", ["n", "s", "m", "l", "x"])
def test_deploy_form_parameter_count(scale: str) -> None:
    model = build_model(ModelConfig(scale=scale))
    assert sum(p.numel() for p in deploy_form(model).parameters()) == FUSED_PARAMETERS[scale]


@pytest.mark.parametrize(("variant", "scale"), FORWARD)
def test_forward_values(variant: str, scale: str, golden_fill: Callable[[nn.Module], None]) -> None:
    model = build_model(ModelConfig(scale=scale, variant=variant)).eval()
    golden_fill(model)
    model = model.double()
    with torch.inference_mode():
        output = model(golden_images().double())
        left_top, right_bottom = decode_boxes(output, model.head.bins)[0].chunk(2)
    boxes = torch.cat(((left_top + right_bottom) / 2, right_bottom - left_top))
    scores = output.cls[0].sigmoid()
    assert boxes.shape == (4, 315)
    expected_boxes, expected_scores = FORWARD[variant, scale]
    for value, expected in zip((boxes.mean(), boxes.std(), boxes[0, 0], boxes[-1, -1]), expected_boxes, strict=True):
        assert close(value, expected)
    for value, expected in zip((scores.mean(), scores.std(), scores[-1, -1]), expected_scores, strict=True):
        assert close(value, expected)


@pytest.mark.parametrize(("variant", "scale"), [("v1", "n"), ("turbo", "n"), ("v1", "m")])
def test_train_and_deploy_form_agree(variant: str, scale: str, golden_fill: Callable[[nn.Module], None]) -> None:
    model = build_model(ModelConfig(scale=scale, variant=variant, num_classes=7)).eval()
    golden_fill(model)
    images = golden_images(2)
    with torch.inference_mode():
        output = model(images)
        decoded = deploy_form(model)(images)
    boxes, scores = decoded["boxes"], decoded["scores"]
    assert torch.allclose(boxes, decode_boxes(output, model.head.bins), rtol=1e-5, atol=2e-3)
    assert torch.allclose(scores, output.cls.sigmoid(), atol=1e-5)


@pytest.mark.parametrize(("variant", "scale"), [("v1", "n"), ("turbo", "l")])
def test_train_and_deploy_form_agree_in_float64(
    variant: str, scale: str, golden_fill: Callable[[nn.Module], None]
) -> None:
    # The golden weights amplify rounding at scale l, so that float32 says nothing there.
    model = build_model(ModelConfig(scale=scale, variant=variant, num_classes=7)).eval()
    golden_fill(model)
    model, images = model.double(), golden_images(2).double()
    with torch.inference_mode():
        output = model(images)
        decoded = deploy_form(model)(images)
    boxes, scores = decoded["boxes"], decoded["scores"]
    assert torch.allclose(boxes, decode_boxes(output, model.head.bins), rtol=0, atol=1e-8)
    assert torch.allclose(scores, output.cls.sigmoid(), rtol=0, atol=1e-10)
