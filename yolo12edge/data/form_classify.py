"""Labels of classification: classes of whole pictures. They come from folders and tables, not from label files."""

from __future__ import annotations

from collections.abc import Sequence

from ..keypoints import KeypointSpec
from .form_detect import no_targets, no_value
from .label_form import CocoObject, LabelForm, Shape

__all__ = ["FORM", "WHOLE"]

WHOLE = Shape((0.0, 0.0, 1.0, 1.0))
"""The place of a class that a picture has: all of it."""


def parse(values: Sequence[float], keypoints: KeypointSpec | None) -> Shape:
    """Take a class alone."""
    if values:
        raise ValueError(f"{len(values) + 1} values; a whole picture has a class and nothing else")
    return WHOLE


def of_coco(annotation: CocoObject, keypoints: KeypointSpec | None) -> Shape:
    """Take the category as one of the picture."""
    return WHOLE


FORM = LabelForm("classify", None, "the class", parse, of_coco, no_value, no_value, no_targets, whole=True)
