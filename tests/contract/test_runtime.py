"""What every backend promises, with one body for all of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
from yolo12edge.manifest import Calibration
from yolo12edge.runtimes import TensorInfo
from yolo12edge.thresholds import Thresholds

KEEP = Thresholds(confidence=0.3)


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
    outputs = runtime.infer({spec.name: runtime.preprocessor.buffer().tensor})
    assert {name: value.shape for name, value in outputs.items()} == {
        output.name: output.shape for output in runtime.manifest.outputs
    }
    assert all(value.dtype == np.float32 for value in outputs.values())


def test_reports_what_it_runs_on(runtime, device):
    assert runtime.device.startswith(device)
    assert runtime.engine.split()[0] in ("onnxruntime", "openvino", "torch", "tensorrt", "coremltools")
    assert runtime.threads >= 1


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"images": np.zeros((1, 3, 32, 32), np.float32)},
        {"images": np.zeros((1, 3, 96, 96), np.float64)},
        {"other": np.zeros(1)},
    ],
    ids=["none", "other shape", "other type", "other name"],
)
def test_wrong_feeds_are_a_backend_error(runtime, feeds):
    with pytest.raises(BackendError):
        runtime.infer(feeds)


def test_outputs_are_the_callers_own(runtime, scene_frames):
    (name, first), *_ = runtime.infer(_feeds(runtime, scene_frames[0])).items()
    kept = first.copy()
    runtime.infer(_feeds(runtime, scene_frames[1]))
    assert (first == kept).all()
    first[:] = 0
    assert (runtime.infer(_feeds(runtime, scene_frames[0]))[name] == kept).all()


def _feeds(runtime, frame):
    return {runtime.manifest.input.name: runtime.preprocessor(frame)[0]}


def test_frame_is_not_changed_and_wrong_frames_are_refused(runtime, scene_frames):
    frame = scene_frames[0].copy()
    runtime(frame)
    assert (frame == scene_frames[0]).all()
    for wrong in (frame.astype(np.float32), frame[..., 0], np.zeros((0, 5, 3), np.uint8), None):
        with pytest.raises(InputError):
            runtime(wrong)


def test_calls_from_several_threads_give_the_same(runtime, scene_frames):
    expected = [runtime(frame, thresholds=KEEP) for frame in scene_frames]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda frame: runtime(frame, thresholds=KEEP), scene_frames * 4))
    for index, detections in enumerate(found):
        assert len(detections) == len(expected[index % len(scene_frames)])
        np.testing.assert_allclose(detections.xyxy, expected[index % len(scene_frames)].xyxy, atol=1e-3)


def test_use_after_close_is_refused(source, device, scene_frames):
    with Runtime(source, device=device) as opened:
        pass
    opened.close()
    with pytest.raises(BackendError, match="closed"):
        opened(scene_frames[0])


def test_cuda_is_refused_where_it_is_not(source, tensorrt):
    import onnxruntime
    import torch

    here = "CUDAExecutionProvider" in onnxruntime.get_available_providers() or torch.cuda.is_available()
    if tensorrt is not None:
        tensorrt.cuda.driver = False
    elif here:
        pytest.skip("this machine has CUDA; refusing cannot be shown here")
    with pytest.raises(BackendError, match="'cuda' was asked for") as caught:
        Runtime(source, device="cuda")
    assert caught.value.remedy


@pytest.mark.parametrize(
    "options",
    [{"device": "tpu"}, {"threads": 0}, {"warmup": -1}, {"hint": "speed"}, {"cache": "README.md/below"}],
    ids=lambda options: next(iter(options)),
)
def test_options_are_checked(source, options, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])  # where README.md is a file
    with pytest.raises(InputError):
        Runtime(source, **options)


def test_options_of_other_engines_are_refused_not_ignored(kind, source, device, tmp_path):
    takes_hint, takes_cache = "openvino" in kind, kind not in ("torch", "tensorrt", "coreml", "coreml function")
    for options, known in (({"hint": "throughput"}, takes_hint), ({"cache": tmp_path}, takes_cache)):
        if known:
            Runtime(source, device=device, **options).close()
        else:
            with pytest.raises(InputError, match="is for"):
                Runtime(source, device=device, **options)


def test_devices_may_be_named_in_any_case(source, device):
    with Runtime(source, device=device.upper(), threads=1) as opened:
        assert opened.device.startswith(device)


def test_sources_of_no_kind_are_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"x")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08not onnx")
    (tmp_path / "model.xml").write_bytes(b"<net/>")
    (tmp_path / "model.safetensors").write_bytes(b"no")
    for name, error in (
        ("missing", InputError),
        ("model.pt", InputError),
        ("model.onnx", ArtifactError),
        ("model.xml", ArtifactError),
        ("model.safetensors", CheckpointError),
        (".", ArtifactError),
    ):
        with pytest.raises(error):
            Runtime(tmp_path / name)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.bin"])
def test_altered_artifact_is_refused(tiny_onnx, tiny_openvino, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_onnx.path if name == "model.onnx" else tiny_openvino.path, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
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


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_missing_engine_names_the_extra(tiny_onnx, tiny_openvino, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingDependencyError, match=rf"yolo12edge\[{engine}\]"):
        Runtime(tiny_onnx if engine == "onnxruntime" else tiny_openvino)


class Engine:
    """A backend that is open already."""

    name, device, threads, parallel = "engine 1", "cpu", 1, 1

    def __init__(self, manifest):
        spec = manifest.input
        self.inputs = (TensorInfo(spec.name, (1, 3, spec.height, spec.width), "float32"),)
        self.outputs = tuple(TensorInfo(output.name, output.shape, "float32") for output in manifest.outputs)
        self.runs, self.closed = 0, False

    def infer(self, feeds):
        self.runs += 1
        return {output.name: np.zeros(output.shape, np.float32) for output in self.outputs}

    def close(self):
        self.closed = True


def test_a_runtime_on_an_open_engine(tiny_onnx, scene_frames):
    engine = Engine(tiny_onnx.manifest)
    with Runtime.of(engine, tiny_onnx.manifest, warmup=1) as runtime:
        assert len(runtime(scene_frames[0])) == 0
        assert (runtime.engine, runtime.device, runtime.threads, engine.runs) == ("engine 1", "cpu", 1, 2)
    assert engine.closed


def test_a_runtime_refuses_and_closes_an_engine_that_does_not_fit(tiny_onnx):
    engine = Engine(tiny_onnx.manifest)
    engine.outputs = engine.outputs[:1]
    with pytest.raises(ArtifactError, match="as the manifest says"):
        Runtime.of(engine, tiny_onnx.manifest)
    assert engine.closed


@pytest.mark.parametrize(
    ("placement", "device", "saturates", "warns"),
    [
        ("ort-x86-vnni", "cpu", True, True),
        ("openvino-vnni", "cpu (Some CPU)", True, True),
        ("openvino-vnni", "gpu (Some GPU)", True, False),
        ("openvino-vnni", "cpu", False, False),
        ("openvino", "cpu", True, False),
        ("tensorrt", "cpu", True, False),
    ],
)
def test_eight_bit_weights_that_saturate_here_are_said(tiny_onnx, monkeypatch, placement, device, saturates, warns):
    calibration = Calibration(
        method="mse",
        split="train",
        images=["a"],
        images_digest="0" * 64,
        placement=placement,
        float_nodes=[],
        reduced_range=placement == "openvino",
    )
    manifest = msgspec.structs.replace(tiny_onnx.manifest, precision="int8", calibration=calibration)
    engine = Engine(manifest)
    engine.device = device
    monkeypatch.setattr("yolo12edge.runtimes.opening.int8_saturates", lambda: saturates)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Runtime.of(engine, manifest)
    assert [(str(warning.message)[:32], warning.filename) for warning in caught] == [
        ("this INT8 artifact has 8-bit wei", __file__)
    ] * warns


def test_artifact_directory_as_text(tiny_onnx):
    with Runtime(str(tiny_onnx.path)) as opened:
        assert opened.manifest == Artifact.load(tiny_onnx.path).manifest


def test_importing_the_runtime_loads_no_engine():
    code = (
        "import sys; from yolo12edge import Runtime; "
        "print([m for m in ('torch', 'onnxruntime', 'openvino', 'coremltools', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_are_of_one_family():
    assert issubclass(BackendError, Yolo12EdgeError)
