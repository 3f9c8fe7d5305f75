"""The benchmark for a machine with a GPU, on a false one: what it divides by what, and what it says without a GPU."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import fake_artifact, install
from yolo12edge.artifact import write_artifact
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("tensorrt_gpu")
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def trt(monkeypatch):
    found = install(monkeypatch)
    yield found
    gc.collect()
    found.check()


@pytest.fixture(scope="module")
def engine(tmp_path_factory, tiny_onnx):
    return fake_artifact(tiny_onnx, tmp_path_factory.mktemp("engine") / "tiny")


def test_a_call_is_divided_by_what_the_gpu_says_of_the_engine(module, trt, engine, scene_frames):
    samples = {}
    (figure,) = module.over_engine(engine, scene_frames[0], 5, "FP16", samples)
    times = samples["tiny: call over engine"]
    assert times["engine"] == [4.0] * 5  # as the false GPU's clock has it
    assert len(times["call"]) == 5
    assert figure.value == pytest.approx(sorted(times["call"])[2] / 4.0)
    assert figure.goal == 1.10
    assert figure.note == "engine 4.000 ms"


@pytest.mark.parametrize("capturable", [True, False])
def test_graphs_are_compared_with_single_launches(module, trt, engine, capturable):
    trt.capturable = capturable
    on_gpu, _ = module.graphs(engine, 3, "FP16", {})
    assert on_gpu.value == pytest.approx(1.0)
    assert ("could not be captured" in on_gpu.note) is not capturable
    assert ("launch_graph" in trt.cuda.names()) is capturable


def test_both_ways_into_the_engine_end_on_the_gpu(module, trt, engine, scene_frames):
    samples = {}
    figure = module.letterbox(engine, scene_frames[0], 3, "FP16", samples)
    (times,) = samples.values()
    assert figure.value == pytest.approx(sorted(times["GPU"])[1] / sorted(times["CPU"])[1])
    copied = {call[3] for call in trt.cuda.calls if call[0] == "copy_to_device"}
    assert {scene_frames[0].nbytes, 4 * 3 * 96 * 96} <= copied


def test_a_batch_is_divided_by_its_size(module, trt, engine, tiny_onnx, tmp_path, scene_frames, monkeypatch):
    form = TensorRtForm(precision="fp32", batch=4)
    content, manifest = tensorrt_onnx(tiny_onnx.model_file.read_bytes(), tiny_onnx.manifest, form)
    source = write_artifact(tmp_path / "onnx", manifest, {"model.onnx": content})
    many = fake_artifact(source, tmp_path / "many")

    def in_turns(runners, repeats):
        return {name: [2.0] for name, run in runners.items() if run() > 0}

    monkeypatch.setattr(module, "in_turns", in_turns)
    figure = module.batches(engine, many, scene_frames[0], 3, {})
    assert figure.value == pytest.approx(0.25)


def test_turns_change_their_order_and_the_first_are_not_counted(module):
    order = []
    runners = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}
    times = module.in_turns(runners, 2, warmup=1)
    assert "".join(order) == "baabba"
    assert times == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


@pytest.mark.parametrize(
    ("value", "goal", "end"), [(1.1, 1.1, "yes | n |"), (1.2, 1.1, "**no** | n |"), (3, None, " | n |")]
)
def test_a_figure_says_whether_it_was_reached(module, value, goal, end):
    assert module.Figure("x", value, goal, "n").line().endswith(end)


def test_the_gpu_is_named(module, monkeypatch):
    monkeypatch.setattr(module, "open_cuda", lambda: FakeCuda())
    assert module.gpu_name() == "Fake GPU (sm_87, CUDA 12.6)"


def test_without_a_gpu_it_says_so(tmp_path):
    from yolo12edge.errors import Yolo12EdgeError
    from yolo12edge.runtimes.cuda import open_cuda

    try:
        if open_cuda().device_count():
            pytest.skip("this machine has a GPU; what is said without one cannot be shown here")
    except Yolo12EdgeError:
        pass
    command = [sys.executable, BENCHMARKS / "tensorrt_gpu.py", "--checkpoint", tmp_path / "none.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("nothing was measured: ")
    assert "Traceback" not in done.stderr


def test_int8_needs_data(module, capsys):
    with pytest.raises(SystemExit):
        module.main(["--checkpoint", "x", "--int8"])
    assert "--int8 needs --data" in capsys.readouterr().err


def test_accuracy_is_a_difference_in_points(module, monkeypatch, trt, engine, tiny_onnx):
    evaluations = [SimpleNamespace(metrics=SimpleNamespace(ap=ap)) for ap in (0.5, 0.498)]
    monkeypatch.setattr(module, "evaluate_pair", lambda first, second, *_: evaluations)
    monkeypatch.setattr(module, "read_dataset", lambda _: _Dataset())
    (figure,) = module.accuracy(tiny_onnx, engine, Path("data.yaml"), 2, "FP16, batch 1")
    assert figure.value == pytest.approx(0.2)
    assert figure.goal == 0.3
    assert "2 images" in figure.note


class _Dataset:
    def samples(self, split):
        assert split == "val"
        return [1, 2, 3]
