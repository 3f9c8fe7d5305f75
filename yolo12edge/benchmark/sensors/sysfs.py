"""What Linux tells in ``/sys``: clocks of the processor, temperatures, and power by RAPL and INA3221.

Every function takes the folder that stands for ``/sys``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .readings import Reading, number_in, plausible, text_in

__all__ = ["Rapl", "cpu_clocks", "ina3221_power", "temperatures"]

_CPU_CHIPS = ("coretemp", "cpu_thermal", "k10temp", "zenpower")


def cpu_clocks(sys: Path) -> list[Reading]:
    """Return mean and lowest clock of the cores."""
    files = sorted((sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    clocks = [kilohertz / 1e3 for file in files if (kilohertz := number_in(file)) is not None]
    if not clocks:
        return []
    pairs = (("cores, mean", sum(clocks) / len(clocks)), ("cores, lowest", min(clocks)))
    return plausible(Reading("cpufreq", name, "MHz", value) for name, value in pairs)


def temperatures(sys: Path) -> list[Reading]:
    """Return the thermal zones, and what the processor's own sensors add."""
    return plausible(_temperatures(sys))


def _temperatures(sys: Path) -> Iterator[Reading]:
    for zone in sorted((sys / "class/thermal").glob("thermal_zone*")):
        value = number_in(zone / "temp")
        if value is not None:
            yield Reading("thermal", text_in(zone / "type") or zone.name, "°C", value / 1e3)
    for chip in sorted((sys / "class/hwmon").glob("hwmon*")):
        name = text_in(chip / "name")
        value = number_in(chip / "temp1_input")  # the whole processor; those behind it are cores
        if name in _CPU_CHIPS and value is not None:
            yield Reading("hwmon", f"{name} {text_in(chip / 'temp1_label') or ''}".strip(), "°C", value / 1e3)


class Rapl:
    """Power of the processor out of its energy counters (Running Average Power Limit), between two calls of ``read``.

    Most systems let only root read the counters.

    Args:
        sys: The folder that stands for ``/sys``.
        clock: Seconds.

    Attributes:
        forbidden: Whether there are counters that this user may not read.
    """

    def __init__(self, sys: Path, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        domains = sorted((sys / "class/powercap").glob("*rapl:*"))
        self._domains = [domain for domain in domains if number_in(domain / "energy_uj") is not None]
        self.forbidden = any((domain / "energy_uj").exists() for domain in domains) and not self._domains
        self._before = self._counters()

    def read(self) -> list[Reading]:
        """Return the mean power since the last call, or since this was made."""
        (then, old), (now, new) = self._before, self._counters()
        self._before = now, new
        return plausible(self._readings(now - then, old, new))

    def _readings(self, seconds: float, old: dict[Path, int], new: dict[Path, int]) -> Iterator[Reading]:
        for domain in self._domains:
            if seconds <= 0 or domain not in old or domain not in new:
                continue
            joules = new[domain] - old[domain]
            if joules < 0:  # the counter began anew
                joules += number_in(domain / "max_energy_range_uj") or 0
            # "intel-rapl:0:1" is a part of "intel-rapl:0", and each package has parts of the same names.
            package = domain.name.partition(":")[2].partition(":")[0]
            name = text_in(domain / "name") or domain.name
            own = name if name.startswith("package") else f"package-{package} {name}"
            yield Reading("rapl", own, "W", joules / 1e6 / seconds)

    def _counters(self) -> tuple[float, dict[Path, int]]:
        values = {domain: number_in(domain / "energy_uj") for domain in self._domains}
        return self._clock(), {domain: value for domain, value in values.items() if value is not None}


def ina3221_power(sys: Path) -> list[Reading]:
    """Return the power of each rail that an INA3221 measures, as on Jetson boards.

    Kernels since 5.10 show it as a ``hwmon`` (voltage in mV, current in mA), those before as an ``iio`` device (mW).
    """
    return plausible(_ina3221(sys))


def _ina3221(sys: Path) -> Iterator[Reading]:
    for chip in sorted((sys / "class/hwmon").glob("hwmon*")):
        if text_in(chip / "name") != "ina3221":
            continue
        for rail in (1, 2, 3):
            label = text_in(chip / f"in{rail}_label")
            millivolts, milliamperes = number_in(chip / f"in{rail}_input"), number_in(chip / f"curr{rail}_input")
            if label not in (None, "NC") and millivolts is not None and milliamperes is not None:
                yield Reading("ina3221", str(label), "W", millivolts * milliamperes / 1e6)
    for device in sorted((sys / "bus/i2c/drivers").glob("ina3221x/*/iio:device*")):
        for rail in (0, 1, 2):
            label, milliwatts = text_in(device / f"rail_name_{rail}"), number_in(device / f"in_power{rail}_input")
            if label not in (None, "NC") and milliwatts is not None:
                yield Reading("ina3221", str(label), "W", milliwatts / 1e3)
