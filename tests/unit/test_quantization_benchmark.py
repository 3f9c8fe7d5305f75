import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmark as it imports its own; nothing of it stays behind."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_command_tells_what_it_took(module: Any) -> None:
    commands = module("commands")
    held = b"1" * 400_000_000  # what this process holds is none of the command's memory
    cost = commands.run_command([sys.executable, "-c", "x = b'1' * 200_000_000; raise SystemExit(1)"], allowed=(0, 1))
    assert len(held) > 1e6 * cost.peak_mb > 200e6
    assert 0 < cost.seconds < 60
    assert cost.code == 1


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "raise SystemExit(2)"],
        [sys.executable, "-c", "raise ValueError('so it is')"],
        ["there-is-no-such-command"],
    ],
)
def test_a_failed_command_is_an_error(module: Any, command: list[str]) -> None:
    commands = module("commands")
    with pytest.raises(commands.CommandError):
        commands.run_command(command, allowed=(0, 1))


def row(maker: str, engine: str, precision: str, **values: Any) -> dict[str, Any]:
    measured = {"ap": 0.5, "ap50": 0.8, "ap75": 0.5, "bytes": 1000, "median_ms": 10.0, "min_ms": 9.0}
    described = {"name": f"{engine} {precision}, {maker}", "maker": maker, "engine": engine, "precision": precision}
    return {**described, "problem": "", **measured, **values}


def results(module: ModuleType) -> dict[str, Any]:
    engines = ("ONNX Runtime", "OpenVINO")
    rows = [row("yolo12edge", engine, "FP32") for engine in engines]
    rows += [row("yolo12edge", engine, "INT8", ap=0.496, bytes=280, median_ms=8.0, min_ms=6.0) for engine in engines]
    rows += [row("Ultralytics 8", engine, "FP32", ap=0.4, median_ms=20.0) for engine in engines]
    rows += [row("Ultralytics 8", engine, "INT8", ap=0.39, median_ms=16.0) for engine in engines]
    rows += [row("NNCF 3 MIXED on IR", "OpenVINO", "INT8", ap=0.497, median_ms=7.0)]
    rows += [{**row("NNCF 3 MIXED on ONNX", "ONNX Runtime", "INT8"), "problem": "does not compile"}]
    machine = {"cpu": "x", "cores_usable": 2.0, "cpu_features": ["avx2"], "python": "3", "versions": {"numpy": "2"}}
    cost = {"seconds": 70.0, "peak_mb": 900.0, "code": 0}
    accuracy = {"subject": "toy", "images": 9, "image_size": 320, "rows": rows, "verdicts": {"toy-int8": ["Ship it."]}}
    timed = [entry for entry in rows if not entry["problem"]]
    speed = {"subject": "toy", "threads": 1, "image_size": 640, "repeats": 5, "rows": timed}
    calibration = [{"images": n, "image_size": 640, **cost, "peak_mb": peak} for n, peak in ((64, 1000), (256, 1200))]
    return {
        "machine": {**machine, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        "peers": True,
        "accuracy": [{**accuracy, "costs": {module.FROM_STATISTICS: cost}}],
        "speed": [speed],
        "calibration": calibration,
    }


def test_tables_compare_each_model_with_its_own_float(module: Any) -> None:
    text = module("tables").markdown(results(module("subjects")))
    assert "| OpenVINO INT8, Ultralytics 8 | 0.3900 | +1.00 |" in text
    assert "| OpenVINO INT8, NNCF 3 MIXED on IR | 0.4970 | +0.30 |" in text
    assert "| ONNX Runtime INT8, NNCF 3 MIXED on ONNX | does not compile |" in text
    assert "| OpenVINO INT8, Ultralytics 8 | 16.0 (9.0) | 1.25 (1.00) |" in text
    assert "OpenVINO limited to AVX2" in text


def test_goals_say_what_was_missed(module: Any) -> None:
    goals = module("tables").markdown(results(module("subjects"))).split("### What must be reached")[1]
    assert "| points lost, OpenVINO, toy | ≤ 0.30 | 0.40 | **no** |" in goals
    assert "| points lost, ONNX Runtime, toy | ≤ 0.50 | 0.40 | yes |" in goals
    assert "| AP50-95 beside OpenVINO INT8, NNCF 3 MIXED on IR, toy | ≥ 0.4970 | 0.4960 | **no** |" in goals
    assert "| size INT8 ÷ FP32, OpenVINO, toy | ≤ 0.300 | 0.280 | yes |" in goals
    assert "| speed INT8 ÷ FP32, ONNX Runtime, 1 thread | ≥ 1.25 | 1.25 | yes |" in goals
    assert "| ms beside OpenVINO INT8, NNCF 3 MIXED on IR, 1 thread | ≤ 7.0 | 8.0 | **no** |" in goals
    assert "| its memory ÷ that of 64 images | ≤ 1.10 | 1.20 | **no** |" in goals
    assert "from the same statistics, toy | ≤ 60 | 70 | **no** |" in goals
