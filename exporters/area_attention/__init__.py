"""YOLO12's area attention as one GPU kernel, and the two ways in which TensorRT gets it."""

from __future__ import annotations

from .ahead_of_time import registered_ahead_of_time
from .build_plugin import build_plugin

__all__ = ["build_plugin", "registered_ahead_of_time"]
