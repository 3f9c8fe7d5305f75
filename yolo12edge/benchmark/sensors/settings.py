"""How the machine is set: what of it changes speed without changing the hardware."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from .readings import number_in, text_in

__all__ = ["machine_settings"]

_TIMEOUT_S = 5


def machine_settings(sys: Path = Path("/sys")) -> dict[str, str]:
    """Return governor, clock limits, boost and power mode, as far as the machine tells.

    Args:
        sys: The folder that stands for ``/sys``.
    """
    cpu = sys / "devices/system/cpu"
    governors = sorted({text for file in cpu.glob("cpu[0-9]*/cpufreq/scaling_governor") if (text := text_in(file))})
    limits = [number_in(file) for file in cpu.glob("cpu[0-9]*/cpufreq/scaling_max_freq")]
    highest = max((limit for limit in limits if limit is not None), default=None)
    no_turbo = text_in(cpu / "intel_pstate/no_turbo")
    boost = text_in(cpu / "cpufreq/boost") or {"0": "1", "1": "0"}.get(no_turbo or "")
    found = {
        "governor": ", ".join(governors) or None,
        "highest_clock": f"{highest / 1e3:g} MHz" if highest else None,
        "boost": {"0": "off", "1": "on"}.get(boost or ""),
        "power_mode": _power_mode(),
    }
    return {key: value for key, value in found.items() if value is not None}


def _power_mode() -> str | None:
    """Return the power mode of a Jetson."""
    program = shutil.which("nvpmodel")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-q"], capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"NV Power Mode: *(\S.{0,60})", done.stdout)
    return match[1].strip() if match else None
