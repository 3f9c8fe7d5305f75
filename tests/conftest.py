"""Fixtures that several folders share: tiny models of every task and real-looking pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import settings

TINY = 96

settings.register_profile("tests", deadline=None)  # time says nothing of a machine that is busy
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def wide_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no line of a command's output wrap, whatever the terminal."""
    from yolo12edge.cli._console import out

    monkeypatch.setattr(out, "width", 200)


@pytest.fixture(scope="session")
def scene_frames() -> list[np.ndarray]:
    """Six rendered scenes, uint8 BGR, 160 x 160."""
    from yolo12edge.data.scenes import render_scene

    return [render_scene(seed=1, split="tests", index=index, size=160).image for index in range(6)]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, scene_frames: list[np.ndarray]) -> Path:
    """A YOLO12n of three classes at 96 px: random weights, batch norms fitted to the scenes, scores around 0.5."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors", scene_frames)


def make_checkpoint(
    path: Path,
    frames: list[np.ndarray],
    *,
    task: str = "detect",
    scale: str = "n",
    variant: str = "v1",
    dimensions: int = 3,
    multi_label: bool = False,
) -> Path:
    """Write a checkpoint whose activations are as spread as those of a trained one; for pose, of 4 points."""
    import torch

    from yolo12edge.checkpoint import Checkpoint, meta_of
    from yolo12edge.keypoints import KeypointSpec
    from yolo12edge.manifest import InputSpec
    from yolo12edge.nn import ModelConfig, build_model
    from yolo12edge.preprocess import Preprocessor

    torch.manual_seed(0)
    points = KeypointSpec(count=4, dimensions=dimensions, flip=[1, 0, 2, 3]) if task == "pose" else None
    config = ModelConfig(
        task=task, scale=scale, variant=variant, num_classes=3, keypoints=points, multi_label=multi_label
    )
    model = build_model(config).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    for branch in getattr(model.head, "cv3", []):
        torch.nn.init.zeros_(branch[-1].bias)
    batch, _ = Preprocessor(InputSpec(name="images", batch=1, height=TINY, width=TINY)).batch(frames)
    with torch.no_grad():
        model(torch.from_numpy(batch))
    meta = meta_of(
        model.config,
        class_names=["a", "b", "c"],
        image_size=TINY,
        source="trained",
        weights_license=None,
        training={},
    )
    Checkpoint(meta, dict(model.state_dict())).save(path)
    return path


@pytest.fixture(scope="session")
def checkpoint_maker():
    """``make_checkpoint``, for tests that need another scale or variant."""
    return make_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint_of(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, scene_frames: list[np.ndarray]
) -> Callable[[str], Path]:
    """A function from a task to a checkpoint like ``tiny_checkpoint``, made once."""
    folder = tmp_path_factory.mktemp("checkpoints")

    @cache
    def checkpoint(task: str) -> Path:
        if task == "detect":
            return tiny_checkpoint
        return make_checkpoint(folder / f"{task}.safetensors", scene_frames, task=task)

    return checkpoint


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, scene_frames: list[np.ndarray]):
    """The tiny detector as an FP32 ONNX artifact, verified."""
    from yolo12edge.exporters import onnx_from_checkpoint

    out = tmp_path_factory.mktemp("onnx") / "tiny-fp32"
    return onnx_from_checkpoint(tiny_checkpoint, out, images=scene_frames[:2])


@pytest.fixture(scope="session")
def tiny_onnx_of(
    tmp_path_factory: pytest.TempPathFactory, tiny_onnx, tiny_checkpoint_of, scene_frames: list[np.ndarray]
) -> Callable[[str], Any]:
    """A function from a task to an artifact like ``tiny_onnx``, made once."""
    folder = tmp_path_factory.mktemp("onnx-of-tasks")

    @cache
    def artifact(task: str) -> Any:
        from yolo12edge.exporters import onnx_from_checkpoint

        if task == "detect":
            return tiny_onnx
        return onnx_from_checkpoint(tiny_checkpoint_of(task), folder / f"{task}-fp32", images=scene_frames[:2])

    return artifact


@pytest.fixture(scope="session")
def tiny_openvino(tmp_path_factory: pytest.TempPathFactory, tiny_onnx, scene_frames: list[np.ndarray]):
    """The tiny detector as an FP32 OpenVINO artifact, verified."""
    from yolo12edge.exporters import openvino_from_onnx

    out = tmp_path_factory.mktemp("openvino") / "tiny-openvino-fp32"
    return openvino_from_onnx(tiny_onnx, out, images=scene_frames[:2])


def fill_golden(model) -> None:
    """Fill every tensor from a generator seeded by its key, so that any implementation can do the same."""
    import torch

    state = model.state_dict()
    for key, tensor in state.items():
        if "dfl" in key or key.endswith("num_batches_tracked"):
            continue
        u = np.random.RandomState(crc32(key.encode())).rand(*tensor.shape)
        if key.endswith(("running_var", ".bn.weight")):
            value = 0.5 + u
        elif key.endswith(("running_mean", ".bias", "gamma")):
            value = 0.2 * (u - 0.5)
        else:
            value = (u - 0.5) * np.sqrt(12 / np.prod(tensor.shape[1:]))
        tensor.copy_(torch.from_numpy(np.asarray(value, dtype=np.float32)))


@pytest.fixture(scope="session")
def golden_fill():
    """``fill_golden``: the weights that the golden numbers of ``tests/parity`` belong to."""
    return fill_golden
