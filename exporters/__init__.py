"""Exporters: functions that turn a checkpoint or an artifact into another artifact, named by both ends."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..artifact import Artifact

if TYPE_CHECKING:
    from .int8_from_onnx import onnx_int8_from_onnx
    from .onnx_from_torch import onnx_from_checkpoint

__all__ = ["Artifact", "onnx_from_checkpoint", "onnx_int8_from_onnx"]

_HOME = {"onnx_from_checkpoint": "onnx_from_torch", "onnx_int8_from_onnx": "int8_from_onnx"}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
