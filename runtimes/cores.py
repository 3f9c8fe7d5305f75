"""How many threads an engine should use by default."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["physical_cores"]

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def physical_cores() -> int:
    """Return the number of physical cores that this process may use, at least 1.

    Hyper-threads of one core count once, because dense arithmetic gains nothing from the second. CPU affinity and
    a container's CPU quota are honoured: more threads than that only wait for each other.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in cpus}
    return max(1, min(len(cores), _quota() or len(cores)))


def _siblings(cpu: int) -> str:
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)  # no topology known: every logical CPU counts as a core


def _quota() -> int | None:
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no cgroup v2, or "max"
