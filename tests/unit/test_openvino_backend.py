"""What is OpenVINO's own: devices, precision, threads, hints, the cache, damaged files, and silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from yolo12edge.cli.doctor import ENGINES, probe
from yolo12edge.errors import ArtifactError, BackendError, InputError
from yolo12edge.preprocess import Preprocessor
from yolo12edge.runtimes import openvino_backend
from yolo12edge.runtimes.openvino_backend import OpenVinoBackend
from yolo12edge.runtimes.openvino_library import import_openvino

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tiny_openvino):
    return tiny_openvino.model_file


@pytest.fixture(scope="module")
def feeds(tiny_openvino, scene_frames):
    preprocessor = Preprocessor(tiny_openvino.manifest.input)
    return [{"images": preprocessor(frame)[0]} for frame in scene_frames]


def test_it_says_what_it_is(model):
    openvino = import_openvino()
    backend = OpenVinoBackend(model, device="CPU", threads=1)
    name = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    assert backend.name == f"openvino {openvino.__version__.split('-')[0]}"
    assert (backend.device, backend.threads) == (f"cpu ({name})", 1)
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in (*backend.inputs, *backend.outputs)] == [
        ("images", (1, 3, 96, 96), "float32"),
        ("boxes", (1, 4, 189), "float32"),
        ("scores", (1, 3, 189), "float32"),
    ]


def test_it_keeps_to_float32_and_lets_threads_move(model):
    """OpenVINO's own choice would be bfloat16 where the processor has it, and pinned threads."""
    compiled = OpenVinoBackend(model, device="cpu", threads=1)._compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_half_precision_is_for_models_stored_in_it(tiny_onnx, tmp_path):
    from yolo12edge.exporters import openvino_from_onnx

    half = openvino_from_onnx(tiny_onnx, tmp_path / "half", precision="fp16", verify=False).model_file
    core = import_openvino().Core()
    for capabilities, expected in ((["FP32", "FP16"], "f16"), (["FP32", "BF16"], "f32")):
        fake = SimpleNamespace(get_property=lambda device, name, found=capabilities: found)
        settings = openvino_backend._settings(core.read_model(half), fake, "CPU", 1)
        assert settings["INFERENCE_PRECISION_HINT"] == expected
        settings = openvino_backend._settings(core.read_model(tiny_onnx.model_file), fake, "GPU.1", 1)
        assert settings == {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", ["CPU"], "CPU"),
        ("auto", ["CPU", "GPU"], "AUTO"),
        ("cpu", [], "CPU"),
        ("gpu", ["CPU", "GPU"], "GPU"),
        ("Gpu", ["CPU", "GPU.0", "GPU.1"], "GPU"),
        ("gpu.1", ["CPU", "GPU.0", "GPU.1"], "GPU.1"),
        ("npu", ["CPU", "NPU"], "NPU"),
    ],
)
def test_devices_by_name(device, available, expected):
    assert openvino_backend._target(SimpleNamespace(available_devices=available), device) == expected


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("gpu.2", BackendError, "does not find it. Expected: one of 'cpu', 'gpu.0'"),
        ("npu", BackendError, "does not find it"),
        ("cuda", BackendError, "does not run on NVIDIA GPUs.*onnxruntime-gpu"),
        ("gpux", InputError, "there is 'cpu', 'gpu.0'"),
        ("", InputError, "not known"),
    ],
)
def test_devices_that_are_not_there_are_refused(device, error, message):
    core = SimpleNamespace(available_devices=["CPU", "GPU.0"])
    with pytest.raises(error, match=message):
        openvino_backend._target(core, device)


def test_the_automatic_choice_is_final_when_the_model_is_loaded(model, feeds, monkeypatch):
    """OpenVINO's AUTO is asked even if there is only the CPU, so that its settings are seen to be valid."""
    expected = OpenVinoBackend(model, device="cpu", threads=1).infer(feeds[0])
    monkeypatch.setattr(openvino_backend, "_target", lambda core, device: "AUTO")
    backend = OpenVinoBackend(model, threads=1)
    assert backend.device.startswith(("cpu (", "gpu"))
    if backend.device.startswith("cpu"):
        found = backend.infer(feeds[0])
        assert all((found[name] == expected[name]).all() for name in expected)


def test_eight_threads_get_what_one_gets(model, feeds):
    backend = OpenVinoBackend(model, device="cpu", threads=1)
    expected = [backend.infer(feed) for feed in feeds]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(backend.infer, feeds * 8))
    for index, outputs in enumerate(found):
        for name, value in outputs.items():
            assert (value == expected[index % len(feeds)][name]).all()


def test_closing_while_others_run(model, feeds):
    backend = OpenVinoBackend(model, device="cpu", threads=1)
    expected = backend.infer(feeds[0])

    def run(index):
        if index == 20:
            backend.close()
        try:
            return backend.infer(feeds[0])
        except BackendError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(40)))
    refused = [outputs for outputs in found if isinstance(outputs, str)]
    assert isinstance(found[0], dict)
    assert isinstance(found[-1], str)
    assert set(refused) == {"this OpenVINO backend is closed."}
    assert all((outputs["boxes"] == expected["boxes"]).all() for outputs in found if isinstance(outputs, dict))
    backend.close()


def test_arrays_that_are_not_contiguous_are_read_right(model, feeds):
    backend = OpenVinoBackend(model, device="cpu", threads=1)
    images = feeds[0]["images"]
    mirrored = np.ascontiguousarray(images[..., ::-1])[..., ::-1]
    assert (backend.infer({"images": mirrored})["boxes"] == backend.infer(feeds[0])["boxes"]).all()


