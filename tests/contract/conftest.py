"""Every kind of source that a Runtime opens; TensorRT, CUDA and Core ML are false, and find what is done wrong."""

from __future__ import annotations

import gc

import pytest

from tests.fakes import coreml as false_coreml
from tests.fakes.tensorrt import fake_artifact, install
from yolo12edge import Runtime

KINDS = ["onnxruntime", "onnx file", "openvino", "openvino file", "torch", "tensorrt", "coreml", "coreml function"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def false_library(kind):
    """Module whose ``install`` puts the false library in place, for other processes; None if it is a true one."""
    library = kind.split()[0]
    return f"tests.fakes.{library}" if library in ("tensorrt", "coreml") else None


@pytest.fixture
def tensorrt(kind, monkeypatch):
    """The false TensorRT, if this is what runs; None if not."""
    if kind != "tensorrt":
        yield None
        return
    module = install(monkeypatch)
    yield module
    gc.collect()
    module.check()


@pytest.fixture
def coreml(kind, monkeypatch):
    """The false Core ML, if this is what runs; None if not."""
    if not kind.startswith("coreml"):
        yield None
        return
    fake = false_coreml.install(monkeypatch)
    yield fake
    fake.check()


@pytest.fixture
def source(kind, tensorrt, coreml, tiny_checkpoint, tiny_onnx, tiny_openvino, tiny_tensorrt, request):
    if coreml is not None:
        return request.getfixturevalue("tiny_coreml" if kind == "coreml" else "tiny_function")
    return {
        "onnxruntime": tiny_onnx,
        "onnx file": tiny_onnx.model_file,
        "openvino": tiny_openvino,
        "openvino file": tiny_openvino.model_file,
        "torch": tiny_checkpoint,
        "tensorrt": tiny_tensorrt,
    }[kind]


@pytest.fixture(scope="session")
def tiny_tensorrt(tmp_path_factory, tiny_onnx):
    return fake_artifact(tiny_onnx, tmp_path_factory.mktemp("tensorrt") / "tiny-tensorrt-fp32")


@pytest.fixture(scope="session")
def tiny_coreml(tmp_path_factory, tiny_onnx):
    return false_coreml.fake_artifact(tiny_onnx, tmp_path_factory.mktemp("coreml") / "tiny-coreml-fp32")


@pytest.fixture(scope="session")
def tiny_function(tmp_path_factory, tiny_onnx):
    """The second function of a package of two."""
    path = tmp_path_factory.mktemp("coreml") / "tiny-coreml-fp32"
    functions = false_coreml.functions("other", "size_96x96")
    artifact = false_coreml.fake_artifact(tiny_onnx, path, change=functions)
    return artifact.path / "model.mlpackage" / "size_96x96"


@pytest.fixture
def device(kind):
    return "cuda" if kind == "tensorrt" else "cpu"


@pytest.fixture
def runtime(source, device):
    with Runtime(source, device=device, threads=1) as opened:
        yield opened
