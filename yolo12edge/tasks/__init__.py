"""One small module per task: how its outputs become Detections. ``decode`` knows them all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..detections import Detections
from ..imaging.letterbox import Letterbox
from ..manifest import Task
from ..thresholds import Thresholds
from . import classify, detect, obb, pose, segment
from .reading import Outputs, TaskFacts

__all__ = ["Outputs", "TaskFacts", "decode"]

_READERS: dict[Task, Callable[[Outputs, Letterbox, Thresholds, TaskFacts], Detections]] = {
    "detect": detect.read,
    "segment": segment.read,
    "classify": classify.read,
    "pose": pose.read,
    "obb": obb.read,
}


def decode(facts: TaskFacts, outputs: Outputs, letterbox: Letterbox, thresholds: Thresholds) -> Detections:
    """Return what a model found in one image.

    Args:
        facts: The model's task and what belongs to it: its manifest, or its checkpoint's metadata.
        outputs: float32, by role, of this image: their shapes are the manifest's without the batch.
        letterbox: Geometry of the image, as the ``Preprocessor`` gave it.
        thresholds: What counts as a detection.

    Returns:
        Detections in source pixels, best first, clipped to the frame. What lies wholly in the letterbox padding, or has
        a number that is not finite, is left out.

    Raises:
        InputError: If ``thresholds.classes`` names a class that there is not.
    """
    # Engines may give any number: what is not finite, or no longer is in source pixels, is dropped without a word.
    with np.errstate(invalid="ignore", over="ignore"):
        return _READERS[facts.task](outputs, letterbox, thresholds, facts)
