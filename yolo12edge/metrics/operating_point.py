"""Which confidence threshold is cheapest, given what each kind of mistake costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .curves import DetectionCurves, middle_of_best
from .detection import json_ready

__all__ = ["OperatingPoint", "check_costs", "choose_threshold"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A confidence threshold, and what it leads to on the images that were evaluated.

    Attributes:
        confidence: Detections from here on are kept.
        true_positives: How many of these are right.
        false_positives: How many of these are wrong.
        false_negatives: How many labelled objects are missed.
        cost: Of both kinds of mistakes together.
    """

    confidence: float
    true_positives: int
    false_positives: int
    false_negatives: int
    cost: float

    @property
    def precision(self) -> float:
        """Share of what is kept that is right; NaN where nothing is kept."""
        return _share(self.true_positives, self.false_positives)

    @property
    def recall(self) -> float:
        """Share of labelled objects that are found; NaN without any."""
        return _share(self.true_positives, self.false_negatives)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON: NaN becomes None."""
        shares = {"precision": self.precision, "recall": self.recall}
        return {**json_ready(self), **{name: None if math.isnan(share) else share for name, share in shares.items()}}


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
    check_costs(cost_false_positive, cost_false_negative)
    right, wrong = curves.right.sum(axis=0), curves.wrong.sum(axis=0)
    missed = curves.instances.sum() - right
    cost = cost_false_positive * wrong + cost_false_negative * missed
    index = middle_of_best(-cost)
    return OperatingPoint(
        float(curves.confidence[index]), int(right[index]), int(wrong[index]), int(missed[index]), float(cost[index])
    )


def check_costs(*costs: float) -> None:
    """Refuse costs that no threshold can be chosen by.

    Raises:
        InputError: If one is negative or not finite, or all are 0.
    """
    if not all(math.isfinite(cost) and cost >= 0 for cost in costs) or not any(costs):
        raise InputError(f"the costs of mistakes are {costs}", expected="numbers from 0 on, one of them above 0")


def _share(some: int, others: int) -> float:
    return some / (some + others) if some + others else math.nan
