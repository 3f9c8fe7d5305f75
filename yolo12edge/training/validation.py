"""Scoring the network after each epoch: pictures, decoding and figures are those of ``yolo12edge val``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..detections import Detections
from ..imaging.images import read_image
from ..imaging.letterbox import plan_letterbox
from ..manifest import Role
from ..metrics import EVAL_THRESHOLDS, Measure, Metrics, Target
from ..tasks import decode
from .collectives import broadcast_from_first, gather_to_first

if TYPE_CHECKING:
    from ..data.dataset import Dataset, Sample

__all__ = ["Validation"]


class Validation:
    """One pass over the validation pictures after another; what is found is scored in source pixels.

    Args:
        dataset: What it is labelled for.
        samples: The pictures.
        image_size: Side of the network input in pixels.
        order: Which of the pictures this process looks at, in the order in which their outputs are added; None is all.
    """

    def __init__(
        self, dataset: Dataset, samples: Sequence[Sample], *, image_size: int, order: Sequence[int] | None = None
    ) -> None:
        self._dataset = dataset
        self._samples = samples
        self._image_size = image_size
        self._order = range(len(samples)) if order is None else order
        self._targets: list[Target] = []  # of the pictures seen so far; they stay for all passes
        self._predictions: list[Detections] = []

    def start(self) -> None:
        """Start a pass."""
        self._predictions = []

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Add the decoded outputs, by role, of the next pictures."""
        arrays = {cast("Role", role): tensor.float().cpu().numpy() for role, tensor in outputs.items()}
        for index in range(len(next(iter(arrays.values())))):
            target = self._target(len(self._predictions))
            own: dict[Role, npt.NDArray[np.float32]] = {role: array[index] for role, array in arrays.items()}
            letterbox = plan_letterbox(target.image_hw, (self._image_size, self._image_size))
            self._predictions.append(decode(self._dataset, own, letterbox, EVAL_THRESHOLDS))

    def score(self) -> Metrics:
        """Score the pass of all processes, whose pictures are all that there are."""
        metrics = None
        parts = gather_to_first((self._order, self._predictions, self._targets))
        if parts:  # in the first process
            found = {index: pair for part in parts for index, *pair in zip(*part, strict=True)}
            predictions, targets = zip(*(found[index] for index in sorted(found)), strict=True)
            metrics = Measure.of(self._dataset).evaluate(predictions, targets)
        return cast("Metrics", broadcast_from_first(metrics))

    def _target(self, index: int) -> Target:
        if index == len(self._targets):
            sample = self._samples[self._order[index]]
            height, width = read_image(sample.image).shape[:2]
            self._targets.append(Target.of(sample, (height, width)))
        return self._targets[index]
