"""Plots of a study: how it went, which settings matter, and which values went together with which scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import MissingDependencyError
from ...files import atomic_file
from .records import Trial
from .space import Range, Space, Value

__all__ = ["importance_of", "plot_study"]

_BINS = 4  # parts that a range is cut into to see what it does to the score
_FEWEST = 6  # trials below which nothing is said of importance
_COLOURS = {"done": "#1f6f8b", "pruned": "#c9a227", "failed": "#b23a48"}


def importance_of(trials: Sequence[Trial], space: Space) -> dict[str, float]:
    """Return the share of the variance of scores that each setting alone explains, the largest first.

    It is epsilon squared (Kelley 1935, doi:10.1073/pnas.21.9.554) over the choices, or the quarters of a range's
    trials: around 0 for what has no influence, also with few trials, 1 for what decides alone. Settings that matter
    only together are not seen. Empty below six trials that were scored.
    """
    scored = [trial for trial in trials if trial.state in ("done", "pruned") and trial.score is not None]
    if len(scored) < _FEWEST:
        return {}
    scores = np.array([trial.score for trial in scored], np.float64)
    found = {
        path: _explained(scores, _parts([trial.values[path] for trial in scored], entry))
        for path, entry in space.ranges.items()
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _parts(values: Sequence[Value], entry: Range) -> npt.NDArray[np.int64]:
    if entry.choices:
        return np.array([entry.choices.index(value) for value in values])
    numbers = np.array(values, np.float64)
    edges = np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, numbers, side="right"), np.int64)


def _explained(scores: npt.NDArray[np.float64], parts: npt.NDArray[np.int64]) -> float:
    total = float(((scores - scores.mean()) ** 2).sum())
    groups = [scores[parts == part] for part in np.unique(parts)]
    free = len(scores) - len(groups)
    if total <= 0 or free <= 0 or len(groups) < 2:
        return 0.0
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return max(0.0, 1.0 - within / total * (len(scores) - 1) / free)


def plot_study(out: Path, trials: Sequence[Trial], space: Space) -> list[Path]:
    """Draw ``history.png``, ``importance.png`` and ``parallel.png``; return those that there was something to draw for.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", extra="train", purpose="to draw plots") from error

    written: list[Path] = []

    def save(figure: Any, name: str) -> None:
        figure.tight_layout()
        with atomic_file(out / name) as temporary:
            figure.savefig(temporary, dpi=120)
        written.append(out / name)

    scored = [trial for trial in trials if trial.state in _COLOURS and trial.score is not None]
    if not scored:
        return written
    figure = Figure(figsize=(7, 4))
    _history(figure.subplots(), scored)
    save(figure, "history.png")
    importance = importance_of(trials, space)
    if importance:
        figure = Figure(figsize=(7, 1.2 + 0.4 * len(importance)))
        _importance(figure.subplots(), importance)
        save(figure, "importance.png")
    if len(scored) > 1:
        figure = Figure(figsize=(max(6.0, 2 + 1.6 * len(space.ranges)), 5))
        _parallel(figure.subplots(), scored, space.ranges)
        save(figure, "parallel.png")
    return written


def _history(axes: Any, scored: Sequence[Trial]) -> None:
    for state, colour in _COLOURS.items():
        some = [trial for trial in scored if trial.state == state]
        if some:
            axes.scatter([t.number for t in some], [t.score for t in some], s=22, color=colour, label=state, zorder=3)
    done = [trial for trial in scored if trial.state == "done"]
    if done:
        best = np.maximum.accumulate([trial.score or 0.0 for trial in done])
        axes.step([trial.number for trial in done], best, where="post", color=_COLOURS["done"], label="best so far")
    axes.set(xlabel="trial", ylabel="validation score", title="Score of each trial")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()


def _importance(axes: Any, importance: Mapping[str, float]) -> None:
    names = list(importance)[::-1]
    bars = axes.barh(names, [importance[name] for name in names], color=_COLOURS["done"])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlim=(0, 1.1), xlabel="share of the variance of scores", title="What each setting explains by itself")


def _parallel(axes: Any, scored: Sequence[Trial], ranges: Mapping[str, Range]) -> None:
    """Draw a line a trial through its values and its score, the better the darker."""
    from matplotlib import colormaps

    scores = np.array([trial.score for trial in scored], np.float64)
    low, high = float(scores.min()), float(scores.max())
    heights = [_heights([trial.values[path] for trial in scored], entry) for path, entry in ranges.items()]
    level = (scores - low) / (high - low or 1.0)
    colours = colormaps["viridis_r"](level)
    for index in np.argsort(scores):
        line = [*(height[index] for height in heights), level[index]]
        axes.plot(range(len(line)), line, color=colours[index], alpha=0.8, linewidth=1.5)
    for place, entry in enumerate(ranges.values()):
        marks = _marks(entry)
        axes.axvline(place, color="black", linewidth=0.8)
        for text, height in marks:
            axes.annotate(text, (place, height), (3, 0), textcoords="offset points", fontsize=8, va="center")
    axes.axvline(len(ranges), color="black", linewidth=0.8)
    for text, height in ((f"{low:.3f}", 0.0), (f"{high:.3f}", 1.0)):
        axes.annotate(text, (len(ranges), height), (3, 0), textcoords="offset points", fontsize=8, va="center")
    axes.set_xticks(range(len(ranges) + 1), [*ranges, "score"], rotation=20, ha="right")
    axes.set(yticks=[], xlim=(-0.1, len(ranges) + 0.35), title="Settings and score of each trial")
    for side in axes.spines.values():
        side.set_visible(False)


def _heights(values: Sequence[Value], entry: Range) -> npt.NDArray[np.float64]:
    """Return where on its axis each value lies, from 0 to 1."""
    if entry.choices:
        return np.array([entry.choices.index(value) for value in values]) / max(1, len(entry.choices) - 1)
    numbers, low, high = np.array(values, np.float64), entry.low, entry.high
    if entry.log:
        numbers, low, high = np.log(numbers), float(np.log(low)), float(np.log(high))
    return np.asarray((numbers - low) / (high - low), np.float64)


def _marks(entry: Range) -> list[tuple[str, float]]:
    if entry.choices:
        return list(zip(map(str, entry.choices), _heights(entry.choices, entry).tolist(), strict=True))
    return [(f"{entry.low:g}", 0.0), (f"{entry.high:g}", 1.0)]
