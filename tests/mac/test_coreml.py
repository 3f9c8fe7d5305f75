"""Core ML itself, on every unit of this Mac: the numbers of the evaluator, which has stood for it everywhere else."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from yolo12edge import Runtime
from yolo12edge.artifact import Artifact
from yolo12edge.errors import BackendError
from yolo12edge.runtimes.coreml_library import macos_version
from yolo12edge.thresholds import Thresholds

pytestmark = pytest.mark.coreml
ROOT = Path(__file__).parents[2]
KEEP = Thresholds(confidence=0.3)
FORMS = {
    "fp32": {"precision": "fp32"},
    "fp16": {},
    "tensor": {"precision": "fp32", "image_input": False},
    "batch": {"precision": "fp32", "image_input": False, "batch": 3, "min_batch": 1},
    "int8 weights": {"weights": "int8"},
    "6 bits": {"weights": "palettized-6"},
}
# Of boxes in pixels, and of scores; Core ML may round in another order than the evaluator.
TOLERANCE = {"fp32": (0.01, 1e-4), "fp16": (1.0, 0.02)}


@pytest.fixture(scope="module", params=FORMS)
def artifact(request, mac, tiny_onnx, tmp_path_factory, scene_frames):
    from yolo12edge.exporters.coreml_export import coreml_from_onnx
    from yolo12edge.exporters.coreml_package import CoremlForm

    out = tmp_path_factory.mktemp("coreml") / request.param.replace(" ", "-")
    return coreml_from_onnx(tiny_onnx, out, CoremlForm(**FORMS[request.param]), images=scene_frames[:2])


@pytest.fixture(params=["cpu", "gpu", "ane"])
def runtime(request, artifact):
    try:
        opened = Runtime(artifact, device=request.param)
    except BackendError as error:
        if request.param == "cpu":
            raise
        pytest.skip(error.fact)  # a Mac without it, or a model that it does not compute
    with opened:
        assert opened.device.startswith(request.param)
        yield opened


def test_the_numbers_are_those_of_the_evaluator(artifact, runtime, scene_frames):
    from yolo12edge.exporters.mil_evaluator import MilBackend

    boxes, scores = TOLERANCE["fp32" if "cpu" in runtime.device and artifact.manifest.precision == "fp32" else "fp16"]
    with closing(MilBackend(artifact.path / "model.mlpackage")) as evaluator:
        for frame in scene_frames:
            feeds = {runtime.manifest.input.name: runtime.preprocessor(frame)[0]}
            found, expected = runtime.infer(feeds), evaluator.infer(feeds)
            assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(expected, np.float32)
            np.testing.assert_allclose(found["scores"], expected["scores"], atol=scores)
            likely = expected["scores"].max(1)[0] > 0.25
            np.testing.assert_allclose(found["boxes"][0][:, likely], expected["boxes"][0][:, likely], atol=boxes)


def test_eight_threads_get_what_one_gets(runtime, scene_frames):
    expected = [runtime(frame, thresholds=KEEP) for frame in scene_frames]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda frame: runtime(frame, thresholds=KEEP), scene_frames * 4))
    for index, detections in enumerate(found):
        assert (detections.xyxy == expected[index % len(scene_frames)].xyxy).all()


def test_frames_that_are_not_square_and_streams(runtime, scene_frames):
    frames = [frame[:90, : 100 + 10 * index] for index, frame in enumerate(scene_frames)]
    expected = [runtime(frame, thresholds=KEEP) for frame in frames]
    for found, one in zip(runtime.batch(frames, thresholds=KEEP), expected, strict=True):
        np.testing.assert_allclose(found.xyxy, one.xyxy, atol=0.1)
    with runtime.stream(frames, thresholds=KEEP) as stream:
        for (_, found), one in zip(stream, expected, strict=True):
            np.testing.assert_allclose(found.xyxy, one.xyxy, atol=0.1)


def test_opening_changes_no_file(artifact):
    Runtime(artifact, device="cpu").close()
    assert Artifact.load(artifact.path) == artifact


def test_the_package_runs_alone_and_auto_says_where(artifact, scene_frames):
    with Runtime(artifact.path / "model.mlpackage") as alone:
        assert "(ALL" in alone.device
        assert len(alone(scene_frames[0])) >= 0


def test_each_function_of_a_package_gives_the_numbers_of_its_artifact(mac, tiny_checkpoint, tmp_path, scene_frames):
    from yolo12edge.exporters import coreml_from_onnx, coreml_sizes, onnx_from_checkpoint
    from yolo12edge.exporters.coreml_package import CoremlForm

    if (macos_version() or ()) < (15,):
        pytest.skip("functions need macOS 15")
    artifacts = []
    for size in (96, 64):
        onnx = onnx_from_checkpoint(tiny_checkpoint, tmp_path / f"onnx-{size}", image_size=size)
        form = CoremlForm(precision="fp32", target="iOS18")
        artifacts.append(coreml_from_onnx(onnx, tmp_path / f"coreml-{size}", form))
    package = coreml_sizes(artifacts, tmp_path / "sizes.mlpackage")
    for source, artifact in zip((package, package / "size_64x64"), artifacts, strict=True):
        with Runtime(source, device="cpu") as found, Runtime(artifact, device="cpu") as expected:
            feeds = {found.manifest.input.name: found.preprocessor(scene_frames[0])[0]}
            numbers = found.infer(feeds)
            for name, value in expected.infer(feeds).items():
                np.testing.assert_allclose(numbers[name], value, rtol=1e-4, atol=1e-3)


LINGER = """
import sys, time
import numpy as np
from yolo12edge import Runtime
runtime = Runtime(sys.argv[1], device="cpu")
frame = np.full((96, 96, 3), 90, np.uint8)
for _ in range(3):
    runtime(frame)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        [object() for _ in range(10000)]
runtime.close()
del runtime
end = time.monotonic() + 2.5
while time.monotonic() < end:
    [object() for _ in range(10000)]
print("alive")
"""


def test_core_ml_frees_no_array_in_its_own_thread(artifact):
    """Core ML lets go of inputs a second after the last prediction, without the interpreter's lock."""
    command = [sys.executable, "-c", LINGER, artifact.path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert (done.stdout.strip(), done.returncode) == ("alive", 0), done.stderr[-2000:]


def test_the_bundled_detector_scores_as_with_onnx_runtime(mac, tmp_path):
    """AP50-95 of FP16 on every unit, on scenes that nothing was trained or calibrated on."""
    from yolo12edge.assets import DEMO_CHECKPOINT
    from yolo12edge.data.scenes import generate_scenes
    from yolo12edge.exporters import onnx_from_checkpoint
    from yolo12edge.exporters.coreml_export import coreml_from_onnx
    from yolo12edge.exporters.coreml_package import CoremlForm
    from yolo12edge.metrics.evaluate import evaluate_runtime

    dataset = generate_scenes(tmp_path / "scenes", train=1, val=60, seed=5)
    onnx = onnx_from_checkpoint(DEMO_CHECKPOINT, tmp_path / "onnx")
    half = coreml_from_onnx(onnx, tmp_path / "half", CoremlForm())
    samples = dataset.samples("val")

    def ap(source, device):
        with Runtime(source, device=device) as runtime:
            return evaluate_runtime(runtime, samples, dataset.class_names).metrics.ap

    expected = ap(onnx, "cpu")
    assert abs(ap(half, "cpu") - expected) < 0.005
    for unit in ("gpu", "ane"):
        with suppress(BackendError):  # a Mac without it
            assert abs(ap(half, unit) - expected) < 0.005
