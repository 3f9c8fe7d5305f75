"""Accuracy: average precision, curves, confusion matrix; pictures of them in ``metrics.plots``."""

from __future__ import annotations

from .confusion import ConfusionMatrix, confusion_matrix
from .curves import DetectionCurves, detection_curves
from .detection import ClassMetrics, DetectionMetrics, evaluate_detections
from .evaluate import EVAL_THRESHOLDS, Evaluation, evaluate_pair, evaluate_runtime
from .target import Target

__all__ = [
    "EVAL_THRESHOLDS",
    "ClassMetrics",
    "ConfusionMatrix",
    "DetectionCurves",
    "DetectionMetrics",
    "Evaluation",
    "Target",
    "confusion_matrix",
    "detection_curves",
    "evaluate_detections",
    "evaluate_pair",
    "evaluate_runtime",
]
