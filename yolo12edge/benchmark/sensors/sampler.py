"""``Sampler``: reads all sensors once a second while something is measured."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from .nvidia import SMI_COMMAND, nvml_reader, parse_nvidia_smi
from .readings import Reading, Unit
from .sysfs import Rapl, cpu_clocks, ina3221_power, temperatures
from .tegrastats import parse_tegrastats

__all__ = ["Sampler", "Series"]

_INTERVAL_S = 1.0
_PROGRAMS: tuple[tuple[Sequence[str], Callable[[str], list[Reading]]], ...] = (
    (("tegrastats", "--interval", "1000"), parse_tegrastats),
    (SMI_COMMAND, parse_nvidia_smi),
)


@dataclass(slots=True)
class Series:
    """The readings of one sensor over time.

    Attributes:
        source: Who told them.
        name: The sensor's own name.
        unit: Of the values.
        seconds: When each was read.
        values: What was read.
    """

    source: str
    name: str
    unit: Unit
    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


class Sampler:
    """Reads in the background, from entering a ``with`` block to leaving it.

    Args:
        zero: Value of ``time.perf_counter()`` that counts as second 0.
        root: Folder that stands for ``/sys``; None takes the system's own, on Linux only.
        programs: Programs that print readings until they are ended, with what parses a line; those that are not
            installed are left out. None takes ``tegrastats`` and, where NVML cannot be used, ``nvidia-smi``.
        interval: Seconds between two readings.

    Attributes:
        notes: What could be told, but not to this user.
    """

    def __init__(
        self,
        *,
        zero: float,
        root: Path | None = None,
        programs: Sequence[tuple[Sequence[str], Callable[[str], list[Reading]]]] | None = None,
        interval: float = _INTERVAL_S,
    ) -> None:
        self.notes: list[str] = []
        self._zero, self._interval = zero, interval
        self._series: dict[tuple[str, str, str], Series] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[Callable[[], list[Reading]]] = []
        sysfs = root or (Path("/sys") if sys.platform == "linux" else None)
        if sysfs is not None:
            rapl = Rapl(sysfs)
            if rapl.forbidden:
                self.notes.append("the processor has power counters (RAPL), but only root may read them here")
            self._readers += [rapl.read, *(partial(read, sysfs) for read in (cpu_clocks, temperatures, ina3221_power))]
        nvml = nvml_reader() if programs is None else None
        if nvml is not None:
            self._readers.append(nvml)
        wanted = _PROGRAMS if programs is None else programs
        self._programs = [entry for entry in wanted if nvml is None or entry[0] is not SMI_COMMAND]

    def series(self) -> list[Series]:
        """Return what was read so far, by source and name."""
        with self._lock:
            return [self._series[key] for key in sorted(self._series)]

    def __enter__(self) -> Sampler:
        for command, parse in self._programs:
            program = shutil.which(command[0])
            if program is None:
                continue
            with suppress(OSError):
                process = subprocess.Popen(
                    [program, *command[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    errors="replace",
                )
                self._processes.append(process)
                self._start(self._follow, process, parse)
        self._start(self._poll)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for process in self._processes:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join(5)
        for process in self._processes:
            if process.stdout is not None:
                process.stdout.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="sensors", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _poll(self) -> None:
        while not self._done.wait(self._interval):
            for read in self._readers:
                self._add(read())

    def _follow(self, process: subprocess.Popen[str], parse: Callable[[str], list[Reading]]) -> None:
        assert process.stdout is not None
        while line := process.stdout.readline(1 << 16):
            self._add(parse(line))

    def _add(self, readings: Sequence[Reading]) -> None:
        now = time.perf_counter() - self._zero
        with self._lock:
            for reading in readings:
                key = (reading.source, reading.name, reading.unit)
                series = self._series.setdefault(key, Series(*key))
                series.seconds.append(round(now, 3))
                series.values.append(round(reading.value, 3))
