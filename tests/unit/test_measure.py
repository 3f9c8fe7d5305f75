"""What ``doctor --measure`` compares, and what it concludes from the times."""

from __future__ import annotations

import json
import lzma
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from yolo12edge.assets import PROBES
from yolo12edge.cli import _doctor_tables
from yolo12edge.cli import doctor as module
from yolo12edge.cli._measure import Candidate, Measured, advise, bundled, given, measure, thread_counts
from yolo12edge.errors import BackendError

app = typer.Typer()
app.command()(module.doctor)


def row(precision: str, ms: float | None, *, step: str = "models", engine: str = "ort", threads: int = 4) -> Measured:
    return Measured(step, "YOLO12n", engine, "cpu", precision, threads, ms, 5, "" if ms else "it broke")


def test_thread_counts() -> None:
    assert [thread_counts(cores) for cores in (1, 2, 4, 6, 8)] == [[1], [1, 2], [1, 2, 4], [1, 2, 4, 6], [1, 2, 4, 8]]


@pytest.mark.parametrize(
    ("times", "precision", "words"),
    [
        (
            {"fp32": 20.0, "int8": 10.0},
            "int8",
            "INT8 with ort is 2.00x as fast as float with ort; `yolo12edge val` says",
        ),
        ({"fp32": 20.0, "int8": 19.0}, "fp32", "INT8 with ort is 1.05x as fast as float with ort, which is not worth"),
        ({"fp32": 20.0, "int8": 40.0}, "fp32", "INT8 with ort is 0.50x as fast as float with ort, which is not worth"),
        ({"fp32": None, "int8": 40.0}, "int8", "40.0 ms a frame."),
    ],
)
def test_int8_must_be_worth_it(times: dict[str, float | None], precision: str, words: str) -> None:
    advised = advise([row(kind, ms) for kind, ms in times.items()])
    assert advised is not None
    assert advised.best.precision == precision
    assert words in advised.sentence


def test_a_thread_more_must_be_worth_it() -> None:
    models = [row("fp32", 20.0), row("int8", 10.0)]
    times = {1: 19.0, 2: 10.2, 4: 10.0}
    advised = advise([*models, *(row("int8", ms, step="threads", threads=count) for count, ms in times.items())])
    assert advised is not None
    assert advised.best.threads == 2
    assert "2 threads: 10.2 ms" in advised.sentence


def test_times_of_a_disturbed_machine_do_not_decide_about_threads() -> None:
    again = [row("fp32", 100.0, step="threads", threads=2), row("fp32", 120.8, step="threads")]
    advised = advise([row("fp32", 67.8), *again])
    assert advised is not None
    assert (advised.best.threads, advised.best.step) == (4, "models")
    assert "67.8 ms at first and 120.8 ms later" in advised.sentence
    assert "measure again" in advised.sentence


def test_both_times_of_the_default_threads_count() -> None:
    """Two threads look as good in their own step, but not once the first step counts too."""
    again = [row("fp32", 11.4, step="threads", threads=2), row("fp32", 11.0, step="threads")]
    advised = advise([row("fp32", 10.0), *again])
    assert advised is not None
    assert advised.best == again[1]
    assert "10.5 ms a frame" in advised.sentence
    assert "disturbed" not in advised.sentence


def test_the_table_fits_a_narrow_terminal() -> None:
    """Words of devices and engines stay whole at 80 columns; the number of frames is told."""
    rows = [
        Measured("models", "YOLO12n", engine, device, "fp32", 16, 1067.8, 37)
        for engine, device in (
            ("onnxruntime 1.27.1", "cuda (CUDAExecutionProvider)"),
            ("openvino 2026.1.0", "gpu.0 (Intel(R) Iris(R) Xe Graphics), cpu (Intel(R) Xeon(R) Platinum)"),
        )
    ]
    text = StringIO()
    table = _doctor_tables._measured_table({"rows": [asdict(item) for item in rows], "advised": None})
    Console(file=text, width=80).print(table)
    lines = text.getvalue().splitlines()
    for words in ("onnxruntime", "cuda", "gpu.0, cpu", "1067.80"):
        assert any(words in line for line in lines), (words, lines)
    assert sum(" 37 " in line for line in lines) == 2


