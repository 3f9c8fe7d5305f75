"""The tables that ``doctor`` prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_facts", "print_measurement"]


def print_facts(facts: dict[str, Any]) -> None:
    """Print what ``doctor`` has found, to stdout."""
    from rich.text import Text

    from ._console import out

    out.print(_machine_table(facts))
    out.print(_engine_table(facts["engines"]))
    for sentence in facts["advice"]:
        out.print(Text(sentence, style="yellow" if sentence.startswith("No ") else ""))
    if "steps" in facts:
        out.print(_steps_table(facts["steps"]))
    if "measurement" in facts:
        print_measurement(facts["measurement"])


def print_measurement(measurement: dict[str, Any]) -> None:
    """Print what ``doctor --measure`` has found: the times, what could not be measured, and the advice."""
    from ._console import out, plain

    rows = measurement["rows"]
    if any(not row["problem"] for row in rows):
        out.print(_measured_table(measurement))
    for problem in dict.fromkeys(f"{row['model']}: {row['problem']}" for row in rows if row["problem"]):
        out.print(plain(problem, "red"), soft_wrap=True)
    for sentence in measurement["missing"]:
        out.print(plain(sentence, "yellow"))
    out.print(plain(measurement["sentence"], "bold"))


def _machine_table(facts: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    machine = facts["machine"]
    memory, available = machine["memory_bytes"], machine["memory_available_bytes"]
    rows = {
        "yolo12edge": facts["yolo12edge"],
        "Python": machine["python"],
        "system": f"{machine['os']}, {machine['machine']}",
        "board": machine["board"],
        "processor": machine["cpu"],
        "features": ", ".join(machine["cpu_features"]) or "unknown",
        "cores": f"{machine['cores_logical']}, of which this process may use {machine['cores_usable']:g}"
        if machine["cores_usable"]
        else None,
        "memory": f"{memory / 2**30:.1f} GiB{f', {available / 2**30:.1f} GiB free' if available else ''}"
        if memory
        else None,
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(str(value)))
    for gpu in facts["gpus"] or [{"none": "nvidia-smi lists none"}]:
        table.add_row(Text("NVIDIA GPU", style="dim"), Text(", ".join(gpu.values())))
    return table


def _engine_table(engines: list[dict[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table("engine", "", "version", "details", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[3].overflow = "fold"
    for engine in engines:
        mark = Text("usable", style="green") if engine["usable"] else Text("no", style="red")
        details = ", ".join(engine["devices"]) if engine["usable"] else engine["reason"]
        if engine["remedy"]:
            details += f"\n→ {engine['remedy']}"
        table.add_row(Text(engine["name"]), mark, Text(engine["version"] or ""), Text(details))
    return table


def _steps_table(steps: list[dict[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ._console import plain

    table = Table("self-test", "", "s", "details", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[2].justify, table.columns[3].overflow = "right", "fold"
    for step in steps:
        found = {key: value for part in step["parts"] for key, value in part.items()}
        shown = ("device", "box_error_px", "pre_ms", "infer_ms", "post_ms")
        details = step.get("text", "") or ", ".join(f"{key} {found[key]}" for key in shown if key in found)
        style = {"ok": "green", "missing": "yellow"}.get(step["outcome"], "red")
        row = (plain(step["name"]), plain(step["outcome"], style), plain(f"{step['seconds']:.1f}"))
        table.add_row(*row, plain("\n".join(details.splitlines()[:2])))
    return table


def _measured_table(measurement: dict[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ._console import plain

    title = "A frame of 1280x720, with pre- and postprocessing"
    heads = ("model", "precision", "engine", "device", "threads", "frames", "median ms")
    table = Table(*heads, title=title, box=SIMPLE_HEAD, pad_edge=False)
    table.title_justify, table.title_style = "left", "bold"
    for column in table.columns[4:]:
        column.justify = "right"
    table.columns[0].overflow = "fold"
    before = "models"
    for row in measurement["rows"]:
        if row["step"] != before:
            table.add_section()
        before = row["step"]
        if row["problem"]:  # a sentence, which stands below
            table.add_row(plain(row["model"]), "", plain("failed", "red"), "", str(row["threads"]), "", "")
            continue
        style = "bold green" if row == measurement["advised"] else ""
        device = re.sub(r" \((?:[^()]|\([^()]*\))*\)", "", row["device"])  # its full name would break inside words
        words = (row["model"], row["precision"], row["engine"], device, row["threads"], row["samples"])
        table.add_row(*(plain(word) for word in words), f"{row['median_ms']:.2f}", style=style)
    return table
