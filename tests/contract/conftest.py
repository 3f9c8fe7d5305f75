"""Every kind of source that a Runtime opens; TensorRT and CUDA are false ones, which find what is done wrong."""

from __future__ import annotations

import gc

import pytest

from tests.fakes.tensorrt import fake_artifact, install
from yolo12edge import Runtime


@pytest.fixture(params=["onnxruntime", "onnx file", "openvino", "openvino file", "torch", "tensorrt"])
def kind(request):
    return request.param


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
def source(kind, tensorrt, tiny_checkpoint, tiny_onnx, tiny_openvino, tiny_tensorrt):
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


@pytest.fixture
def device(kind):
    return "cuda" if kind == "tensorrt" else "cpu"


@pytest.fixture
def runtime(source, device):
    with Runtime(source, device=device, threads=1) as opened:
        yield opened
