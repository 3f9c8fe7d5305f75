"""Checkpoints as they stand: the manifest that is made for them, and PyTorch as a backend, for every task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo12edge.checkpoint import Checkpoint, read_metadata
from yolo12edge.errors import BackendError, InputError
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import TASKS, Manifest
from yolo12edge.nn import deploy_form
from yolo12edge.runtimes.torch_backend import TorchBackend, manifest_for_checkpoint

OUTPUTS = {  # at 64 x 96 there are 126 candidates
    "detect": {"boxes": (1, 4, 126), "scores": (1, 3, 126)},
    "segment": {
        "boxes": (1, 4, 126),
        "scores": (1, 3, 126),
        "coefficients": (1, 32, 126),
        "prototypes": (1, 32, 16, 24),
    },
    "classify": {"probabilities": (1, 3)},
    "pose": {"boxes": (1, 4, 126), "scores": (1, 3, 126), "keypoints": (1, 12, 126)},
    "obb": {"rotated_boxes": (1, 4, 126), "angles": (1, 1, 126), "scores": (1, 3, 126)},
}


@pytest.mark.parametrize("task", TASKS)
def test_the_manifest_says_what_the_model_gives(task: str, tiny_checkpoint_of: Callable[[str], Path]) -> None:
    manifest = manifest_for_checkpoint(tiny_checkpoint_of(task), image_size=(64, 96))
    manifest.check()
    assert (manifest.task, manifest.format, manifest.class_names) == (task, "torch", ["a", "b", "c"])
    assert {output.role: output.shape for output in manifest.outputs} == OUTPUTS[task]
    assert all(output.name == output.role for output in manifest.outputs)
    assert manifest.input.resize == ("centre-crop" if task == "classify" else "letterbox")
    assert manifest.keypoints == (KeypointSpec(count=4, flip=[1, 0, 2, 3]) if task == "pose" else None)
    text = manifest.to_embedded_json()
    assert Manifest.from_embedded_json(text).outputs == manifest.outputs


@pytest.mark.parametrize("task", TASKS)
def test_the_backend_gives_what_the_model_gives(task: str, tiny_checkpoint_of: Callable[[str], Path]) -> None:
    checkpoint = tiny_checkpoint_of(task)
    manifest = manifest_for_checkpoint(checkpoint, image_size=(64, 96))
    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    backend = TorchBackend(checkpoint, manifest, device="cpu")
    found = backend.infer({"images": images})
    backend.close()
    with torch.inference_mode():
        expected = deploy_form(Checkpoint.load(checkpoint).model())(torch.from_numpy(images))
    assert {name: value.shape for name, value in found.items()} == OUTPUTS[task]
    assert {info.name: info.shape for info in backend.outputs} == OUTPUTS[task]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name].numpy(), rtol=1e-5, atol=1e-4, err_msg=name)
    with pytest.raises(BackendError, match="closed"):
        backend.infer({"images": images})


def test_classes_that_do_not_exclude_each_other(tiny_checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    import msgspec

    checkpoint = Checkpoint.load(tiny_checkpoint_of("classify"))
    path = tmp_path / "many.safetensors"
    Checkpoint(msgspec.structs.replace(checkpoint.meta, multi_label=True), checkpoint.tensors).save(path)
    assert read_metadata(path).multi_label
    manifest = manifest_for_checkpoint(path)
    assert manifest.multi_label
    shape = manifest.input.shape(1)
    backend = TorchBackend(path, manifest, device="cpu")
    probabilities = backend.infer({"images": np.zeros(shape, np.float32)})["probabilities"]
    backend.close()
    logits = checkpoint.model()(torch.zeros(shape)).detach()
    np.testing.assert_allclose(probabilities, logits.sigmoid().numpy(), atol=1e-4)


def test_sides_that_do_not_fit_are_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="multiples of 32"):
        manifest_for_checkpoint(tiny_checkpoint, image_size=100)


def test_feeds_that_do_not_fit_are_refused(tiny_checkpoint: Path) -> None:
    backend = TorchBackend(tiny_checkpoint, manifest_for_checkpoint(tiny_checkpoint), device="cpu")
    with pytest.raises(BackendError, match="the feeds are"):
        backend.infer({"images": np.zeros((1, 3, 64, 64), np.float32)})
    backend.close()
