"""Pictures of accuracy, training and data, as PNG files.

Every function draws on its own ``Figure``; pyplot, with its current figure and its choice of a
window system, is not touched, so that a user's own plots are not disturbed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..reports.canvas import GRID, INK, MUTED, TRAIN, VAL, headline, nothing, percent_formatter, saved_figure
from .confusion import ConfusionMatrix
from .curves import DetectionCurves, mean_over_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_confidence_curves",
    "plot_confusion_matrix",
    "plot_label_statistics",
    "plot_pr_curve",
    "plot_training_curves",
]

# Okabe and Ito's colours, which stay apart for colour-blind readers
_CLASS_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7a5195", "#8c6d31", "#5c6b73")
_LOSSES = {
    "box": "Box loss (overlap)",
    "cls": "Class loss (cross entropy)",
    "dfl": "Edge distribution loss (DFL)",
    "mask": "Mask loss (cross entropy)",
    "keypoint": "Keypoint loss (similarity)",
    "visibility": "Visibility loss (cross entropy)",
}
# of ``Metrics.columns``, what a run is known by first
_ACCURACY = {
    "top1": "top-1",
    "map": "mean AP",
    "ap": "AP50-95",
    "ap50": "AP50",
    "ap75": "AP75",
    "box_ap": "box AP50-95",
    "box_ap50": "box AP50",
    "top5": "top-5",
}
_MAX_NAMED_CURVES = 9  # more cannot be told apart; then all are grey under the mean
_MAX_BARS = 30  # classes that are counted beside the other plots


def plot_training_curves(history: Path | Iterable[Mapping[str, Any]], out: Path) -> None:
    """Draw losses, accuracy and learning rate over the epochs.

    Args:
        history: A CSV file, or rows, with ``epoch`` and any of: losses as ``train/box`` and ``val/box``; accuracy as
            ``Metrics.columns`` names it, with ``val/`` before; ``lr``. Empty cells are skipped, and several rows of one
            epoch are one point.
        out: The PNG file.

    Raises:
        InputError: If the history has no row with an epoch.
    """
    series = _read_history(history)
    losses = [name.removeprefix("train/") for name in series if name.startswith("train/")]
    columns = 3 if len(losses) <= 3 else 4
    rows = -(-(len(losses) + 3) // columns)
    with saved_figure(out, size=(4.5 * columns, 3.6 * rows)) as figure:
        headline(figure, "Training")
        axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
        for axis, name in zip(axes, losses, strict=False):
            for split, colour in (("train", TRAIN), ("val", VAL)):
                _line(axis, series.get(f"{split}/{name}"), label=split, color=colour)
            axis.set(title=_LOSSES.get(name, f"{name.capitalize()} loss"), ylabel="loss")
            _fit_loss(axis)
        accuracy, rates, shares = axes[len(losses) : len(losses) + 3]
        best = _shares(accuracy, series, _ACCURACY)
        _mark_best(accuracy, best)
        accuracy.set(title="Accuracy, val")
        for number, name in enumerate(sorted(name for name in series if name == "lr" or name.startswith("lr/"))):
            colour = _CLASS_COLOURS[number % len(_CLASS_COLOURS)]
            _line(rates, series[name], label=name.removeprefix("lr/"), color=colour)
        rates.set(title="Learning rate", ylim=(0, None))
        rates.yaxis.set_major_formatter("{x:g}")
        _shares(shares, series, {"precision": "precision", "recall": "recall", "f1": "F1"})
        shares.set(title="Precision, recall and F1, val")
        for axis in axes[len(losses) + 3 :]:
            axis.set_visible(False)
        for axis in axes[: len(losses) + 3]:
            axis.set_xlabel("epoch")
            if axis.lines:
                axis.legend()
            else:
                nothing(axis, "not recorded")


def _shares(
    axis: Axes, series: Mapping[str, Mapping[float, float]], names: Mapping[str, str]
) -> Mapping[float, float] | None:
    """Draw those columns of validation that there are, in their order, as per cent; return the first."""
    known = [name for column in series if (name := column.removeprefix("val/")) != column and name in names]
    for name, colour in zip(known, _CLASS_COLOURS, strict=False):
        _line(axis, series[f"val/{name}"], label=names[name], color=colour, percent=True)
    axis.set(ylabel="%", ylim=(0, None))
    return series[f"val/{known[0]}"] if known else None


def plot_pr_curve(curves: DetectionCurves, out: Path) -> None:
    """Draw precision over recall per class and on average; the area under a curve is its AP."""
    with saved_figure(out, size=(8.4, 5.6)) as figure:
        axis = figure.subplots()
        _class_curves(
            axis,
            curves.class_names,
            curves.recall_grid,
            curves.precision_at_recall,
            lambda row: f"AP {100 * float(np.mean(row)):.1f} %",
        )
        axis.xaxis.set_major_formatter(percent_formatter())
        axis.set(title=_with("Precision and recall", curves), xlabel="recall", ylabel="precision")


def plot_confidence_curves(curves: DetectionCurves, out: Path) -> None:
    """Draw F1, precision and recall over the confidence threshold, per class and on average."""
    with saved_figure(out, size=(16.5, 5.2)) as figure:
        headline(figure, _with("Effect of the confidence threshold", curves))
        best = curves.best_index
        axes = figure.subplots(1, 3, sharey=True)
        for axis, (title, values) in zip(
            axes, (("F1", curves.f1), ("Precision", curves.precision), ("Recall", curves.recall)), strict=True
        ):
            _class_curves(axis, curves.class_names, curves.confidence, values, None, legend=axis is axes[2])
            axis.set(title=title, xlabel="confidence threshold")
            if best is None:
                continue
            at, height = curves.confidence[best], mean_over_classes(values)[best]
            axis.axvline(at, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            if np.isfinite(height):
                axis.plot([at], [height], "o", color=INK, markersize=6)
                axis.set_title(f"mean {100 * height:.1f} % at {at:.3f}", loc="right", fontsize=9, color=INK)


def _with(title: str, curves: DetectionCurves) -> str:
    return f"{title}, {curves.condition}" if curves.condition else title


def plot_confusion_matrix(matrix: ConfusionMatrix, out: Path) -> None:
    """Draw shares of each labelled class by detected class, with the counts where they fit."""
    names = [*matrix.class_names, *["background"] * matrix.background]
    size = len(names)
    side = float(np.clip(0.62 * size + 2.4, 5.2, 19.0))
    font = float(np.clip(34 * side / size, 4.5, 10.0))  # about half a cell
    with saved_figure(out, size=(side + 1.0, side), dpi=150) as figure:
        axis = figure.subplots()
        shares = matrix.normalised()
        image = axis.imshow(np.where(matrix.counts > 0, shares, np.nan), cmap="Blues", vmin=0, vmax=1)
        if size <= 25:
            for row in range(size):
                for column in range(size):
                    if count := int(matrix.counts[row, column]):
                        colour = "white" if shares[row, column] > 0.55 else INK
                        text = f"{100 * shares[row, column]:.0f} %\n{count}"
                        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=min(font, 9))
        axis.set_xticks(range(size), names, rotation=90 if size > 8 else 30, fontsize=font)
        for label in axis.get_xticklabels():
            label.set(ha="center" if size > 8 else "right", rotation_mode="default" if size > 8 else "anchor")
        axis.set_yticks(range(size), names, fontsize=font)
        axis.grid(False)
        between = np.arange(0.5, size - 1)
        for draw_lines in (axis.hlines, axis.vlines):  # minor ticks would do it too, but take seconds for 80 classes
            draw_lines(between, -0.5, size - 0.5, color=GRID, linewidth=0.6)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(True)
        for draw in (axis.axhline, axis.axvline) if matrix.background else ():
            draw(size - 1.5, color=MUTED, linewidth=1.2)
        axis.set(xlabel="detected as", ylabel="labelled as")
        headline(figure, "Confusion matrix")
        axis.set_title(
            f"{matrix.condition}; share of each row" + (", count" if size <= 25 else ""),
            fontsize=9,
            fontweight="normal",
        )
        bar = figure.colorbar(image, ax=axis, fraction=0.03, pad=0.02, shrink=0.6, aspect=28)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(percent_formatter())


def plot_label_statistics(
    boxes: npt.NDArray[np.float32] | None, class_id: npt.NDArray[np.int64], class_names: Sequence[str], out: Path
) -> None:
    """Draw how many objects each class has, where they lie and how large they are.

    Args:
        boxes: Shape (n, 4): left, top, right, bottom as fractions of the image, of all images; None where labels are
            of whole images: then only classes are counted.
        class_id: Shape (n,).
        class_names: Names by class index.
        out: The PNG file.
    """
    counts = np.bincount(class_id, minlength=len(class_names))
    many = len(class_names) > _MAX_BARS
    if boxes is None:
        size = (15.5, 4.6) if many else (7.5, 1.9 + 0.28 * len(class_names))
        with saved_figure(out, size=size) as figure:
            headline(figure, f"{len(class_id):,} labels of {len(class_names)} classes")
            _class_counts(figure.subplots(), counts, class_names, counted="labels", upright=many)
        return
    with saved_figure(out, size=(15.5, 8.6 if many else 4.9)) as figure:
        headline(figure, f"Labels: {len(boxes):,} objects of {len(class_names)} classes")
        if many:
            rows = figure.add_gridspec(2, 3, height_ratios=(1, 1.25))
            bars = figure.add_subplot(rows[0, :])
            others = [figure.add_subplot(rows[1, column]) for column in range(3)]
        else:
            bars, *others = figure.subplots(1, 4)
        _class_counts(bars, counts, class_names, counted="objects", upright=many)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        extent = boxes[:, 2:] - boxes[:, :2]
        _density(others[0], centre, title="Box centres", xlabel="x / image width", ylabel="y / image height")
        others[0].invert_yaxis()
        _density(others[1], extent, title="Box sizes", xlabel="width / image width", ylabel="height / image height")
        side = 100 * np.sqrt(np.clip(extent[:, 0] * extent[:, 1], 0, 1))
        others[2].hist(side, bins=np.linspace(0, 100, 41).tolist(), color=TRAIN)
        others[2].set(title="Side of a box", xlabel="√(area / image area), %", ylabel="objects", xlim=(0, 100))
        for axis in others if many else (bars, *others):
            axis.set_box_aspect(1)


def _class_curves(
    axis: Axes,
    names: Sequence[str],
    x: npt.NDArray[np.float64],
    curves: npt.NDArray[np.float64],
    note: Callable[[npt.NDArray[np.float64]], str] | None,
    *,
    legend: bool = True,
) -> None:
    """Draw one line per class with labelled objects, and their mean on top."""
    shown = [index for index in range(len(names)) if not np.isnan(curves[index]).all()]
    named = len(shown) <= _MAX_NAMED_CURVES

    def label(name: str, row: npt.NDArray[np.float64]) -> str:
        short = name if len(name) <= 24 else name[:23] + "…"
        return f"{short}  {note(row)}" if note else short

    for position, index in enumerate(shown):
        if named:
            colour = _CLASS_COLOURS[position]
            axis.plot(x, curves[index], color=colour, linewidth=1.4, label=label(names[index], curves[index]))
        else:
            axis.plot(x, curves[index], color=MUTED, linewidth=0.7, alpha=0.55)
    mean = mean_over_classes(curves)
    if shown:
        what = "mean" if named else f"mean of {len(shown)} classes"
        axis.plot(x, mean, color=INK, linewidth=2.6, label=label(what, mean))
    else:
        nothing(axis, "no labelled objects")
    axis.set(xlim=(0, 1), ylim=(0, 1.01))
    axis.yaxis.set_major_formatter(percent_formatter())
    if legend and shown:
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def _class_counts(
    axis: Axes, counts: npt.NDArray[np.int64], names: Sequence[str], *, counted: str, upright: bool
) -> None:
    place, title = np.arange(len(names)), f"{counted.capitalize()} per class"
    if upright:
        axis.bar(place, counts, color=TRAIN, width=0.8)
        axis.set_xticks(place, names, rotation=90, fontsize=float(np.clip(640 / len(names), 4, 9)))
        axis.set(xlim=(-0.7, len(names) - 0.3), ylabel=counted, title=title)
        axis.grid(False, axis="x")
        return
    axis.barh(place, counts, color=TRAIN, height=0.7)
    axis.set_yticks(place, names, fontsize=float(np.clip(220 / max(len(names), 1), 6, 10)))
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set(xlabel=counted, title=title)
    axis.margins(x=0.22)
    for at, count in zip(place, counts, strict=True):
        axis.annotate(f"{count:,}", (count, at), (4, 0), textcoords="offset points", va="center", fontsize=8)


def _density(axis: Axes, points: npt.NDArray[Any], *, title: str, xlabel: str, ylabel: str) -> None:
    grid = np.linspace(0, 1, 51)
    table, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=(grid, grid))
    axis.pcolormesh(grid, grid, np.where(table > 0, np.sqrt(table), np.nan).T, cmap="viridis_r", vmin=0)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1))


def _line(axis: Axes, points: Mapping[float, float] | None, *, label: str, color: str, percent: bool = False) -> None:
    if points:
        x = sorted(points)
        values = [(100 if percent else 1) * points[epoch] for epoch in x]
        axis.plot(x, values, label=label, color=color, marker="o" if len(x) <= 30 else None, markersize=3)


def _fit_loss(axis: Axes) -> None:
    """Keep a wild first epoch from flattening the rest."""
    values = np.concatenate([np.zeros(0), *(np.asarray(line.get_ydata(), float) for line in axis.lines)])
    values = values[np.isfinite(values)]
    if values.size:
        low, high = float(values.min()), float(np.percentile(values, 98 if values.size > 20 else 100))
        margin = 0.06 * (high - low) or 0.1
        axis.set_ylim(max(0.0, low - margin), high + margin)


def _mark_best(axis: Axes, points: Mapping[float, float] | None) -> None:
    if points:
        epoch = max(points, key=lambda at: (points[at], -at))
        best = 100 * points[epoch]
        axis.plot([epoch], [best], "o", color=INK, markersize=6, label=f"best: {best:.1f} at epoch {epoch:g}")


def _read_history(history: Path | Iterable[Mapping[str, Any]]) -> dict[str, dict[float, float]]:
    """Return value by epoch by column; the last row of an epoch wins."""
    if isinstance(history, Path):
        with history.open(newline="", encoding="utf-8") as file:
            rows: list[Mapping[str, Any]] = list(csv.DictReader(file))
    else:
        rows = list(history)
    series: dict[str, dict[float, float]] = {}
    for row in rows:
        epoch = _number(row.get("epoch"))
        if epoch is None:
            continue
        for name, cell in row.items():
            value = _number(cell)
            if value is not None and name is not None and name != "epoch":
                series.setdefault(name.strip(), {})[epoch] = value
    if not series:
        raise InputError(
            "the training history has no row with an epoch and a value",
            expected="columns such as epoch, train/box, val/ap",
        )
    return series


def _number(cell: object) -> float | None:
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
