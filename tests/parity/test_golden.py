"""Counts, key digests and forward values of the public YOLO12 models of all tasks.

The numbers were measured on the public models in float64. To regenerate the forward values, fill a
public model as ``fill_golden`` in ``tests/conftest.py`` does, run it on ``golden_images`` in float64 and
print the statistics. Public models of pose have 80 classes as built, and 1 as trained on COCO.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolo12edge.keypoints import KeypointSpec
from yolo12edge.nn import HEADS, YOLO12, ModelConfig, build_model, decode_boxes, deploy_form

COCO_POINTS = KeypointSpec(count=17, dimensions=3)
KINDS: dict[str, dict[str, Any]] = {
    "detect": {},
    "segment": {"task": "segment"},
    "pose": {"task": "pose", "keypoints": COCO_POINTS},
    "pose of 1 class": {"task": "pose", "keypoints": COCO_POINTS, "num_classes": 1},
    "obb": {"task": "obb", "num_classes": 15},
    "classify": {"task": "classify", "num_classes": 1000},
}
# Scales n, s, m, l, x.
PARAMETERS = {
    ("v1", "detect"): (2_602_288, 9_284_096, 20_199_168, 26_450_784, 59_210_784),
    ("v1", "segment"): (2_855_056, 9_938_592, 22_505_376, 28_756_992, 64_387_264),
    ("v1", "pose"): (2_886_715, 9_774_155, 21_057_753, 27_309_369, 61_134_489),
    ("v1", "pose of 1 class"): (2_852_670, 9_743_582, 20_996_844, 27_248_460, 61_043_244),
    ("v1", "obb"): (2_642_640, 9_545_120, 20_997_888, 27_249_504, 61_044_864),
    ("v1", "classify"): (2_999_496, 7_385_512, 13_261_608, 16_737_160, 35_351_112),
    ("turbo", "detect"): (2_553_904, 9_127_424, 19_670_784, 26_506_496, 59_414_176),
    # Scales l and x as published; code that is public too builds them with a slimmer MLP.
    ("turbo", "segment"): (2_807_056, 9_782_688, 21_978_016, 28_812_704, 64_590_656),
    ("turbo", "classify"): (2_951_496, 7_229_608, 12_734_248, 16_792_872, 35_554_504),
}
FUSED_PARAMETERS = {"n": 2_590_824, "s": 9_261_840, "m": 20_166_592, "l": 26_400_752, "x": 59_135_744}
DIGESTS = {
    ("v1", "detect"): "2601d05b9921 9aa659429625 849a1cd68a85 86887a396a62 746a4524fabe",
    ("v1", "segment"): "7bd49403766b e2f9ee29a486 641615ab1d5b 3d263f202e5e 3efe89d4137c",
    ("v1", "pose"): "12cb2aec23a1 c098d3350061 3fa1211721cf c0ee52712a02 1fd33894320c",
    ("v1", "pose of 1 class"): "28ac0fb6e80a cbc02abfea99 2bde0a10a11c 7b234b3aa8a3 db6c162f0fea",
    ("v1", "obb"): "a67cf1847168 337864ee421a e7b1a84c6559 25c6c79ce60f 3da16007cd2c",
    ("v1", "classify"): "eef2303c1d0c 575e85b9a2c8 f89bc865d6b4 426266db25a7 b5e1b28cd8e8",
    ("turbo", "detect"): "2073575d0a02 8b2ad49f668b bf812bbb06e4 154ab6e72edb 671fef445769",
}
TENSORS = {"n": 691, "s": 691, "m": 751, "l": 1245, "x": 1245}  # v1 detect
# boxes (centre x, centre y, width, height in pixels): mean, std, first, last; all other rows: mean, std, last
FORWARD = {
    ("v1", "n", "detect"): ((112.357, 81.5544, 4.50584, 485.148), (0.499386, 0.0573912, 0.174947)),
    ("v1", "l", "detect"): ((111.798, 83.3962, 4.41316, 480.243), (0.501077, 0.0214639, 0.452036)),
    ("turbo", "n", "detect"): ((112.578, 83.866, 4.7966, 474.564), (0.500989, 0.0517999, 0.336993)),
    ("turbo", "l", "detect"): ((112.078, 86.1544, 4.93856, 622.802), (0.500719, 0.0345057, 0.52373)),
    ("v1", "n", "segment"): ((112.357, 81.5544, 4.50584, 485.148), (0.359049, 0.295827, -0.195653)),
    ("v1", "n", "pose"): ((112.357, 81.5544, 4.50584, 485.148), (15.8475, 34.4792, 0.585545)),
    ("v1", "n", "obb"): ((111.615, 81.9156, 3.6281, 485.148), (0.50528, 0.0788141, -0.264018)),
}
PROTOTYPES = (0.0116857, 0.0980463, -0.0124321)  # mean, std, last
PROBABILITIES = (0.0221967, 0.0018891, 3.53575e-07, 4.83121e-08)  # std, first, middle, last
# In the order of the public rows: boxes first, then these.
OTHER_ROWS = ("scores", "coefficients", "keypoints", "angles")
MODELS = [(*key, scale) for key in PARAMETERS for scale in "nsmlx"]


def build(variant: str, kind: str, scale: str) -> YOLO12:
    with torch.device("meta"):
        return build_model(ModelConfig(scale=scale, variant=variant, **KINDS[kind]))


def golden_images(batch: int = 1) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).rand(batch, 3, 96, 160).astype(np.float32))


def golden_model(golden_fill: Callable[[nn.Module], None], **config: Any) -> YOLO12:
    model = build_model(ModelConfig(**config)).eval()
    golden_fill(model)
    return model


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, rel=2e-5)


def decoded(model: YOLO12, images: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        return model.head.decode(model(images))


def test_every_task_is_on_trial() -> None:
    assert {config.get("task", "detect") for config in KINDS.values()} == set(HEADS)


@pytest.mark.parametrize(("variant", "kind", "scale"), MODELS)
def test_parameter_count(variant: str, kind: str, scale: str) -> None:
    model = build(variant, kind, scale)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[variant, kind]["nsmlx".index(scale)]


@pytest.mark.parametrize(("variant", "kind", "scale"), [(*key, scale) for key in DIGESTS for scale in "nsmlx"])
def test_key_and_shape_digest(variant: str, kind: str, scale: str) -> None:
    state = build(variant, kind, scale).state_dict()
    lines = sorted(f"{key} {'x'.join(map(str, tensor.shape))}" for key, tensor in state.items())
    expected = DIGESTS[variant, kind].split()["nsmlx".index(scale)]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] == expected
    if (variant, kind) == ("v1", "detect"):
        assert len(state) == TENSORS[scale]


@pytest.mark.parametrize("scale", ["n", "s", "m", "l", "x"])
def test_deploy_form_parameter_count(scale: str) -> None:
    model = build_model(ModelConfig(scale=scale))
    assert sum(p.numel() for p in deploy_form(model).parameters()) == FUSED_PARAMETERS[scale]


@pytest.mark.parametrize(("variant", "scale", "kind"), FORWARD)
def test_forward_values(variant: str, scale: str, kind: str, golden_fill: Callable[[nn.Module], None]) -> None:
    model = golden_model(golden_fill, scale=scale, variant=variant, **KINDS[kind])
    outputs = decoded(model.double(), golden_images().double())
    if "rotated_boxes" in outputs:
        boxes = outputs["rotated_boxes"][0]
    else:
        left_top, right_bottom = outputs["boxes"][0].chunk(2)
        boxes = torch.cat(((left_top + right_bottom) / 2, right_bottom - left_top))
    others = torch.cat([outputs[role][0] for role in OTHER_ROWS if role in outputs])
    assert boxes.shape == (4, 315)
    expected_boxes, expected_others = FORWARD[variant, scale, kind]
    for value, expected in zip((boxes.mean(), boxes.std(), boxes[0, 0], boxes[-1, -1]), expected_boxes, strict=True):
        assert close(value, expected)
    for value, expected in zip((others.mean(), others.std(), others[-1, -1]), expected_others, strict=True):
        assert close(value, expected)
    if "prototypes" in outputs:
        maps = outputs["prototypes"]
        assert maps.shape == (1, 32, 24, 40)
        for value, expected in zip((maps.mean(), maps.std(), maps[0, -1, -1, -1]), PROTOTYPES, strict=True):
            assert close(value, expected)


def test_forward_values_of_a_classifier(golden_fill: Callable[[nn.Module], None]) -> None:
    model = golden_model(golden_fill, **KINDS["classify"])
    probabilities = decoded(model.double(), golden_images().double())["probabilities"][0]
    found = (probabilities.std(), probabilities[0], probabilities[500], probabilities[-1])
    for value, expected in zip(found, PROBABILITIES, strict=True):
        assert close(value, expected)


DEPLOYED = [("v1", "n", kind) for kind in KINDS if kind != "pose of 1 class"]
DEPLOYED += [("turbo", "n", "detect"), ("turbo", "n", "classify"), ("v1", "m", "detect")]


@pytest.mark.parametrize(("variant", "scale", "kind"), DEPLOYED)
def test_train_and_deploy_form_agree(
    variant: str, scale: str, kind: str, golden_fill: Callable[[nn.Module], None]
) -> None:
    model = golden_model(golden_fill, scale=scale, variant=variant, **(KINDS[kind] | {"num_classes": 7}))
    images = golden_images(2)
    expected = decoded(model, images)
    with torch.inference_mode():
        found = deploy_form(model)(images)
    assert found.keys() == expected.keys()
    for role, value in expected.items():
        pixels = role in ("boxes", "rotated_boxes", "keypoints")
        assert torch.allclose(found[role], value, rtol=1e-5, atol=2e-3 if pixels else 2e-5), role


@pytest.mark.parametrize(("variant", "scale"), [("v1", "n"), ("turbo", "l")])
def test_train_and_deploy_form_agree_in_float64(
    variant: str, scale: str, golden_fill: Callable[[nn.Module], None]
) -> None:
    # The golden weights amplify rounding at scale l, so that float32 says nothing there.
    model = golden_model(golden_fill, scale=scale, variant=variant, num_classes=7).double()
    images = golden_images(2).double()
    with torch.inference_mode():
        output = model(images)
        found = deploy_form(model)(images)
    assert torch.allclose(found["boxes"], decode_boxes(output, model.head.bins), rtol=0, atol=1e-8)
    assert torch.allclose(found["scores"], output.cls.sigmoid(), rtol=0, atol=1e-10)
