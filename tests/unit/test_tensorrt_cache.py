"""Engines built on first use: found again, one builder at a time, and built again when they do not fit."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt_build import FakeBuild, small_manifest, small_model
from yolo12edge.errors import ArtifactError, BackendError
from yolo12edge.files import cache_folder
from yolo12edge.runtimes import tensorrt_cache
from yolo12edge.runtimes.cuda.driver import DeviceFacts
from yolo12edge.runtimes.tensorrt_builder import BuildOptions
from yolo12edge.runtimes.tensorrt_cache import engine_for_device

BUILDING = "the engine is built for Fake GPU now, and kept"
pytestmark = pytest.mark.filterwarnings("ignore:the engine is built", "ignore:a warning of the builder")


@pytest.fixture
def trt(monkeypatch):
    trt = FakeBuild("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return trt


@pytest.fixture
def device():
    device = FakeCuda().open(0)
    yield device
    device.close()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model())
    return path


@pytest.fixture
def ask(tmp_path, device, model):
    """Ask for the engine; what differs is given. That something is built is told each time, and left out here."""

    def ask(**changes):
        manifest = small_manifest(**{key: changes.pop(key) for key in ("precision",) if key in changes})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = engine_for_device(
                model, manifest, "tensorrt", **{"device": device, "cache": tmp_path / "cache", **changes}
            )
        said = [str(item.message) for item in caught]
        assert all(issubclass(item.category, RuntimeWarning) for item in caught)
        return (*found, [text for text in said if BUILDING not in text and text != "a warning of the builder"])

    return ask


def builds(trt: FakeBuild) -> int:
    return len(trt.noted("build"))


def test_an_engine_is_built_once(trt, ask):
    plan, facts, said = ask()
    assert plan.read_bytes() == trt.plan()
    assert (facts.version, facts.architectures, said) == ("10.3.0", ["sm_87"], [])
    assert ask() == (plan, facts, [])
    assert builds(trt) == 1


def test_who_waits_for_a_build_is_told(trt, model, device, tmp_path):
    with pytest.warns(RuntimeWarning) as caught:
        engine_for_device(model, small_manifest(), "tensorrt", device=device, cache=tmp_path / "cache")
    first, second = (str(item.message) for item in caught)
    assert first.startswith(BUILDING)
    assert second == "a warning of the builder"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine_for_device(model, small_manifest(), "tensorrt", device=device, cache=tmp_path / "cache")


def test_all_that_an_engine_depends_on_is_in_its_name(monkeypatch, tmp_path, trt, ask, model):
    other = FakeCuda(facts=DeviceFacts("Orin", (8, 7), True, 8 << 30, (12, 6))).open(0)
    newer = FakeCuda(facts=DeviceFacts("A100", (8, 0), False, 8 << 30, (12, 6))).open(0)
    plans = [
        ask()[0],
        ask(device=other)[0],
        ask(device=newer)[0],
        ask(options=BuildOptions(optimization_level=5))[0],
        ask(precision="fp32")[0],
    ]
    monkeypatch.setitem(sys.modules, "tensorrt", FakeBuild("10.13.3"))
    plans.append(ask()[0])
    model.write_bytes(small_model(opset=18))
    plans.append(ask()[0])
    assert len(set(plans)) == 7
    assert builds(trt) == 5
    for found in (other, newer):
        found.close()


def test_where_timings_are_kept_is_not(tmp_path, trt, ask):
    assert ask()[0] == ask(options=BuildOptions(timing_cache=tmp_path / "timings"))[0]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda plan: plan.write_bytes(plan.read_bytes()[:-1]), "it was altered"),
        (lambda plan: plan.with_suffix(".json").write_bytes(b"{"), "cannot be read"),
        (lambda plan: plan.with_suffix(".json").write_bytes(b'{"sha256": "' + b"0" * 64 + b'"}'), "cannot be read"),
        (lambda plan: swap(plan, b"sm_87", b"sm_86"), "built for sm_86"),
        (lambda plan: swap(plan, b'"version":"10.3.0"', b'"version":"10.4.0"'), "built with tensorrt"),
    ],
)
def test_an_entry_that_does_not_fit_is_built_again(trt, ask, spoil, says):
    plan, facts, _ = ask()
    spoil(plan)
    again, same, (said,) = ask()
    assert (again, same) == (plan, facts)
    assert says in said
    assert builds(trt) == 2
    assert ask()[2] == []


def swap(plan: Path, old: bytes, new: bytes) -> None:
    entry = plan.with_suffix(".json")
    content = entry.read_bytes()
    assert old in content
    entry.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("suffix", [".engine", ".json"])
def test_half_an_entry_is_none(trt, ask, suffix):
    plan, _, _ = ask()
    plan.with_suffix(suffix).unlink()
    assert ask()[2] == []
    assert builds(trt) == 2


def test_those_who_need_the_same_engine_wait_for_one_builder(trt, model, device, tmp_path):
    slow = trt.steps

    def steps(monitor) -> bool:
        time.sleep(0.2)
        return slow(monitor)

    trt.steps = steps
    found: list[tuple] = []

    def ask() -> None:
        found.append(engine_for_device(model, small_manifest(), "tensorrt", device=device, cache=tmp_path / "cache"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds(trt) == 1
    assert len(found) == 3
    assert all(result == found[0] for result in found)


def test_a_build_that_fails_leaves_nothing_behind(trt, ask, tmp_path):
    trt.errors = ["no"]
    with pytest.raises(BackendError):
        ask()
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}
    trt.errors = []
    assert ask()[2] == []


def test_a_folder_that_cannot_be_used_is_told_before_building(trt, ask, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BackendError, match=r"cannot keep engines in .*file.*XDG_CACHE_HOME"):
        ask(cache=tmp_path / "file")
    assert builds(trt) == 0


@pytest.mark.parametrize(
    ("function", "number"), [("tensorrt_cache.atomic_file", errno.ENOSPC), ("fcntl.flock", errno.ENOLCK)]
)
def test_a_folder_that_keeps_nothing_is_told(monkeypatch, trt, ask, tmp_path, function, number):
    def fails(*arguments):
        raise OSError(number, os.strerror(number))

    pytest.importorskip("fcntl")
    monkeypatch.setattr(function.replace("tensorrt_cache", tensorrt_cache.__name__), fails)
    with pytest.raises(BackendError, match=f"cannot keep engines in .*: {os.strerror(number)}"):
        ask()


def test_a_model_that_is_missing_is_told(trt, ask, model):
    model.unlink()
    with pytest.raises(ArtifactError, match=r"cannot read .*model\.onnx"):
        ask()


def test_the_folder_is_the_users_own(monkeypatch, trt, ask, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "yolo12edge"
    plan, _, _ = ask(cache=None)
    assert plan.parent == cache_folder()
    assert plan.parent.stat().st_mode & 0o077 == 0
    for value in ("", "relative"):  # which the standard says to ignore
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == Path.home() / ".cache" / "yolo12edge"


@pytest.mark.parametrize(
    ("capability", "targets", "architectures"),
    [((8, 6), [(0, "SM86")], ["sm_86"]), ((8, 7), [], ["sm_80", "sm_86", "sm_89", "sm_120"])],
)
def test_rtx_builds_for_this_gpu_alone_if_it_knows_it(monkeypatch, tmp_path, model, capability, targets, architectures):
    trt = FakeBuild("1.7.1", name="tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", trt)
    device = FakeCuda(facts=DeviceFacts("GPU", capability, False, 8 << 30, (13, 0))).open(0)
    for _ in range(2):
        _, facts = engine_for_device(model, small_manifest(), "tensorrt-rtx", device=device, cache=tmp_path / "cache")
        assert facts.architectures == architectures
    assert trt.noted("target") == targets
    assert builds(trt) == 1
    device.close()
