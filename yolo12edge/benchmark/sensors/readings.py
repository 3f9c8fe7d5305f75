"""``Reading``: one value of one sensor, and how files of ``/sys`` are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Reading", "Unit", "number_in", "plausible", "text_in"]

Unit = Literal["MHz", "°C", "W", "%", "MB"]

_PLAUSIBLE = {"MHz": (0.0, 1e5), "°C": (-60.0, 200.0), "W": (0.0, 1e5), "%": (0.0, 100.0), "MB": (0.0, 1e8)}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a sensor says now.

    Attributes:
        source: Who says it: ``"cpufreq"``, ``"thermal"``, ``"rapl"``, ``"ina3221"``, ``"nvml"``, …
        name: The sensor's own name.
        unit: Of the value.
        value: Finite.
    """

    source: str
    name: str
    unit: Unit
    value: float


def plausible(readings: Iterator[Reading]) -> list[Reading]:
    """Return the readings that can be true: a Jetson says -256 °C of what is switched off."""
    return [item for item in readings if _PLAUSIBLE[item.unit][0] <= item.value <= _PLAUSIBLE[item.unit][1]]


def text_in(path: Path) -> str | None:
    """Return the text of a small file without the space around it; None if it cannot be read or is empty."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip("\0 \t\r\n") or None
    except OSError:
        return None


def number_in(path: Path) -> int | None:
    """Return the whole number in a file; None if there is none."""
    text = text_in(path)
    return int(text) if text and len(text) < 20 and text.lstrip("-").isdecimal() and text.isascii() else None
