"""What every backend promises, with one body for all of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from yolo12edge import Runtime
from yolo12edge.artifact import Artifact, write_artifact
from yolo12edge.errors import (
    ArtifactError,
    BackendError,
    CheckpointError,
    InputError,
    MissingDependencyError,
    Yolo12EdgeError,
)
from yolo12edge.thresholds import Thresholds

KEEP = Thresholds(confidence=0.3)


@pytest.fixture(params=["onnxruntime", "onnx file", "torch"])
def source(request, tiny_checkpoint, tiny_onnx):
    return {"onnxruntime": tiny_onnx, "onnx file": tiny_onnx.model_file, "torch": tiny_checkpoint}[request.param]


@pytest.fixture
def runtime(source):
    with Runtime(source, device="cpu", threads=1) as opened:
        yield opened


def test_detections_lie_in_the_frame_best_first(runtime, scene_frames):
    frame = scene_frames[0][:90, :150]
    found = runtime(frame, thresholds=KEEP)
    assert len(found) > 0
    assert found.xyxy.min() >= 0
    assert found.xyxy[:, 2].max() <= 150
    assert found.xyxy[:, 3].max() <= 90
    assert (np.diff(found.confidence) <= 0).all()
    assert set(found.class_id.tolist()) <= {0, 1, 2}


def test_all_backends_agree(runtime, tiny_checkpoint, scene_frames):
    with Runtime(tiny_checkpoint, device="cpu", threads=1) as reference:
        for frame in scene_frames[:3]:
            expected, found = reference(frame, thresholds=KEEP), runtime(frame, thresholds=KEEP)
            assert len(expected) == len(found)
            order = np.lexsort(expected.xyxy.round(1).T), np.lexsort(found.xyxy.round(1).T)
            np.testing.assert_allclose(expected.xyxy[order[0]], found.xyxy[order[1]], atol=0.06)


def test_infer_gives_what_the_manifest_says(runtime):
    spec = runtime.manifest.input
    outputs = runtime.infer({spec.name: np.zeros((1, 3, spec.height, spec.width), np.float32)})
    assert {name: value.shape for name, value in outputs.items()} == {
        output.name: output.shape for output in runtime.manifest.outputs
    }
    assert all(value.dtype == np.float32 for value in outputs.values())


def test_reports_what_it_runs_on(runtime):
    assert runtime.device.startswith("cpu")
    assert runtime.engine.split()[0] in ("onnxruntime", "torch")
    assert runtime.threads >= 1


@pytest.mark.parametrize("feeds", [{}, {"images": np.zeros((1, 3, 32, 32), np.float32)}, {"other": np.zeros(1)}])
def test_wrong_feeds_are_a_backend_error(runtime, feeds):
    with pytest.raises(BackendError):
        runtime.infer(feeds)


def test_frame_is_not_changed_and_wrong_frames_are_refused(runtime, scene_frames):
    frame = scene_frames[0].copy()
    runtime(frame)
    assert (frame == scene_frames[0]).all()
    for wrong in (frame.astype(np.float32), frame[..., 0], np.zeros((0, 5, 3), np.uint8), None):
        with pytest.raises(InputError):
            runtime(wrong)


def test_calls_from_several_threads_give_the_same(runtime, scene_frames):
    expected = [runtime(frame, thresholds=KEEP) for frame in scene_frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda frame: runtime(frame, thresholds=KEEP), scene_frames * 3))
    for index, detections in enumerate(found):
        np.testing.assert_allclose(detections.xyxy, expected[index % len(scene_frames)].xyxy, atol=1e-3)


def test_use_after_close_is_refused(source, scene_frames):
    with Runtime(source, device="cpu") as opened:
        pass
    opened.close()
    with pytest.raises(BackendError, match="closed"):
        opened(scene_frames[0])


def test_cuda_is_refused_where_it_is_not(source):
    import onnxruntime
    import torch

    here = "CUDAExecutionProvider" in onnxruntime.get_available_providers() or torch.cuda.is_available()
    if here:
        pytest.skip("this machine has CUDA; refusing cannot be shown here")
    with pytest.raises(BackendError, match="'cuda' was asked for") as caught:
        Runtime(source, device="cuda")
    assert caught.value.remedy


@pytest.mark.parametrize(
    "options", [{"device": "tpu"}, {"threads": 0}, {"warmup": -1}], ids=["device", "threads", "warmup"]
)
def test_options_are_checked(source, options):
    with pytest.raises(InputError):
        Runtime(source, **options)


def test_sources_of_no_kind_are_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"x")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08not onnx")
    (tmp_path / "model.safetensors").write_bytes(b"no")
    for name, error in (
        ("missing", InputError),
        ("model.pt", InputError),
        ("model.onnx", ArtifactError),
        ("model.safetensors", CheckpointError),
        (".", ArtifactError),
    ):
        with pytest.raises(error):
            Runtime(tmp_path / name)


def test_altered_artifact_is_refused(tiny_onnx, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_onnx.path, copy)
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="altered"):
        Runtime(copy)


@pytest.mark.parametrize("part", ["input name", "input size", "output name"])
def test_a_manifest_that_does_not_fit_the_model_is_refused(tiny_onnx, tmp_path, part):
    manifest = tiny_onnx.manifest
    if part == "input name":
        spec = msgspec.structs.replace(manifest.input, name="pixels")
        manifest = msgspec.structs.replace(manifest, input=spec)
    elif part == "input size":
        spec = msgspec.structs.replace(manifest.input, height=128)
        manifest = msgspec.structs.replace(manifest, input=spec)
    else:
        outputs = [msgspec.structs.replace(output, name=f"{output.name}2") for output in manifest.outputs]
        manifest = msgspec.structs.replace(manifest, outputs=outputs)
    artifact = write_artifact(tmp_path / "a", manifest, {"model.onnx": tiny_onnx.model_file})
    with pytest.raises(ArtifactError, match="as the manifest says"):
        Runtime(artifact)


def test_missing_engine_names_the_extra(tiny_onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"yolo12edge\[onnxruntime\]"):
        Runtime(tiny_onnx)


def test_artifact_directory_as_text(tiny_onnx):
    with Runtime(str(tiny_onnx.path)) as opened:
        assert opened.manifest == Artifact.load(tiny_onnx.path).manifest


def test_importing_the_runtime_loads_no_engine():
    code = (
        "import sys; from yolo12edge import Runtime; "
        "print([m for m in ('torch', 'onnxruntime', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_are_of_one_family():
    assert issubclass(BackendError, Yolo12EdgeError)
