from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.benchmark.sensors import Sampler, machine_settings
from yolo12edge.benchmark.sensors.nvidia import parse_nvidia_smi
from yolo12edge.benchmark.sensors.readings import Reading
from yolo12edge.benchmark.sensors.sysfs import Rapl, cpu_clocks, ina3221_power, temperatures
from yolo12edge.benchmark.sensors.tegrastats import parse_tegrastats

ORIN_NANO = (
    "10-08-2026 04:35:02 RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 3MB) "
    "CPU [38%@1497,2%@729,1%@729,0%@729,off,off] EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] NVDEC off NVJPG off VIC off "
    "OFA off APE 200 cpu@57.125C soc2@55.093C tj@58.5C VDD_IN 9731mW/8535mW VDD_CPU_GPU_CV 3512mW/1944mW"
)
AGX_ORIN = (
    "RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU [0%@729,0%@729] EMC_FREQ 0%@2133 "
    "GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C Tboard@32C GPU@-256C tj@44.343C "
    "VDD_GPU_SOC 2340mW/2340mW NC 0mW/0mW VIN_SYS_5V0 4025mW/4025mW"
)
AGX_XAVIER = (
    "RAM 2336/15827MB (lfb 2948x4MB) CPU [2%@1190,1%@1190,off,off] EMC_FREQ 0% GR3D_FREQ 0% AO@25.5C GPU@26C "
    "PMIC@100C GPU 465/465 CPU 310/310 SYS5V 1776/1776"
)
NANO = (
    "RAM 1903/3964MB (lfb 48x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [8%@1428,off,off,5%@1428] "
    "EMC_FREQ 3%@1600 GR3D_FREQ 45%@921 APE 25 PLL@28C CPU@31.5C thermal@30C POM_5V_IN 2012/1900 POM_5V_GPU 40/40"
)


def values(readings: list[Reading]) -> dict[tuple[str, str], float]:
    assert len({(item.source, item.name, item.unit) for item in readings}) == len(readings)
    return {(item.name, item.unit): item.value for item in readings}


def test_tegrastats_of_an_orin_nano() -> None:
    assert values(parse_tegrastats(ORIN_NANO)) == {
        ("cores, mean", "MHz"): pytest.approx((1497 + 3 * 729) / 4),
        ("cores, lowest", "MHz"): 729,
        ("GPU", "%"): 99,
        ("GPU", "MHz"): 612,
        ("memory", "MHz"): 2133,
        ("cpu", "°C"): 57.125,
        ("soc2", "°C"): 55.093,
        ("tj", "°C"): 58.5,
        ("VDD_IN", "W"): 9.731,
        ("VDD_CPU_GPU_CV", "W"): 3.512,
    }


def test_what_is_switched_off_or_not_connected_is_absent() -> None:
    found = values(parse_tegrastats(AGX_ORIN))
    assert {name for name, unit in found if unit == "°C"} == {"CPU", "Tboard", "tj"}
    assert {name for name, unit in found if unit == "W"} == {"VDD_GPU_SOC", "VIN_SYS_5V0"}
    assert ("GPU", "MHz") not in found  # 0 is a GPU that sleeps


def test_tegrastats_of_older_boards() -> None:
    xavier, nano = values(parse_tegrastats(AGX_XAVIER)), values(parse_tegrastats(NANO))
    assert {name: value for (name, unit), value in xavier.items() if unit == "W"} == {
        "GPU": 0.465,
        "CPU": 0.31,
        "SYS5V": 1.776,
    }
    assert {name: value for (name, unit), value in xavier.items() if unit == "°C"} == {"AO": 25.5, "GPU": 26}
    assert nano[("GPU", "MHz")] == 921
    assert nano[("POM_5V_IN", "W")] == 2.012
    assert nano[("cores, lowest", "MHz")] == 1428


@given(st.text(max_size=300) | st.lists(st.sampled_from(ORIN_NANO.split(" ")), max_size=40).map(" ".join))
def test_any_line_is_survived(line: str) -> None:
    for item in (*parse_tegrastats(line), *parse_nvidia_smi(line)):
        assert abs(item.value) < 1e9
        assert item.name


def test_nvidia_smi() -> None:
    found = values(parse_nvidia_smi("0, 1980, 2619, 44, 121.36, 97, 1000"))
    assert found == {
        ("0 SM", "MHz"): 1980,
        ("0 memory", "MHz"): 2619,
        ("0 GPU", "°C"): 44,
        ("0 board", "W"): 121.36,
        ("0 busy", "%"): 97,
        ("0 memory", "MB"): pytest.approx(1048.576),
    }
    assert values(parse_nvidia_smi("1, [N/A], [Not Supported], 44, nan, 0, 1")).keys() == {
        ("1 GPU", "°C"),
        ("1 busy", "%"),
        ("1 memory", "MB"),
    }
    assert parse_nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") == []


