"""What a manifest says of the accuracy of an export."""

from __future__ import annotations

import math

from ..manifest import Accuracy
from ..metrics.evaluate import Evaluation

__all__ = ["accuracy_of"]


def accuracy_of(
    own: Evaluation, other: Evaluation, *, reference: str, dataset: str = "", split: str = "val"
) -> Accuracy:
    """Return the accuracy of an artifact and of what it was made from.

    Args:
        own: The artifact's.
        other: That of the reference, on the same images.
        reference: The reference's name.
        dataset: Where the images are from.
        split: Which of its splits.
    """
    mine, theirs = own.metrics, other.metrics
    values, others = mine.details(), theirs.details()
    known = [name for name in values if math.isfinite(values[name]) and math.isfinite(others[name])]
    return Accuracy(
        dataset=dataset,
        split=split,
        images=mine.images,
        metric=mine.figure,
        value=mine.score,
        details={name: values[name] for name in known},
        reference=reference,
        reference_value=theirs.score,
        reference_details={name: others[name] for name in known},
    )
