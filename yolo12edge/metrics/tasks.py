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

__all__ = ["FOUND", "ClassFigures", "Measure", "Metrics"]


FOUND = 0.25
"""Confidence from which on something counts as found where two models are compared, or drawn."""


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

    def parts(self) -> Sequence[Metrics]:
        """Return what has a table of its own, the task's own figures first."""
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

    def found(self, detections: Detections) -> Detections:
        """Return what counts as found in an image: from confidence 0.25 on, or the one most probable class."""
        return _TASKS[self.task].found(self, detections)

    def labelled(self, target: Target) -> Detections:
        """Return the labels of an image as if they had been found, to draw them."""
        return _TASKS[self.task].labelled(self, target)

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
    found: Callable[[Measure, Detections], Detections]
    labelled: Callable[[Measure, Target], Detections]


def _objects(measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]) -> Metrics:
    return evaluate_detections(predictions, targets, measure.class_names, overlap=measure.overlap)


def _objects_and_boxes(measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]) -> Metrics:
    box = evaluate_detections(predictions, targets, measure.class_names)
    return evaluate_detections(predictions, targets, measure.class_names, overlap=measure.overlap, box=box)


def _confused_objects(
    measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]
) -> ConfusionMatrix:
    return confusion_matrix(predictions, targets, measure.class_names, overlap=measure.overlap)


def _confident(measure: Measure, found: Detections) -> Detections:
    return found[found.confidence >= FOUND]


def _labelled_objects(measure: Measure, target: Target) -> Detections:
    return target.as_detections()


def _classes(measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]) -> Metrics:
    return for_classify.evaluate_classes(predictions, targets, measure.class_names, multi_label=measure.multi_label)


def _confused_classes(
    measure: Measure, predictions: Sequence[Detections], targets: Sequence[Target]
) -> ConfusionMatrix:
    return for_classify.confused_classes(predictions, targets, measure.class_names, multi_label=measure.multi_label)


def _said(measure: Measure, found: Detections) -> Detections:
    return _confident(measure, found) if measure.multi_label else found[:1]


def _labelled_classes(measure: Measure, target: Target) -> Detections:
    return for_classify.as_detections(target, len(measure.class_names))


_OBJECTS = (_confused_objects, _confident, _labelled_objects)
_TASKS: Mapping[Task, _Task] = {
    "detect": _Task(for_detect.overlap, _objects, *_OBJECTS),
    "segment": _Task(for_segment.overlap, _objects_and_boxes, *_OBJECTS),
    "pose": _Task(for_pose.overlap, _objects_and_boxes, *_OBJECTS),
    "obb": _Task(for_obb.overlap, _objects, *_OBJECTS),
    "classify": _Task(for_classify.overlap, _classes, _confused_classes, _said, _labelled_classes),
}
