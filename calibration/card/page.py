"""``report.html``: the facts of a report card as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...reports.formats import MULTIPLY, NONE, decimal, difference, megabytes, percent, plural, times
from ...reports.markup import Markup, Node, document, fact_list, join, section, tag
from . import sections
from .examples import Example
from .plots import CardPlots

__all__ = ["card_page"]

Facts = dict[str, Any]

_CALIBRATION = {
    "placement": "Target",
    "method": "Ranges",
    "attention": "Attention",
    "join_concats": "Concatenations under one scale",
    "rounding": "Rounding of the weights",
    "reduced_range": "Weights",
    "float_groups": "Groups returned to float",
    "float_nodes": "Nodes in float",
    "split": "Images from",
    "images": "Number of images",
    "images_digest": "SHA-256 of the images",
}


def card_page(facts: Facts, plots: CardPlots, examples: Sequence[Example]) -> str:
    """Return the page.

    Args:
        facts: As ``card_facts`` returns them.
        plots: As ``card_plots`` draws them.
        examples: As ``choose_examples`` chooses them.
    """
    return document(
        f"{facts['name']}: INT8 report card",
        _top(facts),
        sections.figures(facts),
        sections.training(facts),
        sections.classes(facts),
        sections.precision_recall(facts, plots),
        sections.agreement(facts, plots),
        sections.sensitivity(facts),
        sections.tournament(facts),
        sections.latency(facts, plots),
        sections.pictures(examples),
        _calibration(facts),
        _machine(facts),
        _reproduce(facts),
        tag("footer", f"Written {facts['created']}. The file report.json beside this page has all of its numbers."),
    )


def _top(facts: Facts) -> Markup:
    model, outcome = facts["model"], facts["outcome"]
    side = model["input"]
    what = (
        f"YOLO12{model['scale']} ({model['variant']}), {plural(len(model['class_names']), 'class', 'classes')}, "
        f"{side['width']} {MULTIPLY} {side['height']} px, {model['format']}; compared with {facts['twin']}"
    )
    marks = [tag("li", "✓ Budget held" if outcome["held"] else "✗ Budget NOT held", class_=_kind(facts))]
    if outcome["simulated"]:
        marks.append(tag("li", "Simulated", class_="warn"))
    if not outcome["labelled"]:
        marks.append(tag("li", "Accuracy by agreement only, no labels", class_="warn"))
    return tag(
        "header",
        tag("p", "INT8 report card", class_="kind"),
        tag("h1", facts["name"]),
        tag("p", what, class_="what"),
        tag("ul", *marks, class_="marks"),
        tag("div", *(tag("p", sentence) for sentence in facts["verdict"]), class_="verdict"),
        tag("ul", *_tiles(facts), class_="tiles"),
    )


def _tiles(facts: Facts) -> Iterable[Markup]:
    """Give the four numbers that matter most."""
    outcome, agreement, speedup = facts["outcome"], facts["agreement"], facts["outcome"]["speedup"]
    same, same_text = f"{percent(agreement['f1'], 1)} %", "of the results are the same as float's (F1)"
    if outcome["labelled"]:
        budget = f"points of {outcome['figure']} against float; budget: a loss of {decimal(outcome['max_map_drop'])}"
        yield _tile(difference(outcome["map_drop"], 0.0), budget, _kind(facts))
        yield _tile(same, same_text)
    else:
        yield _tile(same, same_text, _kind(facts))
        shift = difference(0.0, agreement["mean_score_shift"], digits=3)
        yield _tile(shift, "mean shift of the confidence", _kind(facts))
    if speedup is None:
        yield _tile(NONE, "Speed was not measured: this machine is not the target")
    else:
        sides = [facts["latency"][side]["median_ms"] for side in ("int8", "float")]
        faster = f"as fast as float: {decimal(sides[0])} ms against {decimal(sides[1])} ms"
        slower = f"the speed of float, not faster: {decimal(sides[0])} ms against {decimal(sides[1])} ms"
        yield _tile(times(speedup), *((faster,) if speedup > 1 else (slower, "warn")))
    sizes = (megabytes(facts["bytes"][side]) for side in ("int8", "float"))
    yield _tile(times(outcome["size_ratio"]), f"the size of float: {' MB against '.join(sizes)} MB")


def _tile(value: str, text: str, kind: str = "") -> Markup:
    return tag("li", tag("strong", value), tag("span", text), class_=kind or None)


def _kind(facts: Facts) -> str:
    return "good" if facts["outcome"]["held"] else "bad"


def _calibration(facts: Facts) -> Markup | None:
    calibration = facts["calibration"]
    if calibration is None:
        return None
    values: dict[str, Node] = {key: _plainly(value) for key, value in calibration.items() if key != "before"}
    values["images"] = f"{len(calibration['images']):,}"
    values["images_digest"] = tag("code", calibration["images_digest"])
    values["reduced_range"] = "7 bits (reduced range)" if calibration["reduced_range"] else "8 bits"
    if nodes := calibration["float_nodes"]:
        names = join(*(node for name in nodes for node in (tag("code", name), " ")))
        values["float_nodes"] = tag("details", tag("summary", f"{len(nodes):,}"), names)
    order = sorted(values, key=lambda key: [*_CALIBRATION, key].index(key))
    names_of = {key: key.replace("_", " ").capitalize() for key in order} | _CALIBRATION
    return section("Calibration", fact_list([(names_of[key], values[key]) for key in order]))


def _machine(facts: Facts) -> Markup:
    machine, latency, provenance = facts["machine"], facts["latency"], facts["provenance"]
    cores, memory = machine["cores_usable"], machine["memory_bytes"]
    pairs: list[tuple[str, Node]] = [
        ("Engine", latency["engine"]),
        ("Device", latency["device"]),
        ("Threads", f"{latency['threads']:,}" if latency["threads"] else "the engine's own choice"),
        ("Processor", machine["cpu"]),
        ("Board", machine["board"]),
        ("Features", ", ".join(machine["cpu_features"])),
        ("Cores", f"{cores:g} usable of {machine['cores_logical']}" if cores else None),
        ("Memory", f"{memory / 2**30:.1f} GiB" if memory else None),
        ("System", f"{machine['os']}, {machine['machine']}"),
        ("Python", machine["python"]),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(provenance["versions"].items()))),
        ("Checkpoint", tag("code", provenance["checkpoint_sha256"])),
        ("Licence of the weights", provenance["weights_license"]),
        ("Model made", provenance["created"]),
    ]
    return section("Machine and versions", fact_list([(name, value) for name, value in pairs if value]))


def _reproduce(facts: Facts) -> Markup | None:
    if not facts["reproduce"]:
        return None
    return section("How to reproduce", tag("pre", tag("code", "\n".join(facts["reproduce"]))))


def _plainly(value: Any) -> str:
    """Return a value of any field as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return NONE if value in (None, "") else str(value)
