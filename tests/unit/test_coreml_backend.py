"""What is Core ML's own: units, images and arrays, refusals, threads, and what a damaged or later package does."""

from __future__ import annotations

import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from tests.fakes.coreml import fake_artifact, install
from yolo12edge import Runtime
from yolo12edge.artifact import Artifact
from yolo12edge.errors import ArtifactError, BackendError, InputError, MissingDependencyError
from yolo12edge.preprocess import Preprocessor
from yolo12edge.runtimes import coreml_backend, coreml_library
from yolo12edge.runtimes.coreml_backend import CoremlBackend
from yolo12edge.thresholds import Thresholds


@pytest.fixture
def fake(monkeypatch):
    """A Mac with macOS 15 on a processor of Apple's."""
    found = install(monkeypatch)
    yield found
    found.check()


@pytest.fixture(scope="module")
def half(tmp_path_factory, tiny_onnx):
    """An artifact with an image input that calls itself FP16."""
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    return fake_artifact(in_half(tiny_onnx), tmp_path_factory.mktemp("coreml") / "half")


@pytest.fixture(scope="module")
def tensors(tmp_path_factory, tiny_onnx):
    """An artifact that takes float32."""
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    return fake_artifact(tiny_onnx, tmp_path_factory.mktemp("coreml") / "tensors", image=False)


def in_half(artifact):
    manifest = artifact.manifest
    return SimpleNamespace(manifest=msgspec.structs.replace(manifest, precision="fp16"), model_file=artifact.model_file)


def opened(artifact, device="cpu", **options):
    return CoremlBackend(artifact.path / "model.mlpackage", manifest=artifact.manifest, device=device, **options)


def feeds_of(artifact, frame):
    return {"images": Preprocessor(artifact.manifest.input)(frame)[0]}


def changed(tiny_onnx, path, change, **options):
    return fake_artifact(tiny_onnx, path / "changed", change=change, **options)


def test_it_says_what_it_is(fake, half, tensors):
    backend = opened(half)
    assert backend.name == f"coremltools {fake.ct.__version__}"
    assert (backend.device, backend.parallel) == ("cpu (CPU_ONLY)", 1)
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in (*backend.inputs, *backend.outputs)] == [
        ("images", (1, 96, 96, 3), "uint8"),
        ("boxes", (1, 4, 189), "float32"),
        ("scores", (1, 3, 189), "float32"),
    ]
    assert opened(tensors).inputs[0].shape == (1, 3, 96, 96)


@pytest.mark.parametrize(
    ("device", "units", "described"),
    [
        ("cpu", "CPU_ONLY", "cpu (CPU_ONLY)"),
        ("GPU", "CPU_AND_GPU", "gpu (CPU_AND_GPU, operations: 300 on the Neural Engine, 20 on the GPU)"),
        ("Ane", "CPU_AND_NE", "ane (CPU_AND_NE, operations: 300 on the Neural Engine, 20 on the GPU)"),
        ("auto", "ALL", "ane (ALL, operations: 300 on the Neural Engine, 20 on the GPU)"),
    ],
)
def test_units_are_those_that_were_asked_for(fake, half, device, units, described):
    fake.plan = {"gpu": 20, "ane": 300}
    assert opened(half, device).device == described
    assert fake.loaded == [units]


@pytest.mark.parametrize(
    ("device", "macos", "devices", "message"),
    [
        ("ane", (15, 0), ("cpu", "gpu"), "finds no Neural Engine here; Macs .* Intel's have none.*'cpu', 'gpu'"),
        ("gpu", (14, 0), ("cpu",), "finds no GPU here.*one of 'cpu'"),
        ("ane", (12, 6), ("cpu", "gpu", "ane"), "from macOS 13 on, and this is macOS 12.6"),
        ("cuda", (15, 0), ("cpu", "gpu", "ane"), "'cuda' was asked for"),
    ],
)
def test_units_that_are_not_there_are_refused(monkeypatch, half, device, macos, devices, message):
    install(monkeypatch, macos=macos, devices=devices)
    with pytest.raises(BackendError, match=message) as caught:
        opened(half, device)
    assert caught.value.remedy


