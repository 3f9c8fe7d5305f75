"""Which confidence threshold is cheapest, given what each kind of mistake costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError
from .curves import DetectionCurves, middle_of_best

__all__ = ["OperatingPoint", "choose_threshold"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A confidence threshold, and what it leads to on the images that were evaluated.

    Attributes:
        confidence: Detections from here on are kept.
        false_positives: How many of these are wrong.
        false_negatives: How many labelled objects are missed.
        cost: Of both kinds of mistakes together.
    """

    confidence: float
    false_positives: int
    false_negatives: int
    cost: float


def choose_threshold(
    curves: DetectionCurves, *, cost_false_positive: float, cost_false_negative: float
) -> OperatingPoint:
    """Choose the confidence threshold at which the mistakes on the evaluated images cost least.

    Where a range of thresholds is equally good it is the middle, which forgives the most.

    Args:
        curves: Of an evaluation, such as ``metrics.curves``.
        cost_false_positive: What a wrong detection costs, in any unit.
        cost_false_negative: What a missed object costs, in the same.

    Raises:
        InputError: If a cost is negative or not finite, or both are 0.
    """
    costs = (cost_false_positive, cost_false_negative)
    if not all(math.isfinite(cost) and cost >= 0 for cost in costs) or not any(costs):
        raise InputError(f"the costs of mistakes are {costs}", expected="numbers from 0 on, one of them above 0")
    wrong, missed = curves.wrong.sum(axis=0), (curves.instances[:, None] - curves.right).sum(axis=0)
    cost = cost_false_positive * wrong + cost_false_negative * missed
    index = middle_of_best(-cost)
    return OperatingPoint(float(curves.confidence[index]), int(wrong[index]), int(missed[index]), float(cost[index]))
