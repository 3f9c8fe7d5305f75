"""The report of a machine: what is in it, what is not, and what becomes of a self-test that crashes or hangs."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import fake_facts, fake_plan, install
from yolo12edge.cli import _report, _selftest
from yolo12edge.cli import doctor as module
from yolo12edge.cli._measure import bundled_model
from yolo12edge.cli._report import SelfTest, collect, jetson, run, scrubbed, self_tests
from yolo12edge.cli._selftest import RECORDED, errors_of
from yolo12edge.cli.doctor import doctor
from yolo12edge.errors import BackendError, InputError, VerificationError
from yolo12edge.machine import machine_summary
from yolo12edge.manifest import Layers, Manifest

app = typer.Typer()
app.command()(doctor)

ENGINES = [
    {"name": "onnxruntime", "usable": True, "version": "1.2", "devices": ["CPUExecutionProvider"]},
    {"name": "openvino", "usable": True, "version": "2026", "devices": ["CPU", "GPU"]},
    {"name": "tensorrt", "usable": False, "version": None, "devices": []},
    {"name": "tensorrt_rtx", "usable": False, "version": None, "devices": []},
]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Self-tests that a child finds by name: the child is another process, so they lie in a module of their own."""
    (tmp_path / "steps_for_tests.py").write_text(
        "import os, sys, time\n"
        "from yolo12edge.errors import BackendError, MissingDependencyError\n"
        "from yolo12edge.cli import _selftest\n"
        "def works(word):\n    print('an engine talks')\n    yield 'open', {'word': word}\n    yield 'run', {}\n"
        "def refuses():\n    yield 'open', {}\n    raise BackendError('no such device', remedy='buy one')\n"
        "def misses():\n    raise MissingDependencyError('pycuda', extra='tensorrt', purpose='here')\n    yield\n"
        "def breaks():\n    yield 'open', {}\n    {}['what']\n"
        "def crashes():\n    yield 'open', {}\n    os.abort()\n"
        "def hangs():\n    yield 'open', {}\n    time.sleep(60)\n"
        "def ends():\n    yield 'open', {}\n    import atexit; atexit.register(os.abort)\n"
        "for name in ('works', 'refuses', 'misses', 'breaks', 'crashes', 'hangs', 'ends'):\n"
        "    setattr(_selftest, name, globals()[name])\n"
        "child = _selftest.child\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_report, "_CHILD", "steps_for_tests")


@pytest.mark.usefixtures("steps")
def test_self_test_tells_part_by_part() -> None:
    done = run(SelfTest("a test", "works", ("it's",)))
    assert (done["name"], done["outcome"], "text" in done) == ("a test", "ok", False)
    assert [part["part"] for part in done["parts"]] == ["open", "run"]
    assert done["parts"][0]["word"] == "it's"


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(
    ("function", "outcome", "words"),
    [
        ("refuses", "failed", ["no such device", "buy one"]),
        ("misses", "missing", ["pycuda", "pip install"]),
        ("breaks", "failed", ["KeyError: 'what'", "steps_for_tests.py:"]),
        ("crashes", "crashed", ["after 'open'", "Fatal Python error: Aborted"]),
        ("ends", "crashed", ["after 'open'"]),
        ("hangs", "timed out", ["took more than 3 s", "after 'open'"]),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_self_test_that_goes_wrong_is_an_outcome(function: str, outcome: str, words: list[str]) -> None:
    done = run(SelfTest("a test", function, seconds=3 if function == "hangs" else 60))
    assert done["outcome"] == outcome
    assert [word for word in words if word not in done["text"]] == []
    assert [part["part"] for part in done["parts"]] == ([] if function == "misses" else ["open"])
    assert done["seconds"] < 30


def test_every_installed_engine_is_tested() -> None:
    names = [test.name for test in self_tests({"engines": ENGINES, "gpus": []})]
    assert names == ["onnxruntime on cpu", "openvino on cpu", "openvino on gpu"]
    there = [*ENGINES[:2], {**ENGINES[2], "version": "10.3.0"}, {**ENGINES[3], "version": "1.7"}]
    tests = self_tests({"engines": there, "gpus": []})[3:]
    assert [test.name for test in tests] == [
        "CUDA",
        "letterbox on the GPU",
        *("tensorrt fp32", "tensorrt fp16", "tensorrt-rtx fp32", "tensorrt-rtx fp16"),
    ]
    assert all(callable(getattr(_selftest, test.function)) for test in tests)
    with_gpu = self_tests({"engines": ENGINES, "gpus": [{"name": "Orin"}]})
    assert [test.name for test in with_gpu][3:] == ["CUDA", "letterbox on the GPU"]


def test_recorded_outputs_are_those_of_the_bundled_model() -> None:
    """If this fails, the bundled model or the picture is another one: record anew what ONNX Runtime makes of it."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    done = run(SelfTest("onnxruntime", "run_bundled", ("onnxruntime", "cpu")))
    assert done["outcome"] == "ok", done
    found = {key: value for part in done["parts"] for key, value in part.items()}
    assert found["box_error_px"] < 0.01
    assert found["score_error"] < 1e-7
    assert found["infer_ms"] > 0


def test_wrong_outputs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from yolo12edge.runtimes.ort_backend import OrtBackend

    model, manifest = bundled_model("fp32")
    monkeypatch.setattr(_selftest, "_picture", lambda: np.zeros((640, 640, 3), np.uint8))
    with pytest.raises(VerificationError, match="boxes differ by 22"):
        list(_selftest._try(OrtBackend(model, device="cpu"), manifest))


@pytest.mark.parametrize("errors", [(1.1, 0.0), (0.0, 1e-4), (float("nan"), 0.0)])
def test_boxes_and_scores_must_both_agree(monkeypatch: pytest.MonkeyPatch, errors: tuple[float, float]) -> None:
    _, manifest = bundled_model("fp32")
    outputs = {output.name: np.zeros(output.shape, np.float32) for output in manifest.outputs}
    backend: Any = SimpleNamespace(inputs=(SimpleNamespace(dtype="float32"),), infer=lambda feeds: outputs, close=int)
    monkeypatch.setattr(_selftest, "errors_of", lambda boxes, scores: errors)
    parts = _selftest._try(backend, manifest)
    assert next(parts)[1]["box_error_px"] is errors[0]
    with pytest.raises(VerificationError):
        next(parts)


@pytest.mark.parametrize(("where", "value"), [("boxes", np.nan), ("boxes", 1.0), ("scores", 1e-4)])
def test_errors_are_the_largest(where: str, value: float) -> None:
    chosen = list(RECORDED["candidates"])
    boxes, scores = np.zeros((1, 4, 8400), np.float32), np.zeros((1, 6, 8400), np.float32)
    boxes[0][:, chosen] = [RECORDED[side] for side in ("left", "top", "right", "bottom")]
    scores[0, 3, chosen] = RECORDED["score"]
    exact = errors_of(boxes, scores)
    assert max(exact) < 1e-3
    (boxes if where == "boxes" else scores)[0, 1, chosen[5]] += value if where == "boxes" else 1.0
    found = errors_of(boxes, scores)
    assert not found[0 if where == "boxes" else 1] < 0.9 * abs(value)


JETSON = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq": "1728000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
}


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def dpkg(command: list[str]) -> str:
        asked.extend(command)
        return "nvidia-jetpack\t6.2+b77\nlibnvinfer10\t10.3.0.30-1+cuda12.5\ntensorrt\t\n"

    monkeypatch.setattr("yolo12edge.machine._run", dpkg)
    assert jetson(fill(tmp_path, JETSON)) == {
        "l4t": "36.4.3",
        "packages": {"nvidia-jetpack": "6.2+b77", "libnvinfer10": "10.3.0.30-1+cuda12.5"},
        "clocks_held": {"cpu": True, "gpu": False},
    }
    assert "nvidia-jetpack" in asked
    board = {"proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0"}
    bare = jetson(fill(tmp_path / "bare", board))
    assert bare is not None
    assert (bare["l4t"], bare["clocks_held"]) == (None, {"cpu": None, "gpu": None})
    assert jetson(tmp_path / "nothing") is None


def test_report_holds_what_was_found_and_nothing_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_report, "private_names", lambda: ["erika", "robot-7"])
    serial = f"GPU-{'0' * 8}-1111-2222-3333-{'4' * 12}"
    text = f"cannot open {Path.home()}/models/secret/model.engine on robot-7 of erika, {serial}"
    outcome = {
        "name": "t",
        "outcome": "failed",
        "seconds": 1.0,
        "parts": [{"part": "p", "warnings": [text]}],
        "text": text,
    }
    monkeypatch.setattr(_report, "run", lambda test: outcome)
    shown: list[str] = []
    facts = {"engines": ENGINES, "gpus": [], "machine": {"python": "3.11"}}
    report = collect(facts, progress=lambda name: shown.append(name) or nullcontext(), folder=tmp_path)
    assert shown == ["onnxruntime on cpu", "openvino on cpu", "openvino on gpu"]
    assert report["machine"] == {"python": "3.11"}
    assert report["jetson"] is None
    assert report["packages"]["numpy"] == np.__version__
    step = report["steps"][0]
    assert step["outcome"] == "failed"
    found = (step["text"], step["parts"][0]["warnings"][0])
    assert found == ("cannot open …/model.engine on <name> of <name>, <id>",) * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("libcuda.so.1: cannot open shared object file", None),
        ("OSError: /opt/venv/lib/libnvinfer.so.10: no such file", "OSError: …/libnvinfer.so.10: no such file"),
        ('File "/a/b/c.py", line 3', 'File "…/c.py", line 3'),
        (r"C:\Users\erika\x.dll is missing", "…/x.dll is missing"),
        ("in /opt/secret/lib:/data/secret/lib, box:/data/secret/x", "in …/lib:…/lib, box:…/x"),
        ("FP16/INT8, 12/24, n/a, model.0/conv/weight", None),
        ("see https://docs.nvidia.com/deeplearning/index.html", None),
        ("erika's erikas robot-7.local", "<name>'s erikas <name>.local"),
        ("cpu (AMD EPYC), 1280x720, 0.1.0", None),
    ],
)
def test_scrubbing_takes_paths_and_names_only(text: str, expected: str | None) -> None:
    assert scrubbed({"a": [text, 1, None]}, private=["erika", "robot-7"]) == {"a": [expected or text, 1, None]}


@settings(max_examples=100)
@given(parts=st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True), min_size=3, max_size=6))
def test_no_folder_of_a_path_is_left(parts: list[str]) -> None:
    found = scrubbed(f"at '/{'/'.join(parts)}'", private=[])
    assert found == f"at '…/{parts[-1]}'"


def test_default_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ubuntu")
    monkeypatch.setattr(socket, "gethostname", lambda: "erikas-orin.example.org")
    names = _report.private_names()
    assert "ubuntu" not in names
    assert names[:2] == ["erikas-orin.example.org", "erikas-orin"]


@pytest.mark.parametrize(("outcome", "code"), [("ok", 0), ("missing", 0), ("failed", 1), ("crashed", 1)])
def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, code: int) -> None:
    engine = {"reason": "", "remedy": "", **ENGINES[0]}
    facts = {"yolo12edge": "0", "machine": machine_summary(), "gpus": [], "engines": [engine], "advice": []}
    monkeypatch.setattr(module, "diagnose", lambda: dict(facts))
    step = {
        "name": "onnxruntime on cpu",
        "outcome": outcome,
        "seconds": 1.0,
        "parts": [{"part": "time", "infer_ms": 3.5}],
    }
    monkeypatch.setattr(_report, "run", lambda test: dict(step))
    done = CliRunner().invoke(app, ["--report", str(tmp_path / "report.json")])
    assert done.exit_code == code, done.output
    assert "onnxruntime on cpu" in done.stdout
    assert "infer_ms 3.5" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["steps"] == [step]


def test_a_file_that_cannot_be_written_is_refused_before_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_report, "run", lambda test: pytest.fail("it tested"))
    monkeypatch.setattr(module, "diagnose", lambda: {"engines": ENGINES, "gpus": []})
    done = CliRunner().invoke(app, ["--report", str(tmp_path)])
    assert "is a directory" in str(done.exception)


def test_a_folder_that_takes_no_files_is_told_before_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(_report, "run", lambda test: pytest.fail("it tested"))
    monkeypatch.setattr(module, "diagnose", lambda: {"engines": ENGINES, "gpus": []})
    for name in ("touch", "open"):
        monkeypatch.setattr(Path, name, refuse)
    done = CliRunner().invoke(app, ["--report", str(tmp_path / "report.json")])
    assert isinstance(done.exception, InputError)
    assert "report.json: Read-only file system" in str(done.exception)


def test_gpus_are_named_as_a_device_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(devices=2)
    monkeypatch.setattr("yolo12edge.runtimes.cuda.open_cuda", lambda: cuda)
    assert module.gpu_names() == ["cuda:0 (Fake GPU, sm_87)", "cuda:1 (Fake GPU, sm_87)"]
    cuda.check()
    monkeypatch.setattr("yolo12edge.runtimes.cuda.open_cuda", lambda: FakeCuda(driver=False))
    with pytest.raises(BackendError):
        module.gpu_names()


def test_gpus_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(devices=2, integrated=True)
    monkeypatch.setattr("yolo12edge.runtimes.cuda.open_cuda", lambda: cuda)
    parts = dict(_selftest.reach_gpus())
    assert list(parts) == ["import", "driver", "GPU 0", "GPU 1"]
    assert parts["GPU 1"]["integrated"]
    assert (parts["GPU 0"]["architecture"], parts["GPU 0"]["driver_cuda"]) == ("sm_87", "12.6")
    cuda.check()


def test_the_picture_of_the_gpu_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr("yolo12edge.runtimes.cuda.open_cuda", lambda: cuda)
    parts = dict(_selftest.letterbox_on_gpu())
    assert {name: part["largest_grey_levels"] for name, part in parts.items()} == {"float32": 0.0, "uint8": 0.0}
    cuda.check()
    monkeypatch.setattr("yolo12edge.runtimes.cuda.letterbox.DeviceLetterbox.launch", lambda *arguments: None)
    with pytest.raises(VerificationError, match="grey levels"):
        list(_selftest.letterbox_on_gpu())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_is_built_compared_and_timed(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    from yolo12edge.runtimes.tensorrt_builder import BuiltPlan

    layers = Layers(total=90, attention_blocks=8, fused_attention=8, precisions={"FP16": 90})
    built = []

    def build(model: bytes, manifest: Manifest, flavor: str) -> BuiltPlan:
        built.append((flavor, manifest.format, manifest.precision))
        return BuiltPlan(fake_plan(model), fake_facts(), layers, ("slow tactic",))

    install(monkeypatch)
    monkeypatch.setattr("yolo12edge.runtimes.tensorrt_builder.build_plan", build)
    monkeypatch.setattr(_selftest, "_FRAMES", 1)
    parts = dict(_selftest.make_engine("tensorrt", precision))
    assert built == [("tensorrt", "tensorrt", precision)]
    assert list(parts) == [*(["typed ONNX"] if precision == "fp16" else []), "build", "open", "run", "time"]
    assert parts["build"]["layers"]["fused_attention"] == 8
    assert parts["build"]["warnings"] == ["slow tactic"]
    assert parts["run"]["box_error_px"] < (0.01 if precision == "fp32" else 0.3)
    json.dumps(parts)


def test_an_engine_says_what_of_cuda_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fake_trt.py").write_text(
        "__version__ = '10.3.0'\nfrom yolo12edge.errors import BackendError\n"
        "def devices(): raise BackendError('there is no CUDA driver', remedy='install it')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    engine = module.Engine("fake_trt", "x", ("fake_trt",), "m.devices()", "ort_backend", needs_nvidia=True)
    (state,) = module.probe((engine,))
    assert (state.usable, state.reason, state.remedy) == (False, "there is no CUDA driver", "install it")
