"""Runtimes: run an artifact, a lone model file or a checkpoint on an inference engine."""

from __future__ import annotations

from ..detections import Detections
from ..thresholds import Thresholds
from .backend import Backend, TensorInfo
from .runtime import Runtime

__all__ = ["Backend", "Detections", "Runtime", "TensorInfo", "Thresholds"]
