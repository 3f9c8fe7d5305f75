"""``SCHEDULES``: how the learning rate goes over a run, each a function of how far the run is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi

from .config import Schedule

__all__ = ["SCHEDULES", "Place", "cycle_height", "plateau_drops"]

_CYCLE_EPOCHS = 10
_RISE = 0.3  # share of a one-cycle run in which its rate rises
_RISE_FROM = 1 / 25


@dataclass(frozen=True, slots=True)
class Place:
    """How far a run is.

    Attributes:
        epochs: Share of its epochs that are done.
        steps: Share of its steps that are done.
        cycles: Cycles of a cyclical schedule in the whole run.
        drops: How often the validation score stopped rising; see ``plateau_drops``.
        final: Last learning rate over the highest.
    """

    epochs: float
    steps: float
    cycles: int
    drops: int
    final: float

    @classmethod
    def of(cls, step: int, *, steps_per_epoch: int, epochs: int, drops: int, final: float) -> Place:
        """Return where a step, counted from 0, is in a run."""
        return cls(
            step // steps_per_epoch / epochs,
            step / (steps_per_epoch * epochs),
            max(1, round(epochs / _CYCLE_EPOCHS)),
            drops,
            final,
        )


def linear(place: Place) -> float:
    """Fall along a line, once per epoch."""
    return place.final + (1 - place.final) * (1 - place.epochs)


def cosine(place: Place) -> float:
    """Fall along half a cosine, once per epoch (arXiv:1608.03983, without restarts)."""
    return place.final + (1 - place.final) * (1 + cos(pi * place.epochs)) / 2


def step(place: Place) -> float:
    """Fall twice by the same factor, after each third of the epochs."""
    return float(place.final ** (min(2, int(3 * place.epochs)) / 2))


def exponential(place: Place) -> float:
    """Fall by the same factor in each epoch."""
    return float(place.final**place.epochs)


def one_cycle(place: Place) -> float:
    """Rise from 1/25 over 30 % of the steps, then fall to the end, both along half a cosine (arXiv:1708.07120)."""
    low = _RISE_FROM if place.steps < _RISE else place.final
    return low + (1 - low) * cycle_height(place)


def cyclical(place: Place) -> float:
    """Rise and fall along lines, in equal cycles of about 10 epochs (arXiv:1506.01186)."""
    phase = place.steps * place.cycles % 1
    return place.final + (1 - place.final) * (1 - abs(2 * phase - 1))


def plateau(place: Place) -> float:
    """Fall to a tenth whenever the validation score stops rising."""
    return float(max(place.final, 0.1**place.drops))


def cycle_height(place: Place) -> float:
    """Return how high a one-cycle run is, from 0 at its ends to 1; momentum goes the other way."""
    if place.steps < _RISE:
        return (1 - cos(pi * place.steps / _RISE)) / 2
    return (1 + cos(pi * (place.steps - _RISE) / (1 - _RISE))) / 2


def plateau_drops(scores: Sequence[float], epochs: int) -> int:
    """Return how often a run stopped getting better: a tenth of its epochs, at least 2, without a better score.

    Args:
        scores: Of the epochs done, so that a resumed run counts as the whole one does.
        epochs: Epochs of the whole run.
    """
    patience = max(2, epochs // 10)
    best, waited, drops = float("-inf"), 0, 0
    for score in scores:
        waited += 1
        if score > best:
            best, waited = score, 0
        elif waited >= patience:
            drops, waited = drops + 1, 0
    return drops


SCHEDULES: dict[Schedule, Callable[[Place], float]] = {
    "linear": linear,
    "cosine": cosine,
    "step": step,
    "exponential": exponential,
    "one-cycle": one_cycle,
    "cyclical": cyclical,
    "plateau": plateau,
}
"""Learning rate over the highest, by the name of the schedule."""