@pytest.mark.parametrize("device", ["tpu", "", "npu", "gpu.1", "all"])
def test_units_that_cannot_be_are_an_input_error(fake, half, device):
    with pytest.raises(InputError, match="'auto', 'cpu', 'gpu' or 'ane'"):
        opened(half, device)


@pytest.mark.parametrize(("machine", "refused"), [("x86_64", True), ("arm64", False)])
def test_before_macos_14_the_processor_tells(monkeypatch, half, tiny_onnx, tmp_path, machine, refused):
    install(monkeypatch, macos=(13, 6))
    monkeypatch.setattr(coreml_library.platform, "machine", lambda: machine)
    older = changed(in_half(tiny_onnx), tmp_path, lambda spec: setattr(spec, "specificationVersion", 7))
    if refused:
        with pytest.raises(BackendError, match="Intel"):
            opened(older, "ane")
    else:
        assert opened(older, "ane").device == "ane (CPU_AND_NE)"  # nothing tells where the operations run


def test_a_unit_that_would_run_nothing_is_refused(fake, half):
    fake.plan = {"cpu": 320}
    for device in ("gpu", "ane"):
        with pytest.raises(BackendError, match="would run no operation of the model on the"):
            opened(half, device)
    assert opened(half, "auto").device == "cpu (ALL, operations: 320 on the CPU)"
    fake.plan = None
    assert opened(half, "ane").device == "ane (CPU_AND_NE)"


def test_the_neural_engine_refuses_fp32(fake, tensors):
    with pytest.raises(BackendError, match="half precision and the model is FP32"):
        opened(tensors, "ane")
    fake.plan = {"gpu": 1}
    assert opened(tensors, "gpu").device.startswith("gpu")


def test_elsewhere_it_says_so(half, monkeypatch):
    monkeypatch.setattr(coreml_library.platform, "system", lambda: "Linux")
    with pytest.raises(BackendError, match=r"on macOS, and this is Linux.*ONNX and OpenVINO.*--format onnx"):
        opened(half)


def test_images_keep_their_colours(fake, half, tiny_onnx, scene_frames):
    """The frame is not square, so that its place in the picture is a part of every row."""
    frame = scene_frames[0][:60, :]
    backend = opened(half)
    found = backend.infer(feeds_of(half, frame))
    with Runtime(tiny_onnx, device="cpu", threads=1) as reference:
        expected = reference.infer({"images": reference.preprocessor(frame)[0]})
    assert fake.fed["images"].mode == "RGB"
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4)
    swapped = {"images": feeds_of(half, frame)["images"][..., ::-1]}
    assert np.abs(backend.infer(swapped)["scores"] - expected["scores"]).max() > 1e-3


def test_pixels_of_a_float_manifest_are_bgr(fake, half, tiny_onnx, scene_frames):
    """As they are with every other engine that takes pixels although the manifest does not say so."""
    backend = CoremlBackend(half.path / "model.mlpackage", manifest=tiny_onnx.manifest, device="cpu")
    found = backend.infer({"images": Preprocessor(tiny_onnx.manifest.input, pixels=True)(scene_frames[0])[0]})
    expected = opened(half).infer(feeds_of(half, scene_frames[0]))
    assert all((found[name] == expected[name]).all() for name in expected)


def test_arrays_outlive_what_core_ml_does_with_them(fake, tensors, scene_frames):
    """``fake.check`` finds arrays that would be freed in Core ML's own thread."""
    backend = opened(tensors)
    first = backend.infer(feeds_of(tensors, scene_frames[0]))
    assert fake.fed["images"] is not None
    kept = fake.fed["images"]
    again = backend.infer(feeds_of(tensors, scene_frames[0]))
    assert fake.fed["images"] is kept
    assert all((first[name] == again[name]).all() for name in first)
    backend.close()
    fake.fed = None
    del kept, backend
    fake.check()
    other = opened(tensors)
    other.infer(feeds_of(tensors, scene_frames[1]))
    assert sum(map(len, coreml_backend._lent.values())) == 0  # the array was lent again
    other.close()


