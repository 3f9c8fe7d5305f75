"""YOLO12 in PyTorch: blocks, heads of five tasks, the model at five scales, and its deploy form."""

from __future__ import annotations

from .config import ModelConfig
from .deploy import DeployModel, deploy_form
from .heads import HEADS, Head, HeadOutput, decode_boxes
from .model import YOLO12, build_model

__all__ = [
    "HEADS",
    "YOLO12",
    "DeployModel",
    "Head",
    "HeadOutput",
    "ModelConfig",
    "build_model",
    "decode_boxes",
    "deploy_form",
]
