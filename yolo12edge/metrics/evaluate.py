"""Run a detector over labelled images and score what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..imaging.images import read_image
from ..thresholds import Thresholds
from .target import Target
from .tasks import Measure, Metrics

if TYPE_CHECKING:
    from ..data.dataset import Sample

__all__ = ["EVAL_THRESHOLDS", "Detector", "Evaluation", "Progress", "StageTimes", "evaluate_pair", "evaluate_runtime"]

EVAL_THRESHOLDS = Thresholds(confidence=0.001, iou=0.7, max_detections=300)
"""What average precision is measured with: nearly everything kept, one label a box."""

Progress = Callable[[int, int], None]
"""Called after each image with the number of images done and the number of all."""


class Detector(Protocol):
    """What is evaluated; a ``Runtime`` is one."""

    def __call__(self, frame: npt.NDArray[np.uint8], *, thresholds: Thresholds) -> Detections:
        """Detect objects in a BGR frame, in its pixels."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class StageTimes:
    """Wall time of the stages of one evaluation.

    Attributes:
        read_ms: float64, shape (images,): reading and decoding each image.
        detect_ms: float64, shape (images,): the detector's whole call for each image.
        score_s: Seconds spent scoring, once.
    """

    read_ms: npt.NDArray[np.float64]
    detect_ms: npt.NDArray[np.float64]
    score_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return medians per image and the scoring time, ready for JSON."""
        medians = {
            f"{name}_median": float(np.median(values)) if values.size else None
            for name, values in (("read_ms", self.read_ms), ("detect_ms", self.detect_ms))
        }
        return {**medians, "score_s": self.score_s}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One detector's result on a set of images.

    Attributes:
        metrics: Its accuracy.
        predictions: What it found, per image, in source pixels.
        targets: What is labelled, per image, in source pixels.
        times: Where the time went.
        measure: What was measured.
    """

    metrics: Metrics
    predictions: tuple[Detections, ...]
    targets: tuple[Target, ...]
    times: StageTimes
    measure: Measure


def evaluate_runtime(
    runtime: Detector,
    samples: Sequence[Sample],
    class_names: Sequence[str],
    *,
    measure: Measure | None = None,
    thresholds: Thresholds = EVAL_THRESHOLDS,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate one detector; one image is in memory at a time.

    Args:
        runtime: The detector.
        samples: Labelled images.
        class_names: Names by class index, the same for detector and labels.
        measure: What to measure; if left out, what the detector's manifest says it does, or detection without one.
        thresholds: What the detector keeps.
        progress: Told how far it is.

    Raises:
        InputError: If an image cannot be read, or a class is out of range.
        MissingDependencyError: If faster-coco-eval is not installed.
    """
    return _evaluate((runtime,), samples, class_names, measure, thresholds, progress)[0]


def evaluate_pair(
    first: Detector,
    second: Detector,
    samples: Sequence[Sample],
    class_names: Sequence[str],
    *,
    measure: Measure | None = None,
    thresholds: Thresholds = EVAL_THRESHOLDS,
    progress: Progress | None = None,
) -> tuple[Evaluation, Evaluation]:
    """Evaluate two detectors on the same decoded images, so that their difference is theirs alone.

    Which of the two goes first alternates from image to image, so that their times compare fairly.
    Arguments and errors are those of ``evaluate_runtime``.
    """
    one, other = _evaluate((first, second), samples, class_names, measure, thresholds, progress)
    return one, other


def _evaluate(
    detectors: Sequence[Detector],
    samples: Sequence[Sample],
    class_names: Sequence[str],
    measure: Measure | None,
    thresholds: Thresholds,
    progress: Progress | None,
) -> list[Evaluation]:
    measure = measure or _measure_of(detectors[0], class_names)
    for detector in detectors:  # all are asked for the same: what each can give
        thresholds = thresholds.within(getattr(getattr(detector, "manifest", None), "nms_iou", None))
    targets: list[Target] = []
    read_ms = np.zeros(len(samples))
    detect_ms = np.zeros((len(detectors), len(samples)))
    predictions: list[list[Detections]] = [[] for _ in detectors]
    for index, sample in enumerate(samples):
        start = time.perf_counter()
        image = read_image(sample.image)
        read_ms[index] = (time.perf_counter() - start) * 1e3
        height, width = image.shape[:2]
        targets.append(Target.of(sample, (height, width)))
        turns = range(len(detectors))
        for turn in turns if index % 2 == 0 else reversed(turns):
            start = time.perf_counter()
            predictions[turn].append(detectors[turn](image, thresholds=thresholds))
            detect_ms[turn, index] = (time.perf_counter() - start) * 1e3
        if progress is not None:
            progress(index + 1, len(samples))

    evaluations = []
    for found, spent in zip(predictions, detect_ms, strict=True):
        start = time.perf_counter()
        metrics = measure.evaluate(found, targets)
        times = StageTimes(read_ms, spent, time.perf_counter() - start)
        evaluations.append(Evaluation(metrics, tuple(found), tuple(targets), times, measure))
    return evaluations


def _measure_of(detector: Detector, class_names: Sequence[str]) -> Measure:
    manifest = getattr(detector, "manifest", None)
    return (
        Measure("detect", class_names) if manifest is None else replace(Measure.of(manifest), class_names=class_names)
    )
