"""Statistics of a dataset as one HTML page that needs nothing else: tables, plots and pictures with their labels."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import MissingDependencyError
from ...reports.canvas import TRAIN
from ...reports.formats import plural
from ...reports.markup import Markup, Node, data_table, document, fact_list, section, tag
from ...reports.svg import inline_svg
from .counting import DatasetStatistics, SplitFacts
from .statistics_text import copies_line, facts_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["statistics_page"]

_QUALITY = 85  # of the JPEG with the samples
_CLASSES = 40  # that are drawn
_COPIES = 50  # groups that are listed


def statistics_page(statistics: DatasetStatistics, samples: Mapping[str, npt.NDArray[np.uint8]]) -> str:
    """Return the page.

    Args:
        statistics: What is shown.
        samples: Of each split a picture of some of its pictures, BGR.
    """
    marks = []
    if statistics.leaks:
        marks.append(tag("li", f"{plural(len(statistics.leaks), 'group')} of copies in several splits", class_="bad"))
    if unreadable := sum(facts.unreadable for facts in statistics.splits.values()):
        marks.append(tag("li", f"{plural(unreadable, 'picture')} cannot be read", class_="bad"))
    tiles = [
        tag("li", tag("strong", f"{facts.images:,}"), tag("span", f"images in {split}"))
        for split, facts in statistics.splits.items()
    ]
    return document(
        f"Dataset: {statistics.dataset}",
        tag(
            "header",
            tag("p", "Dataset", class_="kind"),
            tag("h1", statistics.dataset),
            tag("p", f"Task: {statistics.task}", class_="what"),
            tag("ul", *marks, class_="marks") if marks else None,
            tag("p", copies_line(statistics), class_="verdict"),
            tag("ul", *tiles, class_="tiles"),
        ),
        *(_split(split, facts, samples.get(split), statistics) for split, facts in statistics.splits.items()),
        _copies(statistics),
    )


def _split(
    split: str, facts: SplitFacts, sample: npt.NDArray[np.uint8] | None, statistics: DatasetStatistics
) -> Markup:
    counts = [[one.name, f"{one.objects:,}", f"{one.images:,}"] for one in facts.classes]
    about: list[tuple[str, Node]] = [*facts_of(facts, whole=statistics.whole)]
    return section(
        split,
        fact_list(about),
        data_table(["class", "objects", "images"], counts, caption="How often each class occurs"),
        *_plots(split, facts, whole=statistics.whole),
        None if sample is None else _picture(sample, f"Pictures of {split} with their labels"),
    )


def _plots(split: str, facts: SplitFacts, *, whole: bool) -> list[Markup]:
    try:
        classes = inline_svg(f"{split}-classes", (8, min(8.0, 1 + 0.3 * len(facts.classes))), lambda a: _bars(a, facts))
        drawn = [_figure(classes, "Objects of each class")]
        if not whole:
            sides = inline_svg(f"{split}-sides", (4.6, 3.4), lambda axis: _sides(axis, facts))
            places = inline_svg(f"{split}-places", (4.0, 3.4), lambda axis: _places(axis, facts))
            pair = (_figure(sides, "Objects by size"), _figure(places, "Where the centres of objects are"))
            drawn.append(tag("div", *pair, class_="pair"))
        return drawn
    except MissingDependencyError:
        return [tag("p", "Plots are left out: matplotlib is not installed (pip install 'yolo12edge[val]').")]


def _bars(axis: Axes, facts: SplitFacts) -> None:
    shown = sorted(facts.classes, key=lambda one: -one.objects)[:_CLASSES][::-1]
    axis.barh([one.name[:40].replace("$", r"\$") for one in shown], [one.objects for one in shown], color=TRAIN)
    axis.set_xlabel("objects")
    axis.grid(visible=False, axis="y")


def _sides(axis: Axes, facts: SplitFacts) -> None:
    edges = facts.side_edges
    names = [f"< {edges[0]}", *(f"{edge}" for edge in edges)]
    axis.bar(names, facts.side_counts, color=TRAIN, width=0.9)
    axis.set_xlabel("root of the area, pixels, from")
    axis.set_ylabel("objects")
    axis.grid(visible=False, axis="x")
    axis.tick_params(axis="x", labelsize=7)


def _places(axis: Axes, facts: SplitFacts) -> None:
    counts = np.array(facts.places, float)
    shares = counts / max(counts.max(), 1)
    side = len(shares)
    for row, column in np.ndindex(side, side):  # cells, not an image: a picture in SVG would be a file in a file
        alpha = float(shares[row, column])
        axis.fill_between([column, column + 1], row, row + 1, color=TRAIN, alpha=alpha, linewidth=0)
    axis.set_xlim(0, side)
    axis.set_ylim(side, 0)
    axis.set_aspect("equal")
    axis.set_xticks([0, side], ["left", "right"])
    axis.set_yticks([0, side], ["top", "bottom"])
    axis.grid(visible=False)


def _figure(svg: Markup, caption: str) -> Markup:
    drawn = Markup(svg.replace("<svg", f'<svg role="img" aria-label="{caption}"', 1))
    return tag("figure", drawn, tag("figcaption", caption))


def _picture(image: npt.NDArray[np.uint8], caption: str) -> Markup:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    return tag("figure", tag("img", src=source, alt=caption, style="width: 100%"), tag("figcaption", caption))


def _copies(statistics: DatasetStatistics) -> Markup | None:
    if not statistics.copies:
        return None
    rows: list[list[Node]] = [
        [
            number,
            "the same file" if group.exact else "nearly the same",
            "differ" if group.labels_differ else "agree",
            "; ".join(f"{split}: {', '.join(images)}" for split, images in group.images.items()),
        ]
        for number, group in enumerate(statistics.copies[:_COPIES], start=1)
    ]
    more = len(statistics.copies) - _COPIES
    return section(
        "Copies",
        data_table(["", "", "labels", "pictures"], rows, caption="Pictures that show the same", words=(1, 2, 3)),
        tag("p", f"… and {more} more groups", class_="caption") if more > 0 else None,
    )
