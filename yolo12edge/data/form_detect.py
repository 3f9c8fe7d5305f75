"""Labels of detection: upright boxes, ``class centre-x centre-y width height``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from ..keypoints import KeypointSpec
from .label_form import CocoObject, LabelForm, Shape, count_error, fit_box
from .objects import Objects

__all__ = ["FORM"]


def parse(values: Sequence[float], keypoints: KeypointSpec | None) -> Shape:
    """Read centre, width and height."""
    if len(values) != 4:
        expected = "5: class, centre x, centre y, width, height"
        raise count_error("detect", len(values), f"{len(values) + 1} values", expected)
    box, overshoot = fit_box(*values)
    return Shape(box, (), overshoot)


def of_coco(annotation: CocoObject, keypoints: KeypointSpec | None) -> Shape:
    """Take the bbox."""
    return annotation.box()


def no_value(*_: Any) -> None:
    """Boxes say it all."""


def no_targets(objects: Objects, size: int) -> Mapping[str, npt.NDArray[Any]]:
    """Boxes and classes are learnt for every task."""
    return {}


FORM = LabelForm("detect", None, "the box", parse, of_coco, no_value, no_value, no_targets)