@pytest.mark.parametrize("kind", ["half", "tensors"])
def test_eight_threads_get_what_one_gets(fake, kind, request, scene_frames):
    artifact = request.getfixturevalue(kind)
    backend = opened(artifact)
    feeds = [feeds_of(artifact, frame) for frame in scene_frames]
    expected = [backend.infer(feed) for feed in feeds]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(backend.infer, feeds * 4))
    for index, outputs in enumerate(found):
        assert all((outputs[name] == value).all() for name, value in expected[index % len(feeds)].items())


def test_closing_waits_for_the_call_that_runs(fake, half, scene_frames):
    backend, inside, go_on = opened(half), Event(), Event()
    fake.during = lambda: (inside.set(), go_on.wait(10))
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(backend.infer, feeds_of(half, scene_frames[0]))
        assert inside.wait(10)
        closing = Thread(target=backend.close)
        closing.start()
        closing.join(0.1)
        assert closing.is_alive()
        go_on.set()
        closing.join(10)
        assert running.result(10)["boxes"].shape == (1, 4, 189)
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.infer(feeds_of(half, scene_frames[0]))


def test_what_goes_wrong_in_a_prediction_is_a_backend_error(fake, half, scene_frames):
    backend = opened(half)

    def fail():
        raise RuntimeError('{\n  NSLocalizedDescription = "out of\x1b memory";\n}' + "x" * 999)

    fake.during = fail
    with pytest.raises(BackendError, match=r"could not run the model: .*out of\? memory") as caught:
        backend.infer(feeds_of(half, scene_frames[0]))
    assert len(str(caught.value)) < 400
    fake.during = lambda: None
    assert backend.infer(feeds_of(half, scene_frames[0]))


@pytest.mark.parametrize("kind", ["half", "tensors"])
def test_wrong_feeds_never_reach_core_ml(fake, kind, request, scene_frames):
    artifact = request.getfixturevalue(kind)
    backend, right = opened(artifact), feeds_of(artifact, scene_frames[0])["images"]
    for feeds in (
        {},
        {"other": right},
        {"images": right, "other": right},
        {"images": right.astype(np.float64)},
        {"images": right[0]},
        {"images": np.concatenate([right, right])},
        {"images": right[:, :, :40]},
    ):
        with pytest.raises(BackendError, match="the feeds are"):
            backend.infer(feeds)
    assert fake.fed is None


def test_batches_of_any_size_that_the_package_takes(fake, tiny_onnx, tmp_path, scene_frames):
    from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx

    form = TensorRtForm(precision="fp32", batch=3, min_batch=1)
    model, manifest = tensorrt_onnx(tiny_onnx.model_file.read_bytes(), tiny_onnx.manifest, form)
    (tmp_path / "batched.onnx").write_bytes(model)
    source = SimpleNamespace(manifest=manifest, model_file=tmp_path / "batched.onnx")
    artifact = fake_artifact(source, tmp_path / "batched", image=False)
    backend = opened(artifact)
    assert [tensor.shape for tensor in (*backend.inputs, *backend.outputs)] == [
        (None, 3, 96, 96),
        (None, 4, 189),
        (None, 3, 189),
    ]
    with pytest.raises(BackendError, match="the feeds are"):
        backend.infer({"images": np.zeros((4, 3, 96, 96), np.float32)})
    with Runtime(artifact, device="cpu") as runtime, Runtime(tiny_onnx, device="cpu", threads=1) as reference:
        for found, frame in zip(runtime.batch(scene_frames), scene_frames, strict=True):
            np.testing.assert_allclose(found.xyxy, reference(frame).xyxy, atol=0.05)


def test_a_model_that_core_ml_does_not_load_is_a_backend_error(fake, half):
    fake.failure = "Failed to build the model execution plan"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BackendError, match=r"cannot load .*Failed to build the model execution plan"):
            opened(half)


