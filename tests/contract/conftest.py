"""Every kind of source that a Runtime opens."""

from __future__ import annotations

import pytest

from yolo12edge import Runtime


@pytest.fixture(params=["onnxruntime", "onnx file", "openvino", "openvino file", "torch"])
def source(request, tiny_checkpoint, tiny_onnx, tiny_openvino):
    return {
        "onnxruntime": tiny_onnx,
        "onnx file": tiny_onnx.model_file,
        "openvino": tiny_openvino,
        "openvino file": tiny_openvino.model_file,
        "torch": tiny_checkpoint,
    }[request.param]


@pytest.fixture
def runtime(source):
    with Runtime(source, device="cpu", threads=1) as opened:
        yield opened
