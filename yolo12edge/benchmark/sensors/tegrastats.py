"""What ``tegrastats`` of a Jetson prints, as readings.

A line looks like ``RAM 6712/7620MB (…) CPU [38%@1497,2%@729,off] EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] APE 200
cpu@57.125C tj@58.5C VDD_IN 9731mW/8535mW``; boards and releases differ in which fields there are, in whether clocks
have brackets, and in whether power has its unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .readings import Reading, plausible

__all__ = ["parse_tegrastats"]

_LINE_LIMIT = 8192
_CORES = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"\d{1,3}%@(\d{1,6})")
_GPU = re.compile(r"\bGR3D_FREQ (\d{1,3})%(?:@\[?(\d{1,6}))?")
_MEMORY = re.compile(r"\bEMC_FREQ \d{1,3}%@(\d{1,6})")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z][\w-]{0,30})@(-?\d{1,4}(?:\.\d{1,6})?)C(?!\S)")
_POWER = re.compile(r"(?<!\S)([A-Z][\w-]{0,40}) (\d{1,8})(?:mW)?/\d{1,8}(?:mW)?(?!\S)")
_PMIC_PLACEHOLDER = 100.0  # °C, which boards without that sensor always say


def parse_tegrastats(line: str) -> list[Reading]:
    """Return the readings of one line; none if it is no such line."""
    return plausible(_readings(line[:_LINE_LIMIT]))


def _readings(line: str) -> Iterator[Reading]:
    if cores := _CORES.search(line):
        clocks = [float(clock) for clock in _CORE.findall(cores[1])]  # "off" is no clock
        if clocks:
            yield Reading("tegrastats", "cores, mean", "MHz", sum(clocks) / len(clocks))
            yield Reading("tegrastats", "cores, lowest", "MHz", min(clocks))
    if gpu := _GPU.search(line):
        yield Reading("tegrastats", "GPU", "%", float(gpu[1]))
        if gpu[2] and int(gpu[2]):
            yield Reading("tegrastats", "GPU", "MHz", float(gpu[2]))
    if memory := _MEMORY.search(line):
        yield Reading("tegrastats", "memory", "MHz", float(memory[1]))
    for name, value in _TEMPERATURE.findall(line):
        if not (name == "PMIC" and float(value) == _PMIC_PLACEHOLDER):
            yield Reading("tegrastats", name, "°C", float(value))
    for name, value in _POWER.findall(line):
        if name != "NC":  # not connected
            yield Reading("tegrastats", name, "W", float(value) / 1e3)