@pytest.fixture
def tree(tmp_path: Path):
    """Write files of a folder that stands for /sys."""

    def write(files: dict[str, str | int]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path

    return write


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert cpu_clocks(tmp_path) == temperatures(tmp_path) == ina3221_power(tmp_path) == Rapl(tmp_path).read() == []
    assert not Rapl(tmp_path).forbidden
    with Sampler(zero=time.perf_counter(), root=tmp_path, programs=(), interval=0.01) as sampler:
        time.sleep(0.05)
    assert sampler.series() == []


def test_clocks_and_temperatures(tree) -> None:
    cpu, thermal, hwmon = "devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq", "class/thermal/", "class/hwmon/"
    sys_ = tree(
        {
            cpu.format(0): 1800000,
            cpu.format(1): 1200000,
            cpu.format(2): "<unknown>",
            thermal + "thermal_zone0/type": "x86_pkg_temp",
            thermal + "thermal_zone0/temp": 61500,
            thermal + "thermal_zone1/type": "CV0-therm",
            thermal + "thermal_zone1/temp": -256000,
            thermal + "thermal_zone2/type": "broken",
            hwmon + "hwmon0/name": "k10temp",
            hwmon + "hwmon0/temp1_label": "Tctl",
            hwmon + "hwmon0/temp1_input": 70250,
            hwmon + "hwmon1/name": "nvme",
            hwmon + "hwmon1/temp1_input": 40000,
        }
    )
    assert values(cpu_clocks(sys_)) == {("cores, mean", "MHz"): 1500, ("cores, lowest", "MHz"): 1200}
    assert values(temperatures(sys_)) == {("x86_pkg_temp", "°C"): 61.5, ("k10temp Tctl", "°C"): 70.25}


def test_rapl(tree) -> None:
    zone = "class/powercap/intel-rapl:0/"
    sys_ = tree(
        {
            zone + "name": "package-0",
            zone + "energy_uj": 5_000_000,
            zone + "max_energy_range_uj": 262_143_328_850,
            "class/powercap/intel-rapl:0:1/name": "dram",
            "class/powercap/intel-rapl:0:1/energy_uj": 99_000_000,
            "class/powercap/intel-rapl:0:1/max_energy_range_uj": 100_000_000,
        }
    )
    clock = iter([0.0, 2.0, 3.0])
    rapl = Rapl(sys_, clock=lambda: next(clock))
    tree({zone + "energy_uj": 35_000_000, "class/powercap/intel-rapl:0:1/energy_uj": 3_000_000})
    # 30 J in 2 s; the second counter began anew
    assert values(rapl.read()) == {("package-0", "W"): 15.0, ("package-0 dram", "W"): 2.0}
    assert values(rapl.read()) == {("package-0", "W"): 0.0, ("package-0 dram", "W"): 0.0}


def test_counters_that_may_not_be_read_are_noted(tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree({"class/powercap/intel-rapl:0/name": "package-0", "class/powercap/intel-rapl:0/energy_uj": 1})
    own = Path.open

    def refuse(path: Path, *arguments, **options):
        if path.name == "energy_uj":
            raise PermissionError
        return own(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    sampler = Sampler(zero=0, root=tmp_path, programs=())
    assert "only root may read" in sampler.notes[0]
    assert Rapl(tmp_path).read() == []


def test_ina3221_by_hwmon_and_by_iio(tree) -> None:
    new, old = "class/hwmon/hwmon3/", "bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
    sys_ = tree(
        {
            new + "name": "ina3221",
            new + "in1_label": "VDD_IN",
            new + "in1_input": 5000,
            new + "curr1_input": 1200,
            new + "in2_label": "NC",
            new + "in2_input": 0,
            new + "curr2_input": 0,
            new + "in3_label": "VDD_SOC",
            new + "in3_input": 5000,
            "class/hwmon/hwmon4/name": "other",
            "class/hwmon/hwmon4/in1_label": "VDD_OTHER",
            "class/hwmon/hwmon4/in1_input": 5000,
            "class/hwmon/hwmon4/curr1_input": 1000,
            old + "rail_name_0": "POM_5V_IN",
            old + "in_power0_input": 2345,
            old + "in_power1_input": 77,
        }
    )
    assert values(ina3221_power(sys_)) == {("VDD_IN", "W"): 6.0, ("POM_5V_IN", "W"): 2.345}


def test_settings(tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "nvpmodel"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NV Power Mode: MAXN_SUPER'\necho 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    cpu = "devices/system/cpu/"
    sys_ = tree(
        {
            cpu + "cpu0/cpufreq/scaling_governor": "powersave",
            cpu + "cpu1/cpufreq/scaling_governor": "performance",
            cpu + "cpu0/cpufreq/scaling_max_freq": 1728000,
            cpu + "intel_pstate/no_turbo": 1,
        }
    )
    found = machine_settings(sys_)
    assert found.pop("power_mode", "MAXN_SUPER") == "MAXN_SUPER"  # absent where /bin/sh cannot be run
    assert found == {"governor": "performance, powersave", "highest_clock": "1728 MHz", "boost": "off"}
    monkeypatch.setenv("PATH", "")
    assert machine_settings(tmp_path / "nothing") == {}


def test_sampler_reads_files_and_follows_programs(tree) -> None:
    sys_ = tree({"class/thermal/thermal_zone0/type": "cpu", "class/thermal/thermal_zone0/temp": 50000})
    script = f"import time\nfor _ in range(1000):\n print({ORIN_NANO!r}, flush=True)\n time.sleep(0.01)"
    programs = [([sys.executable, "-c", script], parse_tegrastats), (["no-such-program"], parse_tegrastats)]
    begin = time.perf_counter()
    with Sampler(zero=begin, root=sys_, programs=programs, interval=0.01) as sampler:
        while time.perf_counter() - begin < 10 and not {"cpu", "VDD_IN"} <= {s.name for s in sampler.series()}:
            time.sleep(0.02)
    found = {(series.source, series.name): series for series in sampler.series()}
    zone, rail = found["thermal", "cpu"], found["tegrastats", "VDD_IN"]
    assert set(zone.values) == {50.0}
    assert set(rail.values) == {9.731}
    assert all(len(series.seconds) == len(series.values) for series in found.values())
    assert zone.seconds == sorted(zone.seconds)
    count = len(rail.values)
    time.sleep(0.05)
    assert len(rail.values) == count  # the program has ended
