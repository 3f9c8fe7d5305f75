"""What this machine is: processor features that decide how fast and how exact INT8 is, cores, memory, GPUs.

Standard library only, and nothing here raises: what a system does not tell is absent or ``None``.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["FEATURES", "cpu_features", "has_vnni", "int8_saturates", "machine_summary", "nvidia_gpus"]

FEATURES: dict[str, tuple[str, ...]] = {
    # our name: what Linux and macOS call it, lower case
    "avx2": ("avx2", "avx2_0"),
    "fma": ("fma",),
    "f16c": ("f16c",),
    "avx512f": ("avx512f",),
    "avx512_vnni": ("avx512_vnni", "avx512vnni"),
    "avx_vnni": ("avx_vnni",),
    "avx_vnni_int8": ("avx_vnni_int8",),
    "amx_int8": ("amx_int8",),
    "neon": ("neon", "asimd", "advsimd"),
    "fp16": ("asimdhp", "feat_fp16"),
    "dotprod": ("asimddp", "feat_dotprod"),
    "i8mm": ("i8mm", "feat_i8mm"),
    "sve": ("sve",),
}
"""The processor features that matter here, with their names in ``/proc/cpuinfo`` and ``sysctl``."""

_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})


@lru_cache(maxsize=1)
def cpu_features() -> frozenset[str]:
    """Return those of ``FEATURES`` that every core of this machine has.

    Linux and macOS tell them; on other systems the set is empty, so that what depends on a feature takes the safe way.
    """
    if sys.platform == "linux":
        return _features_of_cpuinfo(_text("/proc/cpuinfo"))
    if sys.platform == "darwin":
        return _features_of_sysctl(_sysctl())
    return frozenset()


def has_vnni() -> bool:
    """Return whether the processor multiplies INT8 and adds up in 32 bits in one x86 instruction (VNNI, AMX)."""
    return bool(cpu_features() & _VNNI)


def int8_saturates() -> bool:
    """Return whether INT8 products can saturate here.

    x86 without VNNI adds pairs of u8 × s8 products in 16 bits (``VPMADDUBSW``), which clips unless the weights keep to
    7 bits. ARM does not.
    """
    return is_x86() and not has_vnni()


def machine_summary() -> dict[str, Any]:
    """Return a JSON-ready description of this machine and its Python, GPUs left out.

    Keys: ``os``, ``machine``, ``python``, ``board`` (of single-board computers), ``cpu``, ``cpu_features``,
    ``cores_logical``, ``cores_usable`` (affinity and container quota applied; may be a fraction), ``memory_bytes``
    (container limit applied) and ``memory_available_bytes``. Unknown values are ``None``.
    """
    total, available = _memory()
    return {
        "os": _os_name(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "board": _text("/proc/device-tree/model").rstrip("\0") or None,
        "cpu": _cpu_name(),
        "cpu_features": sorted(cpu_features()),
        "cores_logical": os.cpu_count(),
        "cores_usable": _usable_cores(),
        "memory_bytes": total,
        "memory_available_bytes": available,
    }


def nvidia_gpus() -> list[dict[str, str]]:
    """Return name, memory, driver and compute capability of each GPU that ``nvidia-smi`` lists; else nothing."""
    keys = ("name", "memory.total", "driver_version", "compute_cap")
    output = _run(["nvidia-smi", f"--query-gpu={','.join(keys)}", "--format=csv,noheader"])
    return _gpus_of_csv(output, keys)


def _gpus_of_csv(text: str, keys: tuple[str, ...]) -> list[dict[str, str]]:
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return [dict(zip(keys, row, strict=True)) for row in rows if len(row) == len(keys)]


def _features_of_cpuinfo(text: str) -> frozenset[str]:
    """Intersect over the processors, because the cores of one ARM chip may differ."""
    lines = re.findall(r"^(?:flags|Features)[ \t]*:(.*)$", text, flags=re.MULTILINE)
    sets = [_known(line.split()) for line in lines]
    return frozenset.intersection(*sets) if sets else frozenset()


def _features_of_sysctl(values: dict[str, str]) -> frozenset[str]:
    words = [key.rsplit(".", 1)[-1] for key, value in values.items() if "optional" in key and value == "1"]
    for key in ("machdep.cpu.features", "machdep.cpu.leaf7_features"):
        words += values.get(key, "").split()
    return _known(words)


def _known(words: Iterable[str]) -> frozenset[str]:
    found = {word.lower() for word in words}
    return frozenset(name for name, aliases in FEATURES.items() if found.intersection(aliases))


def is_x86() -> bool:
    """Return whether this is an x86 processor, 32 or 64 bit."""
    return platform.machine().lower() in {"x86_64", "amd64", "i386", "i686", "x86"}


def _os_name() -> str:
    if sys.platform == "linux":
        match = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text("/etc/os-release"), flags=re.MULTILINE)
        return f"{match[1] if match else 'Linux'} (kernel {platform.release()})"
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    return platform.platform()


def _cpu_name() -> str | None:
    if sys.platform == "linux":
        match = re.search(r"^model name[ \t]*:[ \t]*(.*)$", _text("/proc/cpuinfo"), flags=re.MULTILINE)
        return match[1] if match else None
    if sys.platform == "darwin":
        return _sysctl().get("machdep.cpu.brand_string")
    return platform.processor() or None


def _usable_cores() -> float | None:
    count: float | None = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = re.fullmatch(r"(\d+) (\d+)\s*", _text("/sys/fs/cgroup/cpu.max"))
    if count is not None and quota and int(quota[2]) > 0:
        count = min(count, int(quota[1]) / int(quota[2]))
    return count


def _memory() -> tuple[int | None, int | None]:
    if sys.platform == "darwin":
        size = _sysctl().get("hw.memsize", "")
        return (int(size) if size.isdigit() else None), None
    kib = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", _text("/proc/meminfo"), flags=re.MULTILINE))
    if "MemTotal" not in kib:
        return None, None
    total = int(kib["MemTotal"]) << 10
    available = int(kib["MemAvailable"]) << 10 if "MemAvailable" in kib else None
    limit = _text("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit() and int(limit) < total:
        total = int(limit)
        available = None if available is None else min(available, total)
    return total, available


@lru_cache(maxsize=1)
def _sysctl() -> dict[str, str]:
    output = _run(["sysctl", "hw.optional", "hw.memsize", "machdep.cpu"])
    return dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)


def _run(command: list[str]) -> str:
    """Return what a command prints, or "" if it is not there, fails to start or takes more than ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
