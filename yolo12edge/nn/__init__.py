"""YOLO12 in PyTorch: blocks, heads, the model at five scales, and its deploy form."""

from __future__ import annotations

from .config import ModelConfig
from .deploy import DeployModel, decode_boxes, deploy_form
from .heads import HeadOutput
from .model import YOLO12, build_model

__all__ = ["YOLO12", "DeployModel", "HeadOutput", "ModelConfig", "build_model", "decode_boxes", "deploy_form"]
