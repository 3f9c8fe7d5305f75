"""Accuracy of every task: average precision, top-1, curves, confusion matrix; pictures of them in ``metrics.plots``."""

from __future__ import annotations

from .confusion import ConfusionMatrix, confusion_matrix
from .curves import DetectionCurves, detection_curves
from .detection import ClassMetrics, DetectionMetrics, evaluate_detections
from .evaluate import EVAL_THRESHOLDS, Evaluation, evaluate_pair, evaluate_runtime
from .for_classify import ClassifyMetrics, evaluate_classes
from .operating_point import choose_threshold
from .target import Target
from .tasks import Measure, Metrics

__all__ = [
    "EVAL_THRESHOLDS",
    "ClassMetrics",
    "ClassifyMetrics",
    "ConfusionMatrix",
    "DetectionCurves",
    "DetectionMetrics",
    "Evaluation",
    "Measure",
    "Metrics",
    "Target",
    "choose_threshold",
    "confusion_matrix",
    "detection_curves",
    "evaluate_classes",
    "evaluate_detections",
    "evaluate_pair",
    "evaluate_runtime",
]
