from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from yolo12edge import machine

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz
flags\t\t: fpu sse2 ssse3 fma avx f16c avx2 avx512f avx512bw avx512_vnni
bugs\t\t: spectre_v1

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu sse2 ssse3 fma avx f16c avx2 avx512f avx512bw avx512_vnni
"""
SKYLAKE = XEON.replace(" avx512_vnni", "")
ALDER_LAKE = "flags\t\t: fma f16c avx2 avx_vnni\nvmx flags\t: avx512f\n"
RASPBERRY_5 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
RASPBERRY_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
BIG_LITTLE = "Features : asimd asimddp i8mm sve\n\nFeatures : asimd asimddp\n"


@pytest.mark.parametrize(
    ("text", "features"),
    [
        (XEON, {"fma", "f16c", "avx2", "avx512f", "avx512_vnni"}),
        (SKYLAKE, {"fma", "f16c", "avx2", "avx512f"}),
        (ALDER_LAKE, {"fma", "f16c", "avx2", "avx_vnni"}),
        (RASPBERRY_5, {"neon", "fp16", "dotprod"}),
        (RASPBERRY_4, {"neon"}),
        (BIG_LITTLE, {"neon", "dotprod"}),
        ("flags\t: amx_int8 avx512_vnni_not_this\n", {"amx_int8"}),
        ("", set()),
        ("nothing of the kind", set()),
    ],
)
def test_features_of_cpuinfo(text: str, features: set[str]) -> None:
    assert machine._features_of_cpuinfo(text) == features


def test_features_of_sysctl() -> None:
    apple = {"hw.optional.arm.FEAT_DotProd": "1", "hw.optional.arm.FEAT_I8MM": "0", "hw.optional.AdvSIMD": "1"}
    assert machine._features_of_sysctl(apple) == {"dotprod", "neon"}
    intel = {
        "hw.optional.avx2_0": "1",
        "machdep.cpu.features": "FPU SSE4.2 FMA F16C",
        "machdep.cpu.leaf7_features": "AVX2 AVX512F AVX512VNNI",
    }
    assert machine._features_of_sysctl(intel) == {"avx2", "fma", "f16c", "avx512f", "avx512_vnni"}


@pytest.mark.parametrize(
    ("text", "architecture", "vnni", "saturates"),
    [
        (XEON, "x86_64", True, False),
        (ALDER_LAKE, "AMD64", True, False),
        (SKYLAKE, "x86_64", False, True),
        ("", "x86_64", False, True),
        (RASPBERRY_5, "aarch64", False, False),
        (RASPBERRY_4, "aarch64", False, False),
    ],
)
def test_int8_saturates_on_x86_without_vnni_only(
    monkeypatch: pytest.MonkeyPatch, text: str, architecture: str, vnni: bool, saturates: bool
) -> None:
    monkeypatch.setattr(machine, "cpu_features", lambda: machine._features_of_cpuinfo(text))
    monkeypatch.setattr("platform.machine", lambda: architecture)
    assert machine.has_vnni() is vnni
    assert machine.int8_saturates() is saturates


def fake_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    monkeypatch.setattr(machine, "_text", lambda path: files.get(path, ""))
    monkeypatch.setattr(sys, "platform", "linux")


def test_container_limits_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = "MemTotal:       8000000 kB\nMemFree:  1 kB\nMemAvailable:    6000000 kB\n"
    fake_files(monkeypatch, {"/proc/meminfo": memory, "/sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert machine._memory() == (8_000_000 << 10, 6_000_000 << 10)
    assert machine._usable_cores() == 0.5
    limit = {"/proc/meminfo": memory, "/sys/fs/cgroup/memory.max": "1073741824\n", "/sys/fs/cgroup/cpu.max": "max 1\n"}
    fake_files(monkeypatch, limit)
    assert machine._memory() == (1 << 30, 1 << 30)
    assert machine._usable_cores() >= 1  # type: ignore[operator]


def test_a_system_that_tells_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_files(monkeypatch, {})
    assert machine._memory() == (None, None)
    assert machine._cpu_name() is None
    assert machine._run(["no-such-command-anywhere"]) == ""


def test_gpus_of_nvidia_smi() -> None:
    keys = ("name", "memory.total", "driver_version", "compute_cap")
    text = "NVIDIA GeForce RTX 4090, 24564 MiB, 550.54, 8.9\nOrin (nvgpu), [N/A], 540.3.0, 8.7\n"
    gpus = machine._gpus_of_csv(text, keys)
    assert [gpu["name"] for gpu in gpus] == ["NVIDIA GeForce RTX 4090", "Orin (nvgpu)"]
    assert gpus[0]["compute_cap"] == "8.9"
    assert machine._gpus_of_csv("NVIDIA-SMI has failed because it could not talk to the driver.\n", keys) == []


def test_summary_is_json_and_machine_needs_the_standard_library_only() -> None:
    summary = machine.machine_summary()
    assert json.loads(json.dumps(summary)) == summary
    assert set(summary["cpu_features"]) <= set(machine.FEATURES)
    assert summary["cores_logical"] >= 1
    lines = Path(machine.__file__).read_text(encoding="utf-8").splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported <= {*sys.stdlib_module_names}
