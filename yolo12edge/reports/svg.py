"""Plots as SVG that becomes part of a page and takes its colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .canvas import GRID, INK, MUTED, styled_figure
from .markup import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["inline_svg"]

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid"}


def inline_svg(
    name: str, size: tuple[float, float], draw: Callable[[Axes], None], *, variables: Mapping[str, str] | None = None
) -> Markup:
    """Draw on one axis and return SVG that follows the colours of the page.

    Args:
        name: Of the plot; clip paths and markers of one page need different ids.
        size: Inches.
        draw: Draws.
        variables: Further colours that are drawn with → variable of the style sheet that takes their place.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    with styled_figure(size=size) as figure:
        from matplotlib import rc_context

        with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            axis = figure.subplots()
            draw(axis)
            axis.tick_params(length=0, pad=5)
            buffer = io.StringIO()
            metadata: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return Markup(_inline(buffer.getvalue(), {**_VARIABLES, **(variables or {})}))


def _inline(svg: str, variables: Mapping[str, str]) -> str:
    """Turn an SVG file into a part of a page: without addresses and fixed colours.

    Its style sheet would hold for all of the page.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[\d.]+pt"| version="1.1"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in each plot, and used by nothing
    svg = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1", svg)  # the page has its own font
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    svg = re.sub(r"<[^<>]+>", lambda element: _shortened(element[0]), svg)  # coordinates, not the text of labels
    for colour, variable in variables.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", " ", svg)


def _shortened(element: str) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", element)
