"""Average precision of detections, as COCO defines it, through faster-coco-eval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import MissingDependencyError
from .curves import DetectionCurves, detection_curves, mean_over_classes
from .matching import best_per_class, check_evaluable
from .target import Target

__all__ = ["ClassMetrics", "DetectionMetrics", "evaluate_detections"]

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
    """

    name: str
    images: int
    instances: int
    ap: float
    ap50: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, eq=False)
class DetectionMetrics:
    """Accuracy over all images; shares in [0, 1], means over the classes that have labelled objects.

    A value is NaN where there is nothing to measure it on (no object of that size, for instance).

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

    def to_dict(self) -> dict[str, Any]:
        """Return all but the curves, ready for JSON: NaN becomes None."""
        result = _json_ready(self, skip=("per_class", "curves"))
        result["per_class"] = [_json_ready(entry) for entry in self.per_class]
        return result


def evaluate_detections(
    predictions: Sequence[Detections], targets: Sequence[Target], class_names: Sequence[str]
) -> DetectionMetrics:
    """Score detections against labelled objects.

    Args:
        predictions: Detections per image, in source pixels. Keep low confidences (0.001): average
            precision needs them.
        targets: Labelled objects per image, in source pixels, in the same order.
        class_names: Names by class index.

    Raises:
        InputError: If predictions and targets do not belong together.
        MissingDependencyError: If faster-coco-eval is not installed.
    """
    check_evaluable(predictions, targets, len(class_names))
    precision, recall = _coco_tables(predictions, targets, len(class_names))
    curves = detection_curves(predictions, targets, class_names)
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
            ap=_mean(precision[:, :, index, 0, -1]),
            ap50=_mean(precision[0, :, index, 0, -1]),
            **{key: float(values[index]) for key, values in at_best.items()},
        )
        for index, name in enumerate(class_names)
    )
    return DetectionMetrics(
        images=len(targets),
        instances=int(instances.sum()),
        ap=_mean(precision[:, :, :, 0, -1]),
        ap50=_mean(precision[0, :, :, 0, -1]),
        ap75=_mean(precision[5, :, :, 0, -1]),
        ap_small=_mean(precision[:, :, :, 1, -1]),
        ap_medium=_mean(precision[:, :, :, 2, -1]),
        ap_large=_mean(precision[:, :, :, 3, -1]),
        ar1=_mean(recall[:, :, 0, 0]),
        ar10=_mean(recall[:, :, 0, 1]),
        ar100=_mean(recall[:, :, 0, 2]),
        confidence=math.nan if best is None else float(curves.confidence[best]),
        **{key: float(mean_over_classes(values[:, None])[0]) for key, values in at_best.items()},
        per_class=per_class,
        curves=curves,
    )


def _coco_tables(
    predictions: Sequence[Detections], targets: Sequence[Target], num_classes: int
) -> tuple[Floats, Floats]:
    """Return COCO's precision (10, 101, classes, 4, 3) and recall (10, classes, 4, 3); -1 where undefined.

    Axes: overlap threshold 0.50 … 0.95; recall 0 … 1; class; all, small, medium, large objects;
    at most 1, 10, 100 detections of a class in an image.
    """
    precision, recall = np.full((10, 101, num_classes, 4, 3), -1.0), np.full((10, num_classes, 4, 3), -1.0)
    # One class at a time: COCO's classes do not touch each other, and its objects are dictionaries of over 1 KB each.
    kept = [best_per_class(found) for found in predictions]
    merged = Detections.merge(kept)
    found = _Boxes(_image_index(kept), merged.class_id, merged.xyxy, merged.confidence)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(target.boxes for target in targets)])
    class_id = np.concatenate([np.zeros(0, np.int64), *(target.class_id for target in targets)])
    truth = _Boxes(_image_index(targets), class_id, boxes, None)
    for index in np.unique(class_id):
        evaluation = _coco_evaluation(found.annotations(index), truth.annotations(index))
        precision[:, :, index] = evaluation["precision"][:, :, 0]
        recall[:, index] = evaluation["recall"][:, 0]
    return precision, recall


def _coco_evaluation(found: list[dict[str, Any]], truth: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what COCO's evaluation accumulates for one class."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingDependencyError("faster-coco-eval", extra="val", purpose="to compute average precision") from error
    images = sorted({annotation["image_id"] for annotation in (*found, *truth)})  # the others change nothing
    common = {"images": [{"id": image} for image in images], "categories": [{"id": 0, "name": ""}]}
    evaluation = COCOeval_faster(
        COCO({**common, "annotations": truth}), COCO({**common, "annotations": found}), iouType="bbox"
    )
    evaluation.evaluate()
    evaluation.accumulate()
    accumulated: dict[str, Any] = evaluation.eval
    return accumulated


def _image_index(parts: Sequence[Detections] | Sequence[Target]) -> npt.NDArray[np.int64]:
    """Return the image of each object of all images laid end to end."""
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """Objects of all images laid end to end."""

    image: npt.NDArray[np.int64]
    class_id: npt.NDArray[np.int64]
    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32] | None

    def annotations(self, class_id: int) -> list[dict[str, Any]]:
        """Return the objects of one class as COCO has them; their numbers start at 1, 0 would mean "not matched"."""
        own = np.flatnonzero(self.class_id == class_id)
        xywh = self.xyxy[own].astype(np.float64)
        # a negative area would hide the box from COCO
        xywh[:, 2:] = np.maximum(xywh[:, 2:] - xywh[:, :2], 0.0)
        result: list[dict[str, Any]] = [
            {"id": number, "image_id": image, "category_id": 0, "bbox": box, "area": box[2] * box[3]}
            for number, (image, box) in enumerate(zip(self.image[own].tolist(), xywh.tolist(), strict=True), start=1)
        ]
        if self.confidence is not None:
            for annotation, score in zip(result, self.confidence[own].tolist(), strict=True):
                annotation["score"] = score
        return result


def _count(class_ids: Sequence[npt.NDArray[np.int64]], num_classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *class_ids]), minlength=num_classes)


def _mean(values: Floats) -> float:
    """Return the mean of the defined values (COCO writes -1 for the others), or NaN."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else math.nan


def _json_ready(record: Any, *, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in skip}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
