"""What the guard found out, as plain data: the report card and the command line show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..benchmark.latency import LatencySummary
from ..metrics.evaluate import Evaluation

__all__ = ["Agreement", "Candidate", "GuardResult", "Sensitivity"]


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How far the detections of a model are those of its float twin, without any labels.

    Attributes:
        images: How many images both looked at.
        reference_objects: What the float model found, at confidence 0.25 or more; of images with one class each, these.
        objects: What the model found, at that confidence.
        matched: How many of these are the same: same class, overlap 0.5 or more, one to one.
        mean_iou: Mean overlap of what matched, of the task's own kind; NaN without any.
        score_shifts: float32, shape (matched,): confidence minus the float model's.
        measure: What the overlap is, such as ``mask IoU``; empty of classes of whole images, which only agree or not.
    """

    images: int
    reference_objects: int
    objects: int
    matched: int
    mean_iou: float
    score_shifts: npt.NDArray[np.float32]
    measure: str = "IoU"

    @property
    def f1(self) -> float:
        """Agreement as one number: 1 where both find the same objects; 1 too where both find none."""
        total = self.reference_objects + self.objects
        return 2 * self.matched / total if total else 1.0

    @property
    def score_shift(self) -> float:
        """Mean of the score shifts; 0 without a match."""
        return float(self.score_shifts.mean()) if self.score_shifts.size else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One way to quantize that the tournament tried.

    Attributes:
        name: Such as ``mse ranges, int8 attention``.
        loss: Detection-output loss against float on calibration images; NaN if it could not be measured.
        latency: Of the engine, or None where it was not timed.
        chosen: Whether this one became the artifact.
        problem: Why it fell out, or empty.
    """

    name: str
    loss: float
    latency: LatencySummary | None = None
    chosen: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one group of layers costs in INT8.

    Attributes:
        group: A block, an attention, an MLP or a branch of the head, by its name in the graph.
        gain: How much the detection-output loss falls when this group alone goes back to float.
        cost_ms: How much slower the engine gets by it; None where it was not timed.
        is_float: Whether it went back to float in the artifact.
    """

    group: str
    gain: float
    cost_ms: float | None = None
    is_float: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class GuardResult:
    """Everything that was measured on the way to one INT8 artifact.

    Attributes:
        own: Accuracy of the artifact on labelled images, or None without labels.
        twin: That of its float twin on the same decoded images.
        agreement: With the twin, on the labelled images or, without labels, on those of the calibration.
        own_latency: Engine alone, in turns with the twin; None if this machine is not the target.
        twin_latency: That of the twin.
        own_bytes: Size of the artifact's model files.
        twin_bytes: That of the twin.
        engine: Such as ``openvino 2026.4.1``.
        device: What it ran on.
        threads: CPU threads.
        simulated: Whether this machine is not the target: its arithmetic was simulated, and its speed is not known.
        max_map_drop: Budget, points of the task's score.
        held: Whether the budget holds; without labels, whether the agreement is as good as ``guard`` asks.
        candidates: Of the tournament, in the order tried.
        sensitivity: One entry a group, the most sensitive first.
        on_calibration_images: Whether the agreement had to be measured on images that were calibrated on.
    """

    own: Evaluation | None
    twin: Evaluation | None
    agreement: Agreement
    own_latency: LatencySummary | None
    twin_latency: LatencySummary | None
    own_bytes: int
    twin_bytes: int
    engine: str
    device: str
    threads: int
    simulated: bool
    max_map_drop: float
    held: bool
    candidates: tuple[Candidate, ...]
    sensitivity: tuple[Sensitivity, ...]
    on_calibration_images: bool = False

    @property
    def map_drop(self) -> float | None:
        """Points of the task's score that INT8 costs; None without labels."""
        if self.own is None or self.twin is None:
            return None
        return 100 * (self.twin.metrics.score - self.own.metrics.score)

    @property
    def figure(self) -> str | None:
        """What the points are of, such as ``mask AP50-95``; None without labels."""
        return None if self.own is None else self.own.metrics.figure

    @property
    def speedup(self) -> float | None:
        """Time of the twin over that of the artifact, medians; None where it was not measured."""
        if self.own_latency is None or self.twin_latency is None:
            return None
        return self.twin_latency.median_ms / self.own_latency.median_ms
