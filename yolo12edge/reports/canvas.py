"""What all plots share: canvas, colours, small elements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from ..files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "INK",
    "MUTED",
    "TRAIN",
    "VAL",
    "headline",
    "nothing",
    "percent_formatter",
    "saved_figure",
    "styled_figure",
]

INK = "#1f2933"
MUTED = "#8a94a0"
GRID = "#e4e7eb"
TRAIN = "#2f6fde"
VAL = "#e8590c"
_STYLE: Any = {  # the names of its keys are a type of matplotlib's own
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def styled_figure(*, size: tuple[float, float], dpi: int = 120) -> Iterator[Figure]:
    """Yield a figure in the common style; it keeps the style if it is also saved inside of the block."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", extra="val", purpose="to draw plots") from error
    with rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=dpi, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
        yield figure


@contextmanager
def saved_figure(out: Path, *, size: tuple[float, float], dpi: int = 120) -> Iterator[Figure]:
    """Yield a figure in the common style; write it to ``out`` in one step when the block ends well."""
    with styled_figure(size=size, dpi=dpi) as figure:
        yield figure
        with atomic_file(out) as path:
            figure.savefig(path, format="png", metadata={"Software": None})


def headline(figure: Figure, text: str) -> None:
    """Write the title of a figure of several axes."""
    figure.suptitle(text, x=0.012, ha="left", fontsize=14, fontweight="bold")


def nothing(axis: Axes, text: str) -> None:
    """Say on an empty axis why it is empty."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=MUTED)


def percent_formatter() -> Any:
    """Return a tick formatter that writes shares as per cent."""
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(xmax=1.0, decimals=0, symbol=" %")
