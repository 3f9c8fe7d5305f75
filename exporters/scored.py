"""What a manifest says of the accuracy of an export."""

from __future__ import annotations

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
    return Accuracy(
        dataset=dataset,
        split=split,
        images=mine.images,
        ap=mine.ap,
        ap50=mine.ap50,
        ap75=mine.ap75,
        reference=reference,
        reference_ap=theirs.ap,
        reference_ap50=theirs.ap50,
        reference_ap75=theirs.ap75,
    )
