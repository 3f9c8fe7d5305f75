"""``Overlap``: what makes a detection and a labelled object the same, for one task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..manifest import Task
from .target import Target

__all__ = ["CocoTables", "Overlap", "none_ignored"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CocoTables:
    """What COCO's evaluation accumulates; -1 where it is not defined.

    Attributes:
        precision: Shape (10, 101, classes, 4): overlap thresholds 0.50 … 0.95; recall 0 … 1; class; all, small, medium,
            large objects. At most 100 detections of a class in an image.
        recall: Shape (10, classes, 3): of objects of any size, with at most 1, 10, 100 detections.
    """

    precision: Floats
    recall: Floats


def none_ignored(target: Target) -> npt.NDArray[np.bool_]:
    """Return that each object of the target counts."""
    return np.zeros(len(target), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """How near detections are to labelled objects, from 0 to 1; 1 for what is the same.

    Attributes:
        task: What it is of.
        kind: What is compared, as in ``mask AP50-95``.
        name: Of the measure, as in ``mask IoU 0.50``.
        table: Of n detections and m objects of one image: shape (n, m).
        tables: COCO's tables of predictions and targets per image, with so many classes.
        ignored: Which objects neither count as missed nor make a detection of them wrong: bool (m,).
    """

    task: Task
    kind: str
    name: str
    table: Callable[[Detections, Target], npt.NDArray[np.floating[Any]]]
    tables: Callable[[Sequence[Detections], Sequence[Target], int], CocoTables]
    ignored: Callable[[Target], npt.NDArray[np.bool_]] = none_ignored
