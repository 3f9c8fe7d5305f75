"""Exporters: functions that turn a checkpoint or an artifact into another artifact, named by both ends."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..artifact import Artifact

if TYPE_CHECKING:
    from .coreml_export import coreml_from_onnx
    from .coreml_functions import coreml_sizes
    from .coreml_suppression import coreml_pipeline
    from .fp16 import onnx_fp16_from_onnx
    from .int8 import int8_from_onnx
    from .onnx_from_torch import onnx_from_checkpoint
    from .openvino_ir import openvino_from_onnx
    from .tensorrt_engine import tensorrt_from_onnx

__all__ = [
    "Artifact",
    "coreml_from_onnx",
    "coreml_pipeline",
    "coreml_sizes",
    "int8_from_onnx",
    "onnx_fp16_from_onnx",
    "onnx_from_checkpoint",
    "openvino_from_onnx",
    "tensorrt_from_onnx",
]

_HOME = {
    "coreml_from_onnx": "coreml_export",
    "coreml_pipeline": "coreml_suppression",
    "coreml_sizes": "coreml_functions",
    "int8_from_onnx": "int8",
    "onnx_fp16_from_onnx": "fp16",
    "onnx_from_checkpoint": "onnx_from_torch",
    "openvino_from_onnx": "openvino_ir",
    "tensorrt_from_onnx": "tensorrt_engine",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