def test_coremltools_without_its_native_part_is_said(fake, half, monkeypatch):
    monkeypatch.setattr(fake.ct.models.model, "_MLModelProxy", None)
    with pytest.raises(BackendError, match=r"without the part that runs models.*Python 3\.10 to 3\.13"):
        opened(half)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: setattr(spec, "specificationVersion", 9), r"needs macOS 15 \(iOS 18\), and this is macOS 14.2"),
        (lambda spec: setattr(spec, "specificationVersion", 99), "not known yet.*update yolo12edge"),
        (lambda spec: spec.pipeline.models.add(), "Apple's non-maximum suppression"),
        (lambda spec: spec.neuralNetwork.layers.add(), "neuralNetwork.*an ML program"),
        (lambda spec: spec.ClearField("mlProgram"), "model of no kind"),
        (lambda spec: spec.description.input.add(name="more"), "2 inputs"),
        (lambda spec: setattr(spec.description.input[0].type.imageType, "colorSpace", 10), "GRAYSCALE"),
        (lambda spec: spec.description.input[0].type.stringType.SetInParent(), "of kind stringType"),
    ],
    ids=["later", "unknown", "pipeline", "network", "none", "inputs", "grey", "text"],
)
def test_packages_that_cannot_be_run_are_an_artifact_error(monkeypatch, tiny_onnx, tmp_path, change, message):
    fake = install(monkeypatch, macos=(14, 2))
    with pytest.raises(ArtifactError, match=message):
        opened(changed(tiny_onnx, tmp_path, change))
    assert not fake.loaded


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: setattr(spec.description.input[0], "name", "picture"),
        lambda spec: setattr(spec.description.input[0].type.imageType, "height", 128),
        lambda spec: setattr(spec.description.output[0], "name", "other"),
        lambda spec: setattr(spec.description.output[0].type.multiArrayType, "dataType", 65552),
        lambda spec: spec.description.output.pop(),
    ],
    ids=["input", "size", "output", "type", "count"],
)
def test_a_package_that_is_not_that_of_the_manifest_is_refused(fake, tiny_onnx, tmp_path, change):
    with pytest.raises(ArtifactError, match="as the manifest says"):
        Runtime(changed(tiny_onnx, tmp_path, change))


def test_enumerated_sizes_hold_that_of_the_manifest(fake, tiny_onnx, tmp_path):
    def other_default(spec):
        image = spec.description.input[0].type.imageType
        image.height = image.width = 64
        for size in (64, 96):
            image.enumeratedSizes.sizes.add(height=size, width=size)
        for output in spec.description.output:  # the package leaves open what depends on the size
            del output.type.multiArrayType.shape[:]

    backend = opened(changed(tiny_onnx, tmp_path, other_default))
    assert backend.inputs[0].shape == (1, 96, 96, 3)
    assert backend.outputs[0].shape == (1, 4, 189)


def test_what_the_exporter_writes_runs_and_survives_coremltools(fake, tiny_onnx, tmp_path, scene_frames):
    """The program itself, run by the evaluator; then coremltools writes the package's manifest anew: the same bytes."""
    from yolo12edge.exporters.coreml_export import coreml_from_onnx
    from yolo12edge.exporters.coreml_package import CoremlForm

    artifact = coreml_from_onnx(tiny_onnx, tmp_path / "a", CoremlForm(precision="fp32"), images=scene_frames[:1])
    frame = scene_frames[1][:70]
    with Runtime(artifact, device="cpu") as runtime, Runtime(tiny_onnx, device="cpu", threads=1) as reference:
        found, expected = runtime(frame), reference(frame)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=0.01)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
    fake.ct.models.utils.load_spec(str(artifact.path / "model.mlpackage"))
    assert Artifact.load(artifact.path) == artifact


def test_opening_leaves_the_package_as_it_was_verified(fake, half):
    """coremltools writes a package's own manifest anew when it opens it."""
    CoremlBackend(half.path / "model.mlpackage", manifest=half.manifest).close()
    assert Artifact.load(half.path) == half


