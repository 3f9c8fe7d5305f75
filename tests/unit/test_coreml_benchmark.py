"""The benchmark for a Mac, on a false one: what it compares with what, and what it says without one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from tests.fakes.coreml import fake_artifact, install
from yolo12edge.artifact import Artifact
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.runtimes.coreml_backend import CoremlBackend

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("coreml_mac")
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_it_compares_every_unit_with_the_evaluator_and_onnx_runtime(module, monkeypatch, tiny_onnx, tmp_path):
    fake = install(monkeypatch, devices=("cpu", "ane"))
    fake.plan = {"ane": 300, "cpu": 20}
    asked = []

    def export(command, checkpoint, place, out, *flags, allowed):
        asked.append(flags)
        if "coreml" in flags:
            precision = "fp32" if "--fp32" in flags else "fp16"
            manifest = msgspec.structs.replace(tiny_onnx.manifest, precision=precision)
            source = SimpleNamespace(manifest=manifest, model_file=tiny_onnx.model_file)
            fake_artifact(source, out / "tiny-coreml")
        else:
            out.mkdir(parents=True)
            (out / "tiny-fp32").symlink_to(tiny_onnx.path)

    class Evaluator(CoremlBackend):
        def __init__(self, package):
            super().__init__(package, manifest=Artifact.load(package.parent).manifest, device="cpu")

    scenes = generate_scenes(tmp_path / "scenes", train=1, val=3, size=96)
    samples = [replace(sample, class_id=sample.class_id % 3) for sample in scenes.samples("val")]
    dataset = SimpleNamespace(samples=lambda split: samples, class_names=tiny_onnx.manifest.class_names)
    monkeypatch.setattr(module, "yolo12edge", export)
    monkeypatch.setattr(module, "MilBackend", Evaluator)
    monkeypatch.setattr(module, "read_dataset", lambda data: dataset)
    page = tmp_path / "page.md"
    arguments = ["--forms", "FP16", "FP32", "--data", "data.yaml", "--images", "3", "--repeats", "2"]
    module.main([*arguments, "--work", str(tmp_path / "work"), "--out", str(page)])
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| FP")]
    found = {(cells[0], cells[1]): cells for cells in rows}
    assert "finds no GPU" in found["FP16", "gpu"][-1]
    assert "computes in half precision" in found["FP32", "ane"][-1]
    for form, unit in (("FP16", "cpu"), ("FP16", "ane"), ("FP32", "cpu")):
        cells = found[form, unit]
        assert (cells[3], cells[4]) == ("0.000", "0.00000")
        assert float(cells[6]) > 0
        assert cells[7].startswith(unit)
        assert cells[5] == found[form, "evaluator"][5] == found["FP32 ONNX", "ONNX Runtime"][5]
    assert asked == [(), ("--format", "coreml"), ("--format", "coreml", "--fp32")]
    fake.check()


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_elsewhere_it_says_so(tmp_path):
    done = subprocess.run([sys.executable, BENCHMARKS / "coreml_mac.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "Core ML runs on macOS" in done.stderr
    assert not list(tmp_path.iterdir())
