"""How far what a model finds is what its float twin finds: needs no labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..detections import Detections
from ..metrics.matching import candidate_pairs, closest_first, match_pairs
from ..metrics.target import Target
from ..metrics.tasks import Measure
from .results import Agreement

__all__ = ["agreement_of"]

_SAME = 0.5


def agreement_of(own: Sequence[Detections], twin: Sequence[Detections], measure: Measure) -> Agreement:
    """Compare what two models found on the same images.

    What counts as found (detections from confidence 0.25 on, or the most probable class of an image) is matched one to
    one within its class, the closest pair first.

    Args:
        own: Of the model, per image.
        twin: Of its float twin, per image.
        measure: What is compared.
    """
    mine = [measure.found(found) for found in own]
    theirs = [measure.found(found) for found in twin]
    targets = [Target.of_detections(found) for found in theirs]
    pairs = candidate_pairs(mine, targets, measure.overlap, least=_SAME, same_class=True)
    my_confidence, their_confidence = (
        np.concatenate([np.zeros(0, np.float32), *(found.confidence for found in side)]) for side in (mine, theirs)
    )
    matched = match_pairs(pairs, closest_first(pairs), detections=len(my_confidence), targets=len(their_confidence))
    hit = matched >= 0
    overlaps = dict(zip(zip(pairs.detection.tolist(), pairs.target.tolist(), strict=True), pairs.iou, strict=True))
    found = [overlaps[pair] for pair in zip(np.flatnonzero(hit).tolist(), matched[hit].tolist(), strict=True)]
    return Agreement(
        images=len(own),
        reference_objects=len(their_confidence),
        objects=len(my_confidence),
        matched=int(hit.sum()),
        mean_iou=float(np.mean(found)) if found and measure.overlap.name else float("nan"),
        score_shifts=my_confidence[hit] - their_confidence[matched[hit]],
        measure=measure.overlap.name,
    )
