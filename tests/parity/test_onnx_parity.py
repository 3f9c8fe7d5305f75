"""The exported graph gives PyTorch's numbers: it is written from the modules, so every block is on trial here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolo12edge.errors import VerificationError
from yolo12edge.exporters import onnx_from_checkpoint
from yolo12edge.exporters.verify import check_parity, measure_parity
from yolo12edge.manifest import TASKS, Parity
from yolo12edge.runtimes import Runtime

SHARED = Path(__file__).parents[2].parent / "shared"

CASES = [
    *(("detect", *case) for case in [("n", "v1", (96, 64)), ("n", "turbo", (64, 96)), ("l", "v1", (64, 32))]),
    ("detect", "m", "turbo", (32, 64)),
    *((task, "n", "v1", (64, 96)) for task in TASKS if task != "detect"),
    ("segment", "n", "turbo", (96, 64)),
    ("classify", "n", "turbo", (64, 64)),
    ("classify", "m", "v1", (32, 64)),
]
# Random weights amplify rounding; trained ones are held to far less below.
PIXELS, NUMBERS = 0.5, 2e-3
ERRORS = {
    "boxes": PIXELS,
    "rotated_boxes": PIXELS,
    "keypoints": PIXELS,
    "angles": NUMBERS,
    "scores": NUMBERS,
    "visibility": NUMBERS,
    "probabilities": NUMBERS,
    "coefficients": 0.01,
    "prototypes": 0.01,
}


@pytest.mark.parametrize(("task", "scale", "variant", "size"), CASES)
def test_graph_agrees_with_pytorch(checkpoint_maker, scene_frames, tmp_path, task, scale, variant, size):
    checkpoint = checkpoint_maker(tmp_path / "c.safetensors", scene_frames, task=task, scale=scale, variant=variant)
    artifact = onnx_from_checkpoint(checkpoint, tmp_path / "out", image_size=size, images=scene_frames[:2])
    parity = artifact.manifest.report.parity
    assert parity.images == 2
    assert parity.errors.keys() - {"visibility"} == {output.role for output in artifact.manifest.outputs}
    assert {name: error for name, error in parity.errors.items() if not error < ERRORS[name]} == {}
    assert (artifact.manifest.input.height, artifact.manifest.input.width) == size


def test_parity_sees_one_wrong_row(tiny_onnx, scene_frames):
    with Runtime(tiny_onnx, device="cpu") as runtime:

        def wrong(feeds):
            outputs = {name: value.copy() for name, value in runtime.infer(feeds).items()}
            outputs["boxes"][0, 2, 5] += 0.5
            return outputs

        parity = measure_parity(runtime.infer, wrong, tiny_onnx.manifest, scene_frames[:1], source="itself")
        assert parity.errors["boxes"] == pytest.approx(0.5, abs=1e-3)
        with pytest.raises(VerificationError, match=r"0\.5 px"):
            check_parity(parity)


def test_the_source_s_own_rounding_widens_the_tolerance():
    def parity(px: float) -> Parity:
        return Parity(source="x", images=1, errors={"boxes": px, "scores": 0.0})

    check_parity(parity(0.2), rounding=parity(0.05))
    with pytest.raises(VerificationError, match=r"at most 0\.25 px"):
        check_parity(parity(0.3), rounding=parity(0.05))


def test_nan_is_not_agreement(tiny_onnx, scene_frames):
    shapes = {output.name: output.shape for output in tiny_onnx.manifest.outputs}
    broken = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    parity = measure_parity(lambda _: broken, lambda _: broken, tiny_onnx.manifest, scene_frames[:1], source="x")
    with pytest.raises(VerificationError):
        check_parity(parity)


def test_public_checkpoint(tmp_path):
    public = SHARED / "checkpoints" / "bccd-yolo12n.pt"
    if not public.is_file():
        pytest.skip(f"{public} is not there")
    from yolo12edge.checkpoint import import_public

    import_public(public).save(tmp_path / "bccd.safetensors")
    images = sorted((SHARED / "data" / "bccd" / "images" / "val").glob("*.jpg"))[:3]
    parity = onnx_from_checkpoint(tmp_path / "bccd.safetensors", tmp_path / "o", images=images).manifest.report.parity
    assert parity.errors["boxes"] < 1e-3
    assert parity.errors["scores"] < 1e-5
