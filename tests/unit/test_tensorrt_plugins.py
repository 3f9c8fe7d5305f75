"""Plugins are found, loaded, or missed with a remedy before TensorRT needs them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import pytest

from tests.fakes.tensorrt_build import FakeBuild, QuickCreator, compiled_creator
from yolo12edge.errors import BackendError
from yolo12edge.runtimes.tensorrt_library import import_tensorrt
from yolo12edge.runtimes.tensorrt_plugins import PLUGIN_VARIABLE, find_creator, load_plugins

NAME = "yolo12edge::AreaAttention"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A shared library that the loader takes."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a shared library with")
    path = tmp_path_factory.mktemp("plugin") / "libarea_attention.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", path], input=b"int loaded = 42;", check=True)
    return path


class Registering(FakeBuild):
    """A TensorRT whose registry finds a plugin in any library that it loads."""

    def get_plugin_registry(self):
        registry = super().get_plugin_registry()
        load = registry.load_library

        def load_library(path):
            self.creators.append(compiled_creator())
            return load(path)

        registry.load_library = load_library
        return registry


@pytest.fixture
def variable(monkeypatch):
    def name(value) -> None:
        monkeypatch.setenv(PLUGIN_VARIABLE, str(value))

    monkeypatch.delenv(PLUGIN_VARIABLE, raising=False)
    return name


def test_a_library_is_loaded_once_and_its_symbols_are_there_for_others(variable, library):
    variable(library)
    trt = Registering()
    load_plugins(trt, [NAME])
    load_plugins(trt, [NAME])
    assert trt.loaded == [str(library)]
    assert ctypes.c_int.in_dll(ctypes.CDLL(None), "loaded").value == 42


@pytest.mark.parametrize("creator", [QuickCreator(), compiled_creator()])
def test_one_that_is_registered_needs_no_library(variable, creator):
    trt = FakeBuild("10.13.3")
    trt.creators = [object(), creator]
    load_plugins(trt, [NAME])
    assert trt.loaded == []


@pytest.mark.parametrize("key", ["name", "plugin_version", "plugin_namespace"])
def test_another_plugin_is_none(key):
    creator = compiled_creator()
    setattr(creator, key, "other")
    trt = FakeBuild()
    trt.creators = [creator]
    assert find_creator(trt, NAME) is None


def test_one_that_cannot_be_listed_is_looked_up():
    trt = FakeBuild()
    trt.hidden_creators = [compiled_creator()]
    assert find_creator(trt, NAME) is trt.hidden_creators[0]
    assert find_creator(trt, "yolo12edge::Other") is None


def test_without_plugins_nothing_is_asked_for(variable):
    load_plugins(FakeBuild(), [])


def test_a_variable_that_is_not_set_is_named(variable):
    with pytest.raises(BackendError, match=f"{PLUGIN_VARIABLE} is not set.*--attention native"):
        load_plugins(FakeBuild(), [NAME])


def test_a_library_that_is_missing_is_named(variable, tmp_path):
    variable(tmp_path / "none.so")
    with pytest.raises(BackendError, match=r"none\.so, which is no file"):
        load_plugins(FakeBuild(), [NAME])


def test_a_library_for_another_processor_says_so(variable, library, tmp_path):
    content = bytearray(library.read_bytes())
    content[18:20] = (0xF3).to_bytes(2, "little")  # the machine in its ELF header: RISC-V
    foreign = tmp_path / "libforeign.so"
    foreign.write_bytes(content)
    variable(foreign)
    with pytest.raises(BackendError, match=r"does not load.*one for this processor"):
        load_plugins(FakeBuild(), [NAME])


def test_a_library_that_registers_nothing_is_refused(variable, library):
    variable(library)
    with pytest.raises(BackendError, match=r"does not register the plugin yolo12edge::Area.*TensorRT 10\.3\.0"):
        load_plugins(FakeBuild(), [NAME])


def test_tensorrt_for_rtx_takes_none(variable, library):
    variable(library)
    trt = FakeBuild("1.7.1", name="tensorrt_rtx")
    with pytest.raises(BackendError, match="takes no plugins from Python"):
        load_plugins(trt, [NAME])
    assert trt.loaded == []


def test_a_true_registry_is_searched():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    trt = import_tensorrt("tensorrt-rtx")
    creators = trt.get_plugin_registry().all_creators
    assert creators, "the library has plugins of its own"
    assert find_creator(trt, NAME) is None
