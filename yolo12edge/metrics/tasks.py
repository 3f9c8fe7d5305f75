"""Accuracy of each task: one table from the task's name to the module that measures it.

A further task is a module with an ``Overlap`` and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..detections import Detections
from ..keypoints import KeypointSpec
from ..manifest import Task
from . import for_classify, for_detect, for_obb, for_pose, for_segment
from .confusion import ConfusionMatrix, confusion_matrix
from .curves import DetectionCurves
from .detection import evaluate_detections
from .overlap import Overlap
from .target import Target

__all__ = ["ClassFigures", "Measure", "Metrics"]


class Described(Protocol):
    """What says what a model or a dataset is of."""

    @property
    def task(self) -> Task:
        """Its task."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """Names by class index."""
        ...

    @property
    def keypoints(self) -> KeypointSpec | None:
        """Which points an object has, of pose."""
        ...

    @property
    def multi_label(self) -> bool:
        """Whether classes do not exclude each other."""
        ...


class ClassFigures(Protocol):
    """Accuracy of one class, of any task."""

    @property
    def name(self) -> str:
        """Name of the class."""
        ...

    @property
    def images(self) -> int:
        """Number of images with it."""
        ...

    @property
    def instances(self) -> int:
        """Number of its labelled objects."""
        ...

    @property
    def precision(self) -> float:
        """Share of what was found that is right."""
        ...

    @property
    def recall(self) -> float:
        """Share of what is labelled that was found."""
        ...

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        ...

    def figures(self) -> dict[str, float]:
        """Return what is also among the figures of all classes together."""
        ...


class Metrics(Protocol):
    """Accuracy of any task on a set of images; ``DetectionMetrics`` and ``ClassifyMetrics`` say what the values are."""

    @property
    def task(self) -> Task:
        """What was evaluated."""
        ...

    @property
    def figure(self) -> str:
        """The name of the score, such as ``mask AP50-95``."""
        ...

    @property
    def score(self) -> float:
        """The one number that models of the task are compared by, 0 to 1; NaN with nothing to measure it on."""
        ...

    @property
    def images(self) -> int:
        """Number of images."""
        ...

    @property
    def instances(self) -> int:
        """Number of labelled objects."""
        ...

    @property
    def confidence(self) -> float:
        """The threshold that precision, recall and F1 are at; NaN where none decides."""
        ...

    @property
    def precision(self) -> float:
        """Share of what was found that is right."""
        ...

    @property
    def recall(self) -> float:
        """Share of what is labelled that was found."""
        ...

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        ...

    @property
    def counted(self) -> str:
        """What the instances are, such as objects."""
        ...

    @property
    def decision(self) -> str:
        """What precision, recall and F1 are of, in words."""
        ...

    @property
    def per_class(self) -> Sequence[ClassFigures]:
        """One entry per class, by class index."""
        ...

    @property
    def curves(self) -> DetectionCurves:
        """Precision, recall and F1 over the confidence threshold."""
        ...

    def figures(self) -> dict[str, float]:
        """Return the numbers that people look at by their names, the score first."""
        ...

    def details(self) -> dict[str, float]:
        """Return what a report says besides the score."""
        ...

    def columns(self) -> dict[str, float]:
        """Return the numbers that a table of epochs has, by the names of its columns."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return all but the curves, ready for JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured, as a manifest, a dataset or the metadata of a checkpoint has it.

    Attributes:
        task: Of the model.
        class_names: Names by class index.
        keypoints: Of pose.
        multi_label: Of classify: whether classes do not exclude each other.
    """

    task: Task
    class_names: Sequence[str]
    keypoints: KeypointSpec | None = None
    multi_label: bool = False

    @classmethod
    def of(cls, described: Described) -> Measure:
        """Return the measure of a manifest, a dataset or the metadata of a checkpoint."""
        return cls(described.task, described.class_names, described.keypoints, described.multi_label)

    @property
    def overlap(self) -> Overlap:
        """What makes a detection and a labelled object the same."""
        return _TASKS[self.task].overlap(self.keypoints)

    def evaluate(self, predictions: Sequence[Detections], targets: Sequence[Target]) -> Metrics:
        """Score what was found against what is labelled, per image and in the same order.

        Raises:
            InputError: If the two do not belong together or lack what the task compares.
            MissingDependencyError: If faster-coco-eval is not installed.
        """
        return _TASKS[self.task].evaluate(self, predictions, targets)

    def confusion(self, predictions: Sequence[Detections], targets: Sequence[Target]) -> ConfusionMatrix:
        """Count which class each labelled object was found as.

        Raises:
            InputError: If the two do not belong together or lack what the task compares.
        """
        return _TASKS[self.task].confusion(self, predictions, targets)


@dataclass(frozen=True, slots=True)
class _Task:
    """The functions that measure one task."""

    overlap: Callable[[KeypointSpec | None], Overlap]
    evaluate: Callable[[Measure, Sequence[Detections], Sequence[Target]], Metrics]
    confusion: Callable[[Measure, Sequence[Detections], Sequence[Target]], ConfusionMatrix]


def _objects(measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]) -> Metrics:
    return evaluate_detections(predictions, targets, measure.class_names, overlap=measure.overlap)


def _objects_and_boxes(measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]) -> Metrics:
    box = evaluate_detections(predictions, targets, measure.class_names)
    return evaluate_detections(predictions, targets, measure.class_names, overlap=measure.overlap, box=box)


def _confused_objects(
    measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]
) -> ConfusionMatrix:
    return confusion_matrix(predictions, targets, measure.class_names, overlap=measure.overlap)


def _classes(measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]) -> Metrics:
    return for_classify.evaluate_classes(predictions, targets, measure.class_names, multi_label=measure.multi_label)


def _confused_classes(
    measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]
) -> ConfusionMatrix:
    return for_classify.confused_classes(predictions, targets, measure.class_names, multi_label=measure.multi_label)


_TASKS: Mapping[Task, _Task] = {
    "detect": _Task(for_detect.overlap, _objects, _confused_objects),
    "segment": _Task(for_segment.overlap, _objects_and_boxes, _confused_objects),
    "pose": _Task(for_pose.overlap, _objects_and_boxes, _confused_objects),
    "obb": _Task(for_obb.overlap, _objects, _confused_objects),
    "classify": _Task(for_classify.overlap, _classes, _confused_classes),
}
