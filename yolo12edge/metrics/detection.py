"""Accuracy of what is detected in an image (boxes, masks, keypoints, oriented boxes), as COCO defines it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..manifest import Task
from . import for_detect
from .curves import DetectionCurves, detection_curves, mean_over_classes
from .matching import check_evaluable
from .overlap import Overlap
from .target import Target

__all__ = ["ClassMetrics", "DetectionMetrics", "evaluate_detections", "json_ready"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Accuracy of one class; all shares in [0, 1], NaN where the class has no labelled object.

    Attributes:
        name: Name of the class.
        images: Number of images with an object of it.
        instances: Number of its labelled objects.
        ap: Average precision, mean over overlap thresholds 0.50 to 0.95.
        ap50: Average precision at overlap 0.50.
        precision: Share of its detections that are right, at ``DetectionMetrics.confidence``.
        recall: Share of its objects that are found, there.
        f1: Harmonic mean of the two, there.
        kind: What the overlap is of, such as ``mask``.
    """

    name: str
    images: int
    instances: int
    ap: float
    ap50: float
    precision: float
    recall: float
    f1: float
    kind: str = "box"

    def figures(self) -> dict[str, float]:
        """Return what is also among the figures of all classes together."""
        return {f"{self.kind} AP50-95": self.ap, "AP50": self.ap50}


@dataclass(frozen=True, slots=True, eq=False)
class DetectionMetrics:
    """Accuracy over all images; shares in [0, 1], means over the classes that have labelled objects.

    Overlap is that of the task: IoU of boxes, masks or rotated boxes, or similarity of keypoints. A value is NaN where
    there is nothing to measure it on (no object of that size, for instance).

    Attributes:
        images: Number of images.
        instances: Number of labelled objects.
        ap: Average precision, mean over overlap thresholds 0.50, 0.55 … 0.95.
        ap50: Average precision at overlap 0.50.
        ap75: Average precision at overlap 0.75.
        ap_small: ``ap`` of objects below 32² source pixels.
        ap_medium: ``ap`` of objects from 32² to 96² source pixels.
        ap_large: ``ap`` of objects above 96² source pixels.
        ar1: Average recall with 1 detection an image and class.
        ar10: Average recall with 10.
        ar100: Average recall with 100, which is also the limit of every ``ap``.
        confidence: The threshold with the best mean F1 at overlap 0.50; the next three are there.
        precision: Share of detections that are right.
        recall: Share of objects that are found.
        f1: Mean of the classes' harmonic means of the two.
        per_class: One entry per class, by class index.
        curves: The curves at overlap 0.50.
        task: What was evaluated.
        kind: What the overlap is of, such as ``mask``.
        box: Accuracy of the boxes alone, where the task has more than them; else None.
    """

    images: int
    instances: int
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    confidence: float
    precision: float
    recall: float
    f1: float
    per_class: tuple[ClassMetrics, ...]
    curves: DetectionCurves
    task: Task = "detect"
    kind: str = "box"
    box: DetectionMetrics | None = None

    @property
    def figure(self) -> str:
        """The name of the score."""
        return f"{self.kind} AP50-95"

    @property
    def score(self) -> float:
        """The one number that models of the task are compared by, 0 to 1; NaN without labelled objects."""
        return self.ap

    def figures(self) -> dict[str, float]:
        """Return the numbers that people look at by their names, the score first."""
        return {self.figure: self.ap, **self.details()}

    def details(self) -> dict[str, float]:
        """Return what a report says besides the score."""
        boxes = {} if self.box is None else {"box AP50-95": self.box.ap, "box AP50": self.box.ap50}
        return {"AP50": self.ap50, "AP75": self.ap75, **boxes}

    def columns(self) -> dict[str, float]:
        """Return the numbers that a table of epochs has, by the names of its columns."""
        boxes = {} if self.box is None else {"box_ap": self.box.ap, "box_ap50": self.box.ap50}
        names = ("ap", "ap50", "ap75")
        return {**{name: getattr(self, name) for name in names}, **boxes, **_at_best(self)}

    def parts(self) -> tuple[DetectionMetrics, ...]:
        """Return what has a table of its own: these without the boxes, and the boxes."""
        return (self,) if self.box is None else (replace(self, box=None), self.box)

    @property
    def counted(self) -> str:
        """What the instances are."""
        return "objects"

    @property
    def decision(self) -> str:
        """What precision, recall and F1 are of."""
        return f"confidence {self.confidence:.3f} and {self.curves.condition}"

    def to_dict(self) -> dict[str, Any]:
        """Return all but the curves, ready for JSON: NaN becomes None."""
        result = {**json_ready(self, skip=("per_class", "curves", "box")), "figure": self.figure}
        result["per_class"] = [json_ready(entry, skip=("kind",)) for entry in self.per_class]
        result["box"] = None if self.box is None else self.box.to_dict()
        return result


