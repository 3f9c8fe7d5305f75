"""The plots of the report card, as SVG that becomes part of the page and takes its colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...benchmark.latency import LatencySummary
from ...metrics.curves import DetectionCurves, mean_over_classes
from ...reports.canvas import INK, MUTED, TRAIN, VAL, nothing, percent_formatter
from ...reports.markup import Markup
from ...reports.svg import inline_svg
from ..results import Agreement, GuardResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_CLASS_PLOTS", "CardPlots", "card_plots"]

Floats = npt.NDArray[np.float64]

MAX_CLASS_PLOTS = 10
"""With more classes only their mean is drawn."""

_WIDE, _SMALL = (5.0, 3.3), (3.0, 2.5)  # inches; text of 10 points stays readable at the width of a phone
_FLOAT, _INT8 = TRAIN, VAL
_VARIABLES = {_FLOAT: "float", _INT8: "int8"}  # of the style sheet


@dataclass(frozen=True, slots=True)
class CardPlots:
    """Inline SVG.

    Attributes:
        precision_recall: Mean over the classes; None without labels.
        classes: Index of a class → its curves; empty with one class or with many.
        score_shifts: Histogram.
        latency: Distribution of both; None where it was not measured.
    """

    precision_recall: Markup | None
    classes: dict[int, Markup]
    score_shifts: Markup
    latency: Markup | None


def card_plots(result: GuardResult) -> CardPlots:
    """Draw what the result has.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    mean: Markup | None = None
    classes: dict[int, Markup] = {}
    if result.own is not None and result.twin is not None:
        mean, classes = _precision_recall(result.own.metrics.curves, result.twin.metrics.curves)
    latency = None
    if result.own_latency is not None and result.twin_latency is not None:
        latency = _latency(result.own_latency, result.twin_latency)
    return CardPlots(mean, classes, _score_shifts(result.agreement), latency)


def _precision_recall(own: DetectionCurves, twin: DetectionCurves) -> tuple[Markup, dict[int, Markup]]:
    def draw(name: str, size: tuple[float, float], float_line: Floats, int8_line: Floats) -> Markup:
        def lines(axis: Axes) -> None:
            if np.isnan(float_line).all():
                nothing(axis, "no labelled objects")
            axis.plot(twin.recall_grid, float_line, color=_FLOAT, label="float", linewidth=2.4)
            axis.plot(own.recall_grid, int8_line, color=_INT8, label="INT8", linewidth=1.5)
            ticks = np.linspace(0, 1, 6 if size is _WIDE else 3)
            axis.set(xlim=(0, 1), ylim=(0, 1.02), xticks=ticks, yticks=ticks, xlabel="recall", ylabel="precision")
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_formatter(percent_formatter())
            if size is _WIDE:
                axis.legend(loc="lower left")

        return inline_svg(name, size, lines, variables=_VARIABLES)

    labelled = [index for index, row in enumerate(twin.precision_at_recall) if not np.isnan(row).all()]
    shown = labelled if 1 < len(labelled) <= MAX_CLASS_PLOTS else []
    tables = (twin.precision_at_recall, own.precision_at_recall)
    return (
        draw("pr", _WIDE, *(mean_over_classes(table) for table in tables)),
        {index: draw(f"pr{index}", _SMALL, *(table[index] for table in tables)) for index in shown},
    )


def _score_shifts(agreement: Agreement) -> Markup:
    def bars(axis: Axes) -> None:
        shifts = agreement.score_shifts
        if not shifts.size:
            nothing(axis, "no object that both found")
            return
        # In steps that let a shift of 0 lie in the middle of a bar; a few far ones would hide what the others do.
        reach = max(0.02, float(np.percentile(np.abs(shifts), 99)))
        edges = reach * np.arange(-20.5, 21.0) / 20
        axis.hist(np.clip(shifts, -reach, reach), bins=edges.tolist(), color=_INT8)
        axis.axvline(0, color=MUTED, linewidth=1)
        axis.axvline(agreement.score_shift, color=INK, linewidth=1.6, linestyle=(0, (4, 2)), label="mean")
        axis.set(xlabel="confidence of INT8 minus that of float", ylabel="objects")
        axis.legend(loc="upper left")

    return inline_svg("shift", _WIDE, bars, variables=_VARIABLES)


def _latency(own: LatencySummary, twin: LatencySummary) -> Markup:
    """Draw empirical distribution functions: they need no choice of bins, and show tails."""

    def steps(axis: Axes) -> None:
        sides = (("float", twin, _FLOAT), ("INT8", own, _INT8))
        for label, latency, colour in sides:
            ordered = np.sort(latency.samples_ms)
            shares = np.arange(len(ordered) + 1) / len(ordered)
            axis.step(np.append(ordered[0], ordered), shares, where="post", color=colour, label=label)
            axis.plot([latency.median_ms], [0.5], "o", color=colour, markersize=6)
        # One call that the machine was busy for would squeeze all others together.
        limits = [(latency.min_ms, latency.percentile_ms(97)) for _, latency, _ in sides]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        margin = 0.06 * (high - low) or 0.1 * high
        axis.set(xlim=(max(0.0, low - margin), high + margin), ylim=(0, 1.02), xlabel="ms", ylabel="share of calls")
        axis.yaxis.set_major_formatter(percent_formatter())
        axis.legend(loc="lower right")

    return inline_svg("latency", _WIDE, steps, variables=_VARIABLES)
