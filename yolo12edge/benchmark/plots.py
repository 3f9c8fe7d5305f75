"""Pictures of a run: how the times are distributed, their percentiles, and how they go over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..reports.canvas import TRAIN, VAL, saved_figure
from ..reports.markup import Markup
from ..reports.svg import inline_svg
from .percentiles import PERCENTS, percentiles_of
from .record import BenchmarkRecord, MeasuredCase
from .verdict import case_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_CASES", "RunPlots", "inline_plots", "save_plots"]

MAX_CASES = 8
"""More cannot be told apart; the first are drawn."""

_SIZE = (8.0, 4.2)  # inches
_COLOURS = (TRAIN, VAL, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#5c6b73")
_VARIABLES = {TRAIN: "float", VAL: "int8"}  # of the style sheet: they follow a dark page
_BINS = 60
_POINTS = 120  # over time

Draw = Callable[[BenchmarkRecord, "Axes"], None]


@dataclass(frozen=True, slots=True)
class RunPlots:
    """Inline SVG."""

    histogram: Markup
    percentiles: Markup
    over_time: Markup | None


def save_plots(record: BenchmarkRecord, folder: Path) -> list[str]:
    """Write ``histogram.png``, ``percentiles.png`` and, of a sustained run, ``over-time.png``; return their names.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    names = []
    for name, title, draw in _plots(record):
        with saved_figure(folder / f"{name}.png", size=_SIZE) as figure:
            axis = figure.subplots()
            draw(record, axis)
            axis.set_title(title)
            axis.tick_params(length=0, pad=5)
        names.append(f"{name}.png")
    return names


def inline_plots(record: BenchmarkRecord) -> RunPlots:
    """Draw the same for a page.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    drawn = {
        name: inline_svg(name, _SIZE, partial(draw, record), variables=_VARIABLES) for name, _, draw in _plots(record)
    }
    return RunPlots(drawn["histogram"], drawn["percentiles"], drawn.get("over-time"))


def _plots(record: BenchmarkRecord) -> list[tuple[str, str, Draw]]:
    plots: list[tuple[str, str, Draw]] = [
        ("histogram", "Latency, from frame to detections", _histogram),
        ("percentiles", "Latency that this share of the calls did not exceed", _percentiles),
    ]
    if record.sustained_s is not None:
        plots.append(("over-time", "Latency over time", _over_time))
    return plots


def _drawn(record: BenchmarkRecord) -> list[tuple[str, MeasuredCase, str]]:
    cases = record.cases[:MAX_CASES]
    return [(case_name(case, record.cases), case, colour) for case, colour in zip(cases, _COLOURS, strict=False)]


def _histogram(record: BenchmarkRecord, axis: Axes) -> None:
    """Draw a line for each case; the few slowest calls are left out, or they would press all others together."""
    totals = [np.asarray(case.samples.total_ms) for _, case, _ in _drawn(record)]
    low = min(float(values.min()) for values in totals)
    high = max(float(min(np.quantile(values, 0.99), 3 * np.median(values))) for values in totals)
    margin = max(0.02 * (high - low), 0.005 * high, 1e-4)
    edges = np.linspace(max(0.0, low - margin), high + margin, _BINS + 1)
    beyond = 0
    for (name, _, colour), values in zip(_drawn(record), totals, strict=True):
        heights = np.histogram(values, bins=edges)[0] / len(values)
        beyond += int(np.count_nonzero(values > edges[-1]))
        axis.stairs(heights, edges, color=colour, label=name, linewidth=1.8)
        axis.stairs(heights, edges, color=colour, fill=True, alpha=0.15)
    more = f"; {beyond:,} slower calls are to the right of this" if beyond else ""
    axis.set(xlabel=f"ms of a call{more}", ylabel="share of the calls", xlim=(edges[0], edges[-1]), ylim=(0, None))
    _legend(axis)


def _percentiles(record: BenchmarkRecord, axis: Axes) -> None:
    """Draw each case as far as its samples support percentiles, on an axis on which each further nine is as long."""
    furthest = 50.0
    slowest, fastest = 0.0, np.inf
    for name, case, colour in _drawn(record):
        total = np.sort(np.asarray(case.samples.total_ms))
        supported = percentiles_of(total)
        if not supported:
            continue
        last = supported[-1].percent
        furthest = max(furthest, last)
        slowest, fastest = max(slowest, supported[-1].high_ms), min(fastest, float(total[0]))
        shares = 1 - np.geomspace(0.9, 1 - last / 100, 200)
        values = np.quantile(total, shares, method="inverted_cdf")
        axis.plot(1 / (1 - shares), values, color=colour, label=name)
        points = [item for item in supported if item.percent in PERCENTS]
        ends = np.array([[item.ms - item.low_ms for item in points], [item.high_ms - item.ms for item in points]])
        axis.errorbar(
            [_nines(item.percent) for item in points],
            [item.ms for item in points],
            yerr=ends,
            color=colour,
            fmt="o",
            markersize=4,
            capsize=3,
            linewidth=1.2,
        )
    ticks = [percent for percent in (10.0, *PERCENTS) if percent <= furthest]
    axis.set_xscale("log")
    if slowest > 10 * fastest:
        from matplotlib.ticker import LogLocator

        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.minorticks_off()  # they would be labelled with powers of ten
    axis.set_xticks([_nines(percent) for percent in ticks], [f"{percent:g} %" for percent in ticks])
    axis.xaxis.minorticks_off()
    axis.set(xlabel="share of the calls; bars are 95 % confidence intervals", ylabel="ms")
    _legend(axis)


def _nines(percent: float) -> float:
    return 1 / (1 - percent / 100)


def _over_time(record: BenchmarkRecord, axis: Axes) -> None:
    """Draw median and the range from the 10th to the 90th percentile of pieces of the run."""
    for name, case, colour in _drawn(record):
        total, start = np.asarray(case.samples.total_ms), np.asarray(case.samples.start_s)
        pieces = np.array_split(np.arange(len(total)), min(_POINTS, max(1, len(total) // 5)))
        minutes = [float(start[piece].mean()) / 60 for piece in pieces]
        low, middle, high = (_of_pieces(total, pieces, share) for share in (0.1, 0.5, 0.9))
        axis.fill_between(minutes, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.plot(minutes, middle, color=colour, label=name)
    axis.set(xlabel="minutes; bands hold the middle 80 % of the calls", ylabel="ms", ylim=(0, None))
    _legend(axis)


def _of_pieces(total: npt.NDArray[np.float64], pieces: list[npt.NDArray[np.int64]], share: float) -> list[float]:
    return [float(np.quantile(total[piece], share)) for piece in pieces]


def _legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="best")
