"""Clocks, temperature, power and memory of NVIDIA GPUs, by NVML or ``nvidia-smi``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from .readings import Reading, Unit, plausible

__all__ = ["SMI_COMMAND", "nvml_reader", "parse_nvidia_smi"]

_FIELDS: tuple[tuple[str, str, Unit], ...] = (
    # of nvidia-smi, what we call it, its unit
    ("clocks.sm", "SM", "MHz"),
    ("clocks.mem", "memory", "MHz"),
    ("temperature.gpu", "GPU", "°C"),
    ("power.draw", "board", "W"),
    ("utilization.gpu", "busy", "%"),
    ("memory.used", "memory", "MB"),
)
_QUERY = ",".join(("index", *(field for field, _, _ in _FIELDS)))
SMI_COMMAND = ("nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits", "--loop-ms=1000")
"""Prints a line for each GPU once a second."""


def parse_nvidia_smi(line: str) -> list[Reading]:
    """Return the readings of one line of ``SMI_COMMAND``; what a GPU does not tell stands there as ``[N/A]``."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 1 + len(_FIELDS) or not cells[0].isdecimal():
        return []
    return plausible(_cells(int(cells[0]), cells[1:]))


def _cells(index: int, cells: list[str]) -> Iterator[Reading]:
    for (_, name, unit), cell in zip(_FIELDS, cells, strict=True):
        with suppress(ValueError):
            yield Reading("nvidia", f"{index} {name}", unit, float(cell) * (1.048576 if unit == "MB" else 1))


def nvml_reader() -> Callable[[], list[Reading]] | None:
    """Return what reads all GPUs through NVML; None without the package ``nvidia-ml-py`` or without a GPU."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    return (lambda: plausible(_nvml(pynvml, handles))) if handles else None


def _nvml(nvml: Any, handles: list[Any]) -> Iterator[Reading]:
    queries: tuple[tuple[str, Unit, Callable[[Any], float]], ...] = (
        ("SM", "MHz", lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        ("memory", "MHz", lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
        ("GPU", "°C", lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
        ("board", "W", lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3),
        ("busy", "%", lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
        ("memory", "MB", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used / 1e6),
    )
    for index, handle in enumerate(handles):
        for name, unit, query in queries:
            with suppress(nvml.NVMLError):  # not every GPU tells everything
                yield Reading("nvidia", f"{index} {name}", unit, float(query(handle)))
