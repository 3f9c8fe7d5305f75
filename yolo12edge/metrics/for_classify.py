"""Classification: whole images, each with one class, or with any number of classes that do not exclude each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..keypoints import KeypointSpec
from ..manifest import Task
from .confusion import ConfusionMatrix, confusion_matrix
from .curves import DetectionCurves, detection_curves, mean_over_classes
from .detection import json_ready
from .matching import check_evaluable
from .overlap import CocoTables, Overlap
from .target import Target

__all__ = [
    "ClassifyClassMetrics",
    "ClassifyMetrics",
    "as_detections",
    "confused_classes",
    "evaluate_classes",
    "overlap",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassifyClassMetrics:
    """Accuracy of one class; shares in [0, 1], NaN where no image has it.

    Attributes:
        name: Name of the class.
        images: Number of images that are labelled with it.
        instances: The same.
        ap: Average precision: of all images, ordered by the probability of this class.
        precision: Share of images said to be of the class that are.
        recall: Share of its images that are said to be.
        f1: Harmonic mean of the two.
    """

    name: str
    images: int
    instances: int
    ap: float
    precision: float
    recall: float
    f1: float

    def figures(self) -> dict[str, float]:
        """Return what is also among the figures of all classes together."""
        return {"AP": self.ap, "mean AP": self.ap}


@dataclass(frozen=True, slots=True, eq=False)
class ClassifyMetrics:
    """Accuracy over all images; shares in [0, 1], NaN without a labelled image.

    Attributes:
        images: Number of images.
        instances: Number of labels, which is that of the images if classes exclude each other.
        top1: Share of labelled images whose most probable class is right (is one of their labels).
        top5: Share of those with a right one among the five most probable.
        ap: Mean of the classes' average precision.
        confidence: With any number of classes an image, the threshold of the best mean F1; NaN with one, where the most
            probable class is what counts. The next three are there, means over the classes.
        precision: Share of the classes said that are right.
        recall: Share of the labels that are said.
        f1: Harmonic mean of the two.
        per_class: One entry per class, by class index.
        curves: Over the probability, each class against all others.
        multi_label: Whether classes do not exclude each other.
    """

    images: int
    instances: int
    top1: float
    top5: float
    ap: float
    confidence: float
    precision: float
    recall: float
    f1: float
    per_class: tuple[ClassifyClassMetrics, ...]
    curves: DetectionCurves
    multi_label: bool = False

    @property
    def task(self) -> Task:
        """What was evaluated."""
        return "classify"

    @property
    def figure(self) -> str:
        """The name of the score."""
        return "mean AP" if self.multi_label else "top-1"

    @property
    def score(self) -> float:
        """The one number that models of the task are compared by, 0 to 1; NaN without labelled images."""
        return self.ap if self.multi_label else self.top1

    def figures(self) -> dict[str, float]:
        """Return the numbers that people look at by their names, the score first."""
        return {self.figure: self.score, **self.details()}

    def details(self) -> dict[str, float]:
        """Return what a report says besides the score."""
        return {"top-1": self.top1, "top-5": self.top5} if self.multi_label else {"top-5": self.top5, "AP": self.ap}

    def columns(self) -> dict[str, float]:
        """Return the numbers that a table of epochs has, by the names of its columns."""
        first = ("map", "top1", "top5") if self.multi_label else ("top1", "top5", "map")
        values = {"map": self.ap, "top1": self.top1, "top5": self.top5}
        shares = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**{name: values[name] for name in first}, **shares}

    def parts(self) -> tuple[ClassifyMetrics, ...]:
        """Return what has a table of its own."""
        return (self,)

    @property
    def counted(self) -> str:
        """What the instances are."""
        return "labels"

    @property
    def decision(self) -> str:
        """What precision, recall and F1 are of."""
        return f"confidence {self.confidence:.3f}" if self.multi_label else "the most probable class"

    def to_dict(self) -> dict[str, Any]:
        """Return all but the curves, ready for JSON: NaN becomes None."""
        result = {"task": self.task, **json_ready(self, skip=("per_class", "curves")), "figure": self.figure}
        result["per_class"] = [json_ready(entry) for entry in self.per_class]
        return result


def overlap(keypoints: KeypointSpec | None = None) -> Overlap:
    """Return that all of an image is the same as all of it: only the class can be wrong."""
    return Overlap(
        "classify", "class", "", lambda found, target: np.ones((len(found), len(target)), np.float32), _no_tables
    )


def _no_tables(predictions: object, targets: object, num_classes: int) -> CocoTables:
    """COCO knows no classes of whole images."""
    raise InputError("average precision over overlaps is not defined for whole images", remedy="use evaluate_classes")


def evaluate_classes(
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    class_names: Sequence[str],
    *,
    multi_label: bool = False,
) -> ClassifyMetrics:
    """Score probabilities of classes against labels.

    Args:
        predictions: What was found per image, with ``probs``; an image with nothing has probability 0 of all classes.
        targets: Labels per image, in the same order. Images without a label count for multi-label alone.
        class_names: Names by class index.
        multi_label: Whether classes do not exclude each other.

    Raises:
        InputError: If predictions and targets do not belong together, or there are no probabilities.
    """
    count = len(class_names)
    check_evaluable(predictions, targets, count)
    probs = np.array([_probabilities(found, count) for found in predictions], np.float32).reshape(-1, count)
    if not np.isfinite(probs).all():
        raise InputError("there are probabilities that are not finite", remedy="check the model's outputs")
    labels = np.zeros((len(targets), count), np.bool_)
    for row, target in zip(labels, targets, strict=True):
        row[target.class_id] = True
    curves = _curves(probs, labels, class_names)
    ap = curves.precision_at_recall.mean(axis=1)
    best = curves.best_index
    if multi_label:
        nothing = np.full(count, np.nan)
        precision, recall, f1 = (
            nothing if best is None else table[:, best] for table in (curves.precision, curves.recall, curves.f1)
        )
    else:
        precision, recall, f1 = _of_most_probable(probs, labels)
    ranked = np.argsort(-probs, axis=1, kind="stable")
    labelled = labels.any(axis=1)
    right = np.take_along_axis(labels, ranked[:, :5], axis=1)[labelled]
    images = labels.sum(axis=0)
    return ClassifyMetrics(
        images=len(targets),
        instances=int(labels.sum()),
        top1=_mean(np.asarray(right[:, :1].any(axis=1))),
        top5=_mean(np.asarray(right.any(axis=1))),
        ap=_mean(ap),
        confidence=math.nan if best is None or not multi_label else float(curves.confidence[best]),
        precision=_mean(precision),
        recall=_mean(recall),
        f1=_mean(f1),
        per_class=tuple(
            ClassifyClassMetrics(
                name,
                int(images[index]),
                int(images[index]),
                *(float(values[index]) for values in (ap, precision, recall, f1)),
            )
            for index, name in enumerate(class_names)
        ),
        curves=curves,
        multi_label=multi_label,
    )


def confused_classes(
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    class_names: Sequence[str],
    *,
    multi_label: bool = False,
) -> ConfusionMatrix:
    """Count which class each labelled image was said to be of.

    Where classes exclude each other that is the most probable one, and images without a label are left out. Else each
    class from confidence 0.25 on is right, or made up; it is not said for which other class it was taken.

    Raises:
        InputError: If predictions and targets do not belong together.
    """
    if multi_label:
        return confusion_matrix(predictions, targets, class_names, overlap=overlap(), same_class=True)
    labelled = [index for index, target in enumerate(targets) if len(target)]
    first = [predictions[index][:1] for index in labelled]
    matrix = confusion_matrix(
        first, [targets[index] for index in labelled], class_names, overlap=overlap(), confidence=0.0
    )
    return replace(matrix, counts=matrix.counts[:-1, :-1], background=False)


def as_detections(target: Target, count: int) -> Detections:
    """Return the labels of an image as if they had been found, one row each."""
    probs = np.zeros((len(target), count), np.float32)
    probs[:, target.class_id] = 1
    return Detections(target.boxes, np.ones(len(target), np.float32), target.class_id, probs=probs)


def _probabilities(found: Detections, count: int) -> npt.NDArray[np.float32]:
    if not len(found):
        return np.zeros(count, np.float32)
    if found.probs is None or found.probs.shape[1] != count:
        raise InputError(
            "there are no probabilities of the classes", expected=str(count), remedy="evaluate a classification model"
        )
    row: npt.NDArray[np.float32] = found.probs[0]
    return row


def _curves(
    probs: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_], class_names: Sequence[str]
) -> DetectionCurves:
    """Return the curves of each class against all others: as if each class were looked for in each image."""
    count = len(class_names)
    boxes = np.zeros((count, 4), np.float32)
    found = [Detections(boxes, row, np.arange(count)) for row in probs]
    truth = [Target(boxes[: row.sum()], np.flatnonzero(row), (0, 0)) for row in labels]
    return replace(detection_curves(found, truth, class_names, overlap=overlap()), iou=0.0)


def _of_most_probable(probs: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1 of each class; NaN for classes that no image has, precision if never said."""
    said = np.zeros_like(labels)
    if labels.size:
        said[np.arange(len(labels)), probs.argmax(axis=1)] = True
    said &= labels.any(axis=1, keepdims=True)
    right, counted, known = (said & labels).sum(axis=0), said.sum(axis=0), labels.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = right / counted, right / known, 2 * right / (counted + known)
    return np.where(known > 0, precision, np.nan), recall, np.where(known > 0, f1, np.nan)


def _mean(values: npt.NDArray[Any]) -> float:
    return float(mean_over_classes(np.asarray(values, np.float64)[:, None])[0])
