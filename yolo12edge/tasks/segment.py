"""Segment: upright boxes, each with the mask of its object."""

from __future__ import annotations

import numpy as np

from ..detections import Detections
from ..imaging.letterbox import Letterbox
from ..imaging.mask_decoding import decode_masks
from ..thresholds import Thresholds
from .reading import Outputs, TaskFacts, to_source
from .selection import select

__all__ = ["read"]


def read(outputs: Outputs, letterbox: Letterbox, thresholds: Thresholds, facts: TaskFacts) -> Detections:
    """Return boxes and masks of one image in source pixels; arguments as ``tasks.decode``.

    A mask ends where its box does, and may be empty.
    """
    chosen = select(outputs["boxes"], outputs["scores"], thresholds)
    xyxy, usable = to_source(outputs["boxes"].T[chosen.index], letterbox)
    coefficients = outputs["coefficients"].T[chosen.index]
    usable &= np.isfinite(coefficients).all(axis=1)
    if not usable.all():
        xyxy, coefficients = xyxy[usable], coefficients[usable]
    return Detections(
        xyxy,
        chosen.confidence[usable],
        chosen.class_id[usable],
        mask=decode_masks(coefficients, outputs["prototypes"], xyxy, letterbox),
    )
