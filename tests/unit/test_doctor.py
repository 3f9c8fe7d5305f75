from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from yolo12edge import machine
from yolo12edge.cli import doctor as module
from yolo12edge.cli.doctor import Engine, EngineState, advice, doctor, probe

app = typer.Typer()
app.command()(doctor)

MODULES = {
    "fake_good": "__version__ = '1.2'\nprint('noise on import')\ndef devices(): return ['CPU', 'NPU']\n",
    "fake_broken": "raise OSError('libfake.so.7: cannot open shared object file')\n",
    "fake_crash": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "fake_exit": "import sys\nsys.exit(3)\n",
    "fake_deviceless": "__version__ = '9'\ndef devices(): raise RuntimeError('driver too old')\n",
}


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in MODULES.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_has_backend", lambda engine: engine.backend == "there")


def engine(name: str, **changes: Any) -> Engine:
    settings = {"extra": "fake", "distributions": (name,), "devices": "m.devices()", "backend": "there", **changes}
    return Engine(name, **settings)


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fake_broken", "importing it failed: OSError: libfake.so.7"),
        ("fake_exit", "importing it failed: exit status 3"),
        ("fake_deviceless", "it cannot list its devices: driver too old"),
        ("fake_absent", "not installed"),
    ],
)
def test_engine_that_does_not_work_says_why(name: str, reason: str) -> None:
    (state,) = probe((engine(name),))
    assert not state.usable
    assert state.reason.startswith(reason)
    assert state.remedy.startswith("pip install")


@pytest.mark.usefixtures("fakes")
@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_engine_that_ends_its_process_does_not_end_ours() -> None:
    crashed, good = probe((engine("fake_crash"), engine("fake_good")))
    assert crashed.reason == "importing it crashed with signal 11"
    assert good == EngineState("fake_good", True, "1.2", ("CPU", "NPU"), "", "")


@pytest.mark.usefixtures("fakes")
def test_engine_without_gpu_or_backend_is_not_usable() -> None:
    assert probe((engine("fake_good", needs_nvidia=True, devices="[]"),))[0].reason == "no NVIDIA GPU found"
    assert probe((engine("fake_good", needs_nvidia=True, devices="['cuda:0']"),))[0].usable
    (state,) = probe((engine("fake_good", backend="nowhere"),))
    assert "no backend" in state.reason
    assert not state.usable
    assert state.remedy == ""  # installing it would not help


@pytest.mark.usefixtures("fakes")
def test_slow_import_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fake_slow.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    (state,) = probe((engine("fake_slow"),))
    assert state.reason == "importing it took more than 0.2 s"


def test_two_packages_of_one_module_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_versions", lambda names: {"onnxruntime": "1.2", "onnxruntime-gpu": "1.1"})
    state = module._state(module.ENGINES[0], {"version": "1.1", "devices": ["CPU"]})
    assert not state.usable
    assert "onnxruntime 1.2, onnxruntime-gpu 1.1 are installed together" in state.reason


def test_only_providers_that_a_device_stands_for_are_listed() -> None:
    answer = {"version": "1.1", "devices": ["AzureExecutionProvider", "CPUExecutionProvider"]}
    assert module._state(module.ENGINES[0], answer).devices == ("CPUExecutionProvider",)


@pytest.mark.parametrize("extras", [["onnxruntime"], [], None])
def test_install_command_uses_the_extra_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, extras: list[str] | None
) -> None:
    class Metadata:
        def get_all(self, name: str) -> list[str] | None:
            assert name == "Provides-Extra"
            return extras

    monkeypatch.setattr("importlib.metadata.metadata", lambda name: Metadata())
    expected = "pip install 'yolo12edge[onnxruntime]'" if extras else "pip install onnxruntime"
    assert module._install(module.ENGINES[0]) == expected


@pytest.mark.parametrize(
    ("features", "architecture", "words"),
    [
        ({"avx2"}, "x86_64", "7-bit weights"),
        ({"avx2", "avx_vnni"}, "x86_64", "VNNI: INT8 has its fast instructions here"),
        ({"neon", "dotprod"}, "aarch64", "ARM dot product"),
        ({"neon"}, "aarch64", "No dot-product"),
        (set(), "riscv64", "riscv64"),
    ],
)
def test_advice(monkeypatch: pytest.MonkeyPatch, features: set[str], architecture: str, words: str) -> None:
    monkeypatch.setattr(machine, "cpu_features", lambda: frozenset(features))
    monkeypatch.setattr("platform.machine", lambda: architecture)
    (sentence,) = advice()
    assert words in sentence


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(("name", "code"), [("fake_good", 0), ("fake_broken", 1)])
def test_command(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    monkeypatch.setattr(module, "ENGINES", (engine(name),))
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == code, shown.output
    assert name in shown.stdout
    assert ("CPU, NPU" if code == 0 else "libfake.so.7") in shown.stdout
    plain = CliRunner().invoke(app, ["--json"])
    assert plain.exit_code == code
    facts = json.loads(plain.stdout)
    assert facts["engines"][0]["name"] == name
    assert facts["machine"]["cores_logical"] >= 1
    assert facts["advice"]


def test_importing_the_commands_is_cheap() -> None:
    """They bring in no engine and no array library until they run."""
    code = (
        "import sys, typer; before = set(sys.modules); import yolo12edge.cli.inspect, yolo12edge.cli.doctor;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    root = str(Path(module.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert not {"torch", "numpy", "cv2", "onnxruntime"} & set(eval(done.stdout))
