"""Runtimes: run an artifact, a lone model file or a checkpoint on an inference engine."""

from __future__ import annotations

from ..detections import Detections, Timing
from ..frame import Color, Frame
from ..thresholds import Thresholds
from .backend import Backend, BindingBackend, TensorInfo
from .runtime import Runtime
from .stream import Stream

__all__ = [
    "Backend",
    "BindingBackend",
    "Color",
    "Detections",
    "Frame",
    "Runtime",
    "Stream",
    "TensorInfo",
    "Thresholds",
    "Timing",
]
