"""The results of ``quantization.py`` as Markdown tables, and beside what must be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from subjects import FROM_STATISTICS

__all__ = ["markdown"]

_OWN = "yolo12edge"
_LOST = {"OpenVINO": 0.3, "ONNX Runtime": 0.5}  # points of AP50-95
_FASTER = {"OpenVINO": 1.4, "ONNX Runtime": 1.25}
_SIZE, _CALIBRATION_S, _CALIBRATION_MB, _FROM_STATISTICS_S = 0.30, 240, 3000, 60
_FLAT = 1.1  # memory for many images over that for few


def markdown(results: dict[str, Any]) -> str:
    """Return all tables.

    Args:
        results: What ``quantization.py`` writes as JSON.
    """
    parts = [_machine(results["machine"])]
    if not results["peers"]:
        parts.append("Peers: skipped, because no --peer-python was given.")
    parts += [_accuracy(part) for part in results["accuracy"]]
    parts += [_speed(part) for part in results["speed"]]
    parts += [_cost(results["calibration"], results["accuracy"]), _goals(results)]
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    limit = machine["ONEDNN_MAX_CPU_ISA"]
    return (
        f"{machine['cpu']}, {machine['cores_usable']:g} cores ({', '.join(machine['cpu_features'])}"
        f"{f'; OpenVINO limited to {limit}' if limit else ''}); Python {machine['python']}, {versions}."
    )


def _twin(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the float model that a model was made from; that of NNCF is this project's."""
    floats = {
        other["maker"]: other for other in rows if other["engine"] == row["engine"] and other["precision"] == "FP32"
    }
    return floats.get(row["maker"], floats[_OWN])


def _accuracy(part: dict[str, Any]) -> str:
    rows = []
    for row in part["rows"]:
        if row["problem"]:
            rows.append([row["name"], row["problem"], "", "", "", ""])
            continue
        twin = _twin(row, part["rows"])
        is_float = row is twin
        rows.append(
            [
                row["name"],
                f"{row['ap']:.4f}",
                "" if is_float else f"{100 * (twin['ap'] - row['ap']):+.2f}",
                f"{row['ap50']:.4f}",
                f"{row['ap75']:.4f}",
                f"{row['bytes'] / 1e6:.2f} MB" + ("" if is_float else f" ({row['bytes'] / twin['bytes']:.2f})"),
            ]
        )
    title = f"Accuracy: {part['subject']}, {part['images']} images, {part['image_size']} px"
    table = _table(["model", "AP50-95", "points lost", "AP50", "AP75", "size (of float)"], rows)
    said = "\n".join(f"- The report of {name} says: {' '.join(lines)}" for name, lines in part["verdicts"].items())
    return f"### {title}\n\n{table}\n\n{said}"


def _speed(part: dict[str, Any]) -> str:
    rows = []
    for row in part["rows"]:
        by_median, by_min = _faster(row, part["rows"])
        rows.append([row["name"], f"{row['median_ms']:.1f} ({row['min_ms']:.1f})", f"{by_median:.2f} ({by_min:.2f})"])
    where = f"{part['subject']}, {part['image_size']} px, batch 1, {_threads(part)}"
    title = f"Speed: {where}, {part['repeats']} calls each in turns"
    return f"### {title}\n\n" + _table(["model", "median (least) ms", "times as fast as its float"], rows)


def _threads(part: dict[str, Any]) -> str:
    return f"{part['threads']} thread{'s' if part['threads'] > 1 else ''}"


def _faster(row: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return how many times as fast as its float twin a model is, by medians and by the least times."""
    twin = _twin(row, rows)
    return twin["median_ms"] / row["median_ms"], twin["min_ms"] / row["min_ms"]


def _cost(calibrations: list[dict[str, Any]], accuracy: list[dict[str, Any]]) -> str:
    steps = [(f"calibration, {cost['images']} images, {cost['image_size']} px", cost) for cost in calibrations]
    steps += [(f"{step}, {part['subject']}", cost) for part in accuracy for step, cost in part["costs"].items()]
    rows = [[step, f"{cost['seconds']:.0f} s", f"{cost['peak_mb']:.0f} MB"] for step, cost in steps]
    return "### Cost\n\n" + _table(["step (whole process)", "time", "peak memory"], rows)


def _goals(results: dict[str, Any]) -> str:
    """Compare what was measured with what must be reached."""
    rows: list[list[str]] = []

    def goal(figure: str, value: float, limit: float, style: str, *, least: bool = False) -> None:
        held = value >= limit if least else value <= limit
        sign = "≥" if least else "≤"
        rows.append([figure, f"{sign} {limit:{style}}", f"{value:{style}}", "yes" if held else "**no**"])

    for part in results["accuracy"]:
        subject = part["subject"]
        for engine, limit in _LOST.items():
            own = _int8(part["rows"], engine)
            twin = _twin(own, part["rows"])
            goal(f"points lost, {engine}, {subject}", 100 * (twin["ap"] - own["ap"]), limit, ".2f")
            for theirs in _nncf(part["rows"], engine):
                goal(f"AP50-95 beside {theirs['name']}, {subject}", own["ap"], theirs["ap"], ".4f", least=True)
            goal(f"size INT8 ÷ FP32, {engine}, {subject}", own["bytes"] / twin["bytes"], _SIZE, ".3f")
        if cost := part["costs"].get(FROM_STATISTICS):
            goal(f"seconds, {FROM_STATISTICS}, {subject}", cost["seconds"], _FROM_STATISTICS_S, ".0f")
    for part in results["speed"]:
        for engine, faster in _FASTER.items():
            own = _int8(part["rows"], engine)
            figure = f"speed INT8 ÷ FP32, {engine}, {_threads(part)}"
            goal(figure, _faster(own, part["rows"])[0], faster, ".2f", least=True)
            for theirs in _nncf(part["rows"], engine):
                figure = f"ms beside {theirs['name']}, {_threads(part)}"
                goal(figure, own["median_ms"], theirs["median_ms"], ".1f")
    few, many = results["calibration"]
    goal(f"seconds, calibration of {many['images']} images", many["seconds"], _CALIBRATION_S, ".0f")
    goal("its memory, MB", many["peak_mb"], _CALIBRATION_MB, ".0f")
    goal(f"its memory ÷ that of {few['images']} images", many["peak_mb"] / few["peak_mb"], _FLAT, ".2f")
    return "### What must be reached\n\n" + _table(["figure", "must be", "is", "reached"], rows)


def _int8(rows: list[dict[str, Any]], engine: str) -> dict[str, Any]:
    return next(row for row in rows if (row["maker"], row["engine"], row["precision"]) == (_OWN, engine, "INT8"))


def _nncf(rows: list[dict[str, Any]], engine: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["maker"].startswith("NNCF") and row["engine"] == engine and not row["problem"]]