def evaluate_detections(
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    class_names: Sequence[str],
    *,
    overlap: Overlap | None = None,
    box: DetectionMetrics | None = None,
) -> DetectionMetrics:
    """Score detections against labelled objects.

    Args:
        predictions: Detections per image, in source pixels. Keep low confidences (0.001): average
            precision needs them.
        targets: Labelled objects per image, in source pixels, in the same order.
        class_names: Names by class index.
        overlap: How the two are compared; by their boxes if left out.
        box: How accurate the boxes alone are, to keep beside the rest.

    Raises:
        InputError: If predictions and targets do not belong together or lack what is compared.
        MissingDependencyError: If faster-coco-eval is not installed.
    """
    overlap = overlap or for_detect.overlap()
    check_evaluable(predictions, targets, len(class_names))
    tables = overlap.tables(predictions, targets, len(class_names))
    precision, recall = tables.precision, tables.recall
    curves = detection_curves(predictions, targets, class_names, overlap=overlap)
    best = curves.best_index
    at_best = {
        name: np.full(len(class_names), np.nan) if best is None else getattr(curves, name)[:, best]
        for name in ("precision", "recall", "f1")
    }
    instances = _count([target.class_id for target in targets], len(class_names))
    images = _count([np.unique(target.class_id) for target in targets], len(class_names))
    per_class = tuple(
        ClassMetrics(
            name=name,
            images=int(images[index]),
            instances=int(instances[index]),
            ap=_mean(precision[:, :, index, 0]),
            ap50=_mean(precision[0, :, index, 0]),
            **{key: float(values[index]) for key, values in at_best.items()},
            kind=overlap.kind,
        )
        for index, name in enumerate(class_names)
    )
    return DetectionMetrics(
        images=len(targets),
        instances=int(instances.sum()),
        ap=_mean(precision[:, :, :, 0]),
        ap50=_mean(precision[0, :, :, 0]),
        ap75=_mean(precision[5, :, :, 0]),
        ap_small=_mean(precision[:, :, :, 1]),
        ap_medium=_mean(precision[:, :, :, 2]),
        ap_large=_mean(precision[:, :, :, 3]),
        ar1=_mean(recall[:, :, 0]),
        ar10=_mean(recall[:, :, 1]),
        ar100=_mean(recall[:, :, 2]),
        confidence=math.nan if best is None else float(curves.confidence[best]),
        **{key: float(mean_over_classes(values[:, None])[0]) for key, values in at_best.items()},
        per_class=per_class,
        curves=curves,
        task=overlap.task,
        kind=overlap.kind,
        box=box,
    )


def _at_best(metrics: DetectionMetrics) -> dict[str, float]:
    return {name: getattr(metrics, name) for name in ("precision", "recall", "f1")}


def _count(class_ids: Sequence[npt.NDArray[np.int64]], num_classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *class_ids]), minlength=num_classes)


def _mean(values: Floats) -> float:
    """Return the mean of the defined values (COCO writes -1 for the others), or NaN."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else math.nan


def json_ready(record: Any, *, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of a dataclass but some, with None for NaN."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in skip}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