def test_a_file_that_is_rewritten_does_not_change_a_running_model(model, feeds, tmp_path):
    """As it would if the weights were mapped into memory, OpenVINO's default."""
    for part in (model, model.with_suffix(".bin")):
        shutil.copy(part, tmp_path)
    backend = OpenVinoBackend(tmp_path / "model.xml", device="cpu", threads=1)
    expected = backend.infer(feeds[0])
    with (tmp_path / "model.bin").open("r+b") as file:
        file.write(bytes(model.with_suffix(".bin").stat().st_size))
    assert (backend.infer(feeds[0])["boxes"] == expected["boxes"]).all()


def test_throughput_gives_the_same_numbers(model, feeds):
    quick = OpenVinoBackend(model, device="cpu", threads=1)
    much = OpenVinoBackend(model, device="cpu", threads=1, hint="throughput")
    assert much._compiled.get_property("PERFORMANCE_HINT") == "THROUGHPUT"
    assert (much.infer(feeds[0])["boxes"] == quick.infer(feeds[0])["boxes"]).all()


def test_a_cache_is_filled_once_and_used(model, feeds, tmp_path):
    expected = OpenVinoBackend(model, device="cpu", threads=1).infer(feeds[0])
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        backend = OpenVinoBackend(model, device="cpu", threads=1, cache=cache)
        assert (backend.infer(feeds[0])["boxes"] == expected["boxes"]).all()
        (kept,) = cache.iterdir()
    backend.close()
    kept.write_bytes(kept.read_bytes()[:1000])  # a crash while it was written
    backend = OpenVinoBackend(model, device="cpu", threads=1, cache=cache)
    assert (backend.infer(feeds[0])["boxes"] == expected["boxes"]).all()


def test_a_cache_that_cannot_be_made_is_said(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        OpenVinoBackend(model, device="cpu", cache=tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-4], "bytes, as model.xml says"),
        (lambda content: content + b"more", "bytes, as model.xml says"),
        (lambda content: b"", "has 0 bytes"),
        (lambda content: b"\xff" * len(content), "cannot read"),
        (None, "cannot read .*model.bin: No such file"),
    ],
    ids=["cut", "longer", "empty", "of another model", "missing"],
)
def test_weights_that_do_not_belong_to_the_model_are_an_artifact_error(model, tmp_path, damage, message):
    shutil.copy(model, tmp_path)
    if damage is not None:
        (tmp_path / "model.bin").write_bytes(damage(model.with_suffix(".bin").read_bytes()))
    with pytest.raises(ArtifactError, match=message):
        OpenVinoBackend(tmp_path / "model.xml", device="cpu")


@pytest.mark.parametrize(
    "content", [b"", b"\x08\x08not onnx", b"<net/>", bytes(range(256))], ids=["empty", "start", "xml", "noise"]
)
def test_content_that_is_no_model_is_an_artifact_error(content, tmp_path):
    with pytest.raises(ArtifactError, match="OpenVINO cannot read the model"):
        OpenVinoBackend(content, device="cpu")
    for name in ("model.onnx", "model.xml"):
        (tmp_path / name).write_bytes(content)
        (tmp_path / "model.bin").write_bytes(b"")
        with pytest.raises(ArtifactError):
            OpenVinoBackend(tmp_path / name, device="cpu")


def test_an_xml_that_openvino_cannot_build_is_an_artifact_error(model, tmp_path):
    shutil.copy(model.with_suffix(".bin"), tmp_path)
    (tmp_path / "model.xml").write_text(model.read_text().replace('type="Convolution"', 'type="Nonsense"', 1))
    with pytest.raises(ArtifactError, match="Nonsense") as caught:
        OpenVinoBackend(tmp_path / "model.xml", device="cpu")
    assert "Exception from" not in str(caught.value)


def test_an_unlisted_weights_file_is_not_used(tiny_openvino, tmp_path):
    """The manifest lists what was verified; OpenVINO would take any ``.bin`` that lies there."""
    from yolo12edge import Runtime
    from yolo12edge.artifact import write_artifact

    artifact = write_artifact(tmp_path / "a", tiny_openvino.manifest, {"model.xml": tiny_openvino.model_file})
    shutil.copy(tiny_openvino.file("model.bin"), artifact.path)
    with pytest.raises(ArtifactError, match=r"has no file 'model\.bin'"):
        Runtime(artifact)


LOAD = """
import sys
from pathlib import Path
from yolo12edge.runtimes.openvino_backend import OpenVinoBackend
from yolo12edge.runtimes.openvino_library import import_openvino
OpenVinoBackend(Path(sys.argv[1]), device="cpu", threads=1)
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
import openvino_telemetry  # is there again
"""


def test_nothing_is_reported_to_anybody(model, tmp_path, monkeypatch):
    """A false telemetry package, found before the true one, tells whether it was asked for."""
    package = tmp_path / "openvino_telemetry"
    package.mkdir()
    (package / "__init__.py").write_text("print('telemetry was imported')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, model], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines() == ["[]", "telemetry was imported"]
    monkeypatch.syspath_prepend(tmp_path)
    (package / "__init__.py").write_text("open(__file__ + '.seen', 'w')\n")
    (engine,) = (engine for engine in ENGINES if engine.module == "openvino")
    (state,) = probe((engine,))
    assert (state.usable, state.devices[0]) == (True, "CPU")
    assert not (package / "__init__.py.seen").exists()