@pytest.mark.parametrize("others", [True, False])
def test_a_problem_is_a_sentence_below_the_table(others: bool, capsys: pytest.CaptureFixture[str]) -> None:
    problem = "there is no driver, which this engine needs. Remedy: install the driver."
    rows = [Measured("models", "best", "", "", "", threads, None, 0, problem) for threads in (1, 2)]
    if others:
        rows.append(Measured("models", "other", "onnxruntime", "cpu", "fp32", 1, 5.0, 37))
    _doctor_tables.print_measurement(
        {"rows": [asdict(item) for item in rows], "advised": None, "missing": [], "sentence": "Done."}
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(f"best: {problem}") == 1
    assert any("median ms" in line for line in lines) is others
    assert lines[-1] == "Done."


def test_nothing_is_advised_if_nothing_ran() -> None:
    assert advise([]) is None
    assert advise([row("fp32", None)]) is None


class FakeRuntime:
    engine, device = "fake 1", "cpu"

    def __init__(self, log: list[str], precision: str, seconds: float, threads: int) -> None:
        self.manifest = SimpleNamespace(precision=precision)
        self.log, self.seconds, self.name = log, seconds, f"{precision}/{threads}"

    def __call__(self, frame: np.ndarray) -> None:
        assert frame.shape == (720, 1280, 3)
        self.log.append(self.name)
        time.sleep(self.seconds)

    def __enter__(self) -> FakeRuntime:
        return self

    def __exit__(self, *error: object) -> None:
        self.log.append(f"closed {self.name}")


@contextmanager
def silent(step: str) -> Iterator[Any]:
    yield lambda done, total: None


def test_models_are_compared_first_then_threads_of_the_best() -> None:
    log: list[str] = []

    def broken(threads: int) -> Any:
        raise BackendError("no such device")

    candidates = [
        Candidate("slow", lambda threads: FakeRuntime(log, "fp32", 0.004, threads)),  # type: ignore[arg-type]
        Candidate("broken", broken),
        Candidate("fast", lambda threads: FakeRuntime(log, "int8", 0.001 * (3 - threads), threads)),  # type: ignore[arg-type]
    ]
    begin = time.monotonic()
    rows = measure(candidates, cores=2, seconds=0.3, progress=silent)
    assert time.monotonic() - begin < 3
    found = [(item.step, item.model, item.threads) for item in rows]
    models = [("models", name, 2) for name in ("slow", "broken", "fast")]
    assert found == [*models, ("threads", "fast", 1), ("threads", "fast", 2)]
    assert rows[1].problem == "no such device."
    assert all(item.median_ms is not None and item.samples >= 3 for item in rows if not item.problem)
    assert log.index("closed int8/2") < log.index("int8/1")  # one step's models are gone before the next
    assert "fp32/2" not in log[log.index("int8/1") :]


def test_one_core_has_one_step() -> None:
    log: list[str] = []
    rows = measure(
        [Candidate("a", lambda threads: FakeRuntime(log, "fp32", 0, threads))],  # type: ignore[arg-type]
        cores=1,
        seconds=0,
        progress=silent,
    )
    assert [(item.step, item.samples) for item in rows] == [("models", 3)]


@pytest.mark.parametrize(
    ("engines", "count"),
    [
        ([], 0),
        ([("torch", ["cpu"])], 0),
        ([("onnxruntime", ["CPUExecutionProvider"])], 2),
        ([("onnxruntime", ["CUDAExecutionProvider", "CPUExecutionProvider"]), ("openvino", ["CPU", "GPU.0"])], 6),
    ],
)
def test_bundled_models_are_for_the_devices_there_are(engines: list[tuple[str, list[str]]], count: int) -> None:
    assert len(bundled(engines)) == count


def test_bundled_models_are_small_and_ordinary() -> None:
    """A wrong scale of weights would give values that engines are slow with."""
    files = sorted(PROBES.glob("probe-*.onnx.xz"))
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 300_000
    assert all(len(lzma.decompress(file.read_bytes())) > 8 << 20 or "int8" in file.name for file in files)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_bundled_models_run(engine: str) -> None:
    for candidate in bundled([(engine, ["CPU"])]):
        with candidate.open(1) as runtime:
            assert len(runtime(np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8))) == 0
            feeds = {"images": runtime.preprocessor(np.full((90, 160, 3), 9, np.uint8))[0]}
            outputs = runtime.infer(feeds)
        assert all(np.isfinite(values).all() for values in outputs.values())
        assert 1e-6 < outputs["scores"].max() < 0.2
        assert np.ptp(outputs["boxes"]) > 300


ORT = {"name": "onnxruntime", "usable": True, "devices": (), "reason": "", "remedy": ""}
NO_OPENVINO = {"name": "openvino", "usable": False, "devices": (), "reason": "not installed", "remedy": "pip install X"}


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [{"version": "1", **ORT}, {"version": None, **NO_OPENVINO}]
    machine = dict.fromkeys(("python", "os", "machine", "board", "cpu", "cores_usable", "memory_bytes"), "x")
    machine |= {"memory_bytes": None, "memory_available_bytes": None, "cpu_features": [], "cores_logical": 2}
    machine["cores_usable"] = 2
    everything = {"yolo12edge": "0", "machine": machine, "gpus": [], "engines": engines, "advice": ["words"]}
    monkeypatch.setattr(module, "diagnose", lambda: dict(everything))
    monkeypatch.setattr(module, "_MEASURE_SECONDS", 0.1)


@pytest.mark.usefixtures("facts")
def test_given_models_are_measured(tiny_onnx: Any, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [str(tiny_onnx.path)])
    assert shown.exit_code == 0, shown.output
    for words in ("Advised here: ", "FP32", "openvino was not measured: not installed. pip install X"):
        assert words in shown.stdout
    plain = CliRunner().invoke(app, [str(tiny_onnx.path), "--json"])
    measured = json.loads(plain.stdout)["measurement"]
    assert measured["advised"] in measured["rows"]
    assert measured["rows"][0]["model"] == str(tiny_onnx.path)
    assert measured["rows"][0]["median_ms"] > 0
    (tmp_path / "bad.onnx").write_bytes(b"")
    assert CliRunner().invoke(app, [str(tmp_path / "bad.onnx")]).exit_code == 1
    assert given([tmp_path])[0].name == str(tmp_path)


@pytest.mark.usefixtures("facts")
def test_nothing_is_measured_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measurement", lambda *arguments: pytest.fail("it measured"))
    shown = CliRunner().invoke(app, ["--json"])
    assert shown.exit_code == 0, shown.output
    assert "measurement" not in json.loads(shown.stdout)