@pytest.mark.parametrize(
    ("path", "message"),
    [("../../outside", "lies outside"), ("com.apple.CoreML", "Is a directory"), (None, "cannot be read")],
    ids=["outside", "folder", "nothing"],
)
def test_package_manifests_that_lead_elsewhere_are_refused(fake, half, tmp_path, path, message):
    copy = tmp_path / "model.mlpackage"
    shutil.copytree(half.path / "model.mlpackage", copy)
    shutil.copy(copy / "Data" / "com.apple.CoreML" / "model.mlmodel", tmp_path / "outside")
    index = msgspec.json.decode((copy / "Manifest.json").read_bytes())
    index["itemInfoEntries"][index["rootModelIdentifier"]]["path"] = path
    (copy / "Manifest.json").write_bytes(msgspec.json.encode(index))
    with pytest.raises(ArtifactError, match=message):
        CoremlBackend(copy, manifest=half.manifest)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 99, None], ids=["empty", "noise", "missing"])
def test_damaged_packages_are_an_artifact_error(fake, half, tmp_path, damage):
    copy = tmp_path / "model.mlpackage"
    shutil.copytree(half.path / "model.mlpackage", copy)
    model = copy / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model.unlink() if damage is None else model.write_bytes(damage)
    with pytest.raises(ArtifactError):
        CoremlBackend(copy, manifest=half.manifest)
    with pytest.raises(ArtifactError, match="not a directory"):
        CoremlBackend(tmp_path / "nothing", manifest=half.manifest)


def test_a_lone_package_runs_by_its_own_manifest(fake, half, tiny_onnx, tmp_path, scene_frames):
    package = tmp_path / "alone.mlpackage"
    shutil.copytree(half.path / "model.mlpackage", package)
    with Runtime(package, device="cpu") as alone, Runtime(half, device="cpu") as whole:
        assert (alone(scene_frames[0]).xyxy == whole(scene_frames[0]).xyxy).all()
    bare = changed(tiny_onnx, tmp_path, lambda spec: spec.description.metadata.userDefined.pop("yolo12edge"))
    with pytest.raises(ArtifactError, match="no manifest of yolo12edge"):
        Runtime(bare.path / "model.mlpackage")


@pytest.mark.parametrize("part", ["model.mlmodel", "weights/weight.bin"])
def test_files_that_were_not_verified_are_not_used(fake, half, tmp_path, part):
    copy = tmp_path / "copy"
    shutil.copytree(half.path, copy)
    text = msgspec.json.decode((copy / "manifest.json").read_bytes())
    text["files"] = [entry for entry in text["files"] if not entry["path"].endswith(part)]
    (copy / "manifest.json").write_bytes(msgspec.json.encode(text))
    with pytest.raises(ArtifactError, match="has no file"):
        Runtime(copy)


@pytest.mark.parametrize(("module", "name"), [("coremltools", "coremltools"), ("PIL", "pillow")])
def test_what_is_not_installed_is_named(fake, half, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"'{name}' is not installed.*yolo12edge\[coreml\]"):
        opened(half)


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_every_task_runs(fake, task, tiny_onnx_of, scene_frames, tmp_path):
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    source = tiny_onnx_of(task)
    package = fake_artifact(source, tmp_path / task)
    few = Thresholds(confidence=0.001, max_detections=10)
    with Runtime(package, device="cpu", warmup=0) as runtime, Runtime(source, device="cpu", threads=1) as onnx:
        found, wanted = (one(scene_frames[0], thresholds=few) for one in (runtime, onnx))
    assert len(found) == len(wanted) > 0
    for name in ("xyxy", "confidence", "keypoints", "obb", "probs"):
        mine, theirs = getattr(found, name), getattr(wanted, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or np.allclose(mine, theirs, atol=0.05), name
    if task == "segment":
        assert np.mean(found.mask.full() != wanted.mask.full()) < 0.01
