"""The sections of the report card that show what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...metrics.tasks import FOUND
from ...reports.formats import NONE, decimal, difference, digits_for, megabytes, percent, plural, significant, times
from ...reports.markup import Markup, Node, data_table, fact_list, join, section, tag
from .examples import Example
from .plots import CardPlots

__all__ = [
    "agreement",
    "classes",
    "figures",
    "latency",
    "pictures",
    "precision_recall",
    "sensitivity",
    "tournament",
    "training",
]

Facts = dict[str, Any]
Row = list[Node]

_TOP_GROUPS = 25
_SIDES = ("float", "INT8", "difference")


def figures(facts: Facts) -> Markup:
    """Return the table of the most important numbers."""
    accuracy, sizes, outcome = facts["accuracy"], facts["bytes"], facts["outcome"]
    rows: list[Row] = []
    caption, note = "Float and INT8", None
    if accuracy:
        where = " ".join(part for part in (accuracy["dataset"], accuracy["split"]) if part)
        caption += (
            f": accuracy on {plural(accuracy['images'], 'labelled image')} with "
            f"{plural(accuracy['instances'], accuracy['counted'].removesuffix('s'))}{_bracketed(where)}, in per cent"
        )
        at, own = accuracy["at_confidence_of_float"], accuracy["int8"]
        confidence = at["confidence"] and decimal(at["confidence"], 3)
        where = f"at confidence {confidence}" if confidence else "of the most probable class"
        rows += [_shares(name, both["float"], both["int8"]) for name, both in accuracy["figures"].items()]
        rows += [
            _shares(f"{name} {where}", at["float"][key], at["int8"][key])
            for name, key in (("Precision", "precision"), ("Recall", "recall"), ("F1", "f1"))
        ]
        if confidence:
            note = tag(
                "p",
                f"At confidence {confidence} float has its best F1{_bracketed(accuracy['condition'])}. "
                f"INT8 has its own best F1, {percent(own['f1'])} %, at {decimal(own['confidence'], 3)}.",
                class_="caption",
            )
    if (pair := _timed(facts)) is not None:
        rows += [
            [f"Latency, {name}, ms", *(decimal(side[key]) for side in pair), change]
            for name, key, change in (
                ("median", "median_ms", f"{times(outcome['speedup'])} as fast"),
                ("90th percentile", "p90_ms", difference(pair[0]["p90_ms"], pair[1]["p90_ms"])),
            )
        ]
    size = f"{times(outcome['size_ratio'])} the size"
    rows.append(["Size, MB", megabytes(sizes["float"]), megabytes(sizes["int8"]), size])
    return section("Figures", data_table(("", *_SIDES), rows, caption=caption), note)


def classes(facts: Facts) -> Markup | None:
    """Return average precision by class; None without labels."""
    accuracy = facts["accuracy"]
    if not accuracy:
        return None
    entries = list(zip(accuracy["float"]["per_class"], accuracy["class_figures"], strict=True))
    names = [name for name in accuracy["class_figures"][0] if name in accuracy["figures"]]

    def change(entry: tuple[dict[str, Any], dict[str, Any]]) -> float:
        before, after = (entry[1][names[0]][side] for side in ("float", "int8"))
        return 1.0 if before is None or after is None else float(after - before)

    rows: list[Row] = [
        [
            about["name"],
            f"{about['instances']:,}",
            *(cell for name in names for cell in _shares("", both[name]["float"], both[name]["int8"])[1:]),
        ]
        for about, both in sorted(entries, key=change)
    ]
    head = ["class", accuracy["counted"], *(join(name, tag("br"), side) for name in names for side in _SIDES)]
    caption = "Accuracy of each class in per cent, the largest loss first"
    return section("Classes", data_table(head, rows, caption=caption))


def training(facts: Facts) -> Markup | None:
    """Return what quantization-aware training brought; None without it, or without labels."""
    accuracy, before = facts["accuracy"], (facts["calibration"] or {}).get("before")
    if not accuracy or not before or before["metric"] not in accuracy["figures"]:
        return None
    after = accuracy["figures"][before["metric"]]
    where = " ".join(part for part in (before["dataset"], before["split"]) if part)
    rows = [
        _shares(f"Before: {before['artifact']}, ranges from statistics", before["float32"], before["int8"]),
        _shares(f"After: {facts['name']}, ranges learned", after["float"], after["int8"]),
    ]
    caption = f"{before['metric']} before and after quantization-aware training, in per cent{_bracketed(where)}"
    return section("Training", data_table(("", *_SIDES), rows, caption=caption))


def precision_recall(facts: Facts, plots: CardPlots) -> Markup | None:
    """Return the curves; None without labels."""
    accuracy = facts["accuracy"]
    if not accuracy or plots.precision_recall is None:
        return None
    areas = {side: _areas(accuracy["precision_at_recall"][side]) for side in ("float", "int8")}
    where = f" at {accuracy['condition']}" if accuracy["condition"] else ""
    mean = _plot(
        plots.precision_recall,
        "Precision over recall of float and INT8, mean of the classes",
        f"Precision over recall{where}, mean of the classes. The area under a curve is its average precision: "
        f"float {percent(areas['float'][-1])} %, INT8 {percent(areas['int8'][-1])} %.",
    )
    small = []
    for index, plot in plots.classes.items():
        name = accuracy["float"]["per_class"][index]["name"]
        before, after = (percent(areas[side][index], 1) for side in ("float", "int8"))
        caption = f"{name}: {before} → {after} %"
        small.append(_plot(plot, f"Precision over recall of the class {name}", caption))
    grid = tag("div", *small, class_="small") if small else None
    beside, below = (grid, None) if len(small) <= 4 else (None, grid)
    return section("Precision and recall", tag("div", mean, beside, class_="pair"), below)


def agreement(facts: Facts, plots: CardPlots) -> Markup:
    """Return how far both find the same."""
    found = facts["agreement"]
    measure = found["measure"]
    sure = f", confidence ≥ {FOUND}" if measure else ""
    shift = difference(0.0, found["mean_score_shift"], digits=4)
    plot = _plot(
        plots.score_shifts,
        "Histogram of the differences in confidence between INT8 and float",
        f"How far INT8 moves the confidence of the {plural(found['matched'], 'object')} that both find: {shift} on "
        "average (dashed). If the mean is not near 0, use another confidence threshold with INT8. The outermost bars "
        "hold all that is further out.",
    )
    numbers = fact_list(
        (
            ("Images", f"{found['images']:,}"),
            (f"Found by float{sure}", f"{found['float_objects']:,}"),
            ("Found by INT8", f"{found['int8_objects']:,}"),
            (f"The same: class{f', {measure} ≥ 0.5' if measure else ''}", f"{found['matched']:,}"),
            ("F1 of the agreement", f"{percent(found['f1'])} %"),
            *([(f"Mean {measure} of what is the same", decimal(found["mean_iou"], 4))] if measure else []),
            ("Mean shift of the confidence", shift),
        )
    )
    return section("Agreement with float", tag("div", plot, numbers, class_="pair"))


def sensitivity(facts: Facts) -> Markup:
    """Return what each group of layers costs, as bars, and which went back to float."""
    groups = facts["sensitivity"]
    if not groups:
        return section("Sensitivity", tag("p", "Not measured.", class_="caption"))
    shown = groups[:_TOP_GROUPS]
    gains = [group["gain"] for group in groups]
    digits, top = digits_for(gains), max((gain for gain in gains if gain is not None), default=0.0)
    timed = any(group["cost_ms"] is not None for group in shown)
    rows: list[Row] = []
    for group in shown:
        width = 100 * max(group["gain"] or 0.0, 0.0) / top if top > 0 else 0.0
        bar = tag("span", class_="bar float" if group["is_float"] else "bar", style=f"width:{width:.1f}%")
        row: Row = [tag("code", group["group"]), bar, decimal(group["gain"], digits)]
        row += [decimal(group["cost_ms"], 3)] * timed
        rows.append([*row, "float" if group["is_float"] else "INT8"])
    caption = "How much nearer to float the outputs get when one group alone leaves INT8"
    caption += ", and what that costs in time" if timed else ""
    caption += f"; the {len(shown)} most sensitive of {len(groups)} groups" if len(groups) > len(shown) else ""
    head = ["group", "gain", "", *["cost, ms"] * timed, "runs in"]
    table = data_table(head, rows, caption=caption, words=(1, len(head) - 1), class_="bars")
    returned = [group["group"] for group in groups if group["is_float"]]
    names = join(*(node for name in returned for node in (tag("code", name), " "))) if returned else "none"
    return section("Sensitivity", table, tag("p", tag("strong", f"Returned to float ({len(returned)}): "), names))


def tournament(facts: Facts) -> Markup:
    """Return the recipes that were tried."""
    candidates = facts["tournament"]
    if not candidates:
        return section("Tournament", tag("p", "No other recipes were tried.", class_="caption"))
    timed = any(candidate["latency"] for candidate in candidates)
    rows: list[Row] = []
    for candidate in candidates:
        row: Row = [candidate["name"], significant(candidate["loss"])]
        row += [decimal(candidate["latency"]["median_ms"]) if candidate["latency"] else NONE] * timed
        rows.append([*row, tag("strong", "✓ chosen") if candidate["chosen"] else candidate["problem"] or None])
    head = ["candidate", "loss", *["median, ms"] * timed, ""]
    caption = "What was tried. The loss is how far the outputs are from those of float on calibration images"
    return section("Tournament", data_table(head, rows, caption=caption, words=(len(head) - 1,)))


def latency(facts: Facts, plots: CardPlots) -> Markup:
    """Return the distribution of the times."""
    pair = _timed(facts)
    if pair is None or plots.latency is None:
        text = "Not measured: this machine is not the target."
        return section("Latency", tag("p", text, class_="caption"))
    where = facts["latency"]
    plot = _plot(
        plots.latency,
        "Share of calls over latency, float and INT8",
        "Share of the calls that took no longer than that; dots are the medians: "
        f"float {decimal(pair[0]['median_ms'])} ms, INT8 {decimal(pair[1]['median_ms'])} ms. Further left is faster, "
        "steeper is steadier. The slowest calls are in the table only.",
    )
    rows: list[Row] = [
        [name, *(decimal(side[key]) for side in pair)]
        for name, key in (
            ("fastest", "min_ms"),
            ("median", "median_ms"),
            ("mean", "mean_ms"),
            ("90th percentile", "p90_ms"),
            ("99th percentile", "p99_ms"),
            ("slowest", "max_ms"),
        )
    ]
    count = plural(len(pair[0]["samples_ms"]), "call")
    caption = f"{count} of each in turns, the engine alone: {where['engine']} on {where['device']}"
    return section("Latency", tag("div", plot, data_table(("ms", *_SIDES[:2]), rows, caption=caption), class_="pair"))


def pictures(examples: Sequence[Example]) -> Markup | None:
    """Return pictures of what both find; None without any."""
    if not examples:
        return None
    groups = (
        ("Where the two differ most", [example for example in examples if example.differs]),
        ("Typical images", [example for example in examples if not example.differs]),
    )
    return section(
        "Examples",
        tag(
            "p",
            f"Drawn is what has a confidence of {FOUND} or more; of one class for each image, the most probable.",
            class_="caption",
        ),
        *(join(tag("h3", title), *map(_example, group)) for title, group in groups if group),
    )


def _example(example: Example) -> Markup:
    sides = (
        ("float", "float", example.float_objects, example.float_picture),
        ("INT8", "int8", example.int8_objects, example.int8_picture),
    )
    halves = [
        tag(
            "div",
            tag("span", tag("b", name, class_=class_), f" {plural(count, 'object')}"),
            tag("img", src=picture, alt=f"{example.name} with the {plural(count, 'object')} that {name} found"),
        )
        for name, class_, count, picture in sides
    ]
    alone = (("float", example.only_float), ("INT8", example.only_int8))
    text = "".join(f" Only {side}: {_some(names)}." for side, names in alone if names)
    caption = tag("figcaption", tag("code", example.name), text or " Both find the same objects.")
    return tag("figure", tag("div", *halves, class_="sides"), caption, class_="example")


def _some(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def _plot(svg: Markup, label: str, caption: str) -> Markup:
    return tag("figure", tag("div", svg, role="img", aria_label=label), tag("figcaption", caption), class_="plot")


def _shares(name: str, twin: float | None, own: float | None) -> Row:
    """Return a row of two shares, as per cent, and their difference in points."""
    return [name, percent(twin), percent(own), difference(twin, own, scale=100)]


def _areas(curves: dict[str, Any]) -> list[float | None]:
    """Return the area under the curve of each class, None without objects, and at the end under their mean."""
    rows = [*curves["per_class"], curves["mean"]]
    return [None if None in row else sum(row) / len(row) for row in rows]


def _bracketed(text: str) -> str:
    return f" ({text})" if text else ""


def _timed(facts: Facts) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the times of float and INT8, or None where they were not measured."""
    pair = facts["latency"]["float"], facts["latency"]["int8"]
    return None if None in pair else pair
