"""``doctor --report``: what somebody else must know to understand what happens on this machine, and nothing private."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._selftest import MARK

__all__ = ["SelfTest", "collect", "jetson", "run", "scrubbed", "self_tests"]

_SCHEMA_VERSION = 1
_SECONDS = 120.0
_BUILD_SECONDS = 1200.0
_LAST_LINES = 15
_CHILD = "yolo12edge.cli._selftest"
_PACKAGES = (
    *("yolo12edge", "numpy", "opencv-python", "opencv-python-headless", "msgspec", "onnx"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "torch", "triton"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-cu12-libs", "tensorrt-cu13-libs", "tensorrt-rtx"),
    *("cuda-bindings", "cuda-python", "pycuda", "nvidia-cuda-runtime-cu12", "nvidia-ml-py"),
)
_DEBIAN_PACKAGES = (
    "nvidia-jetpack",
    "nvidia-l4t-core",
    "tensorrt",
    "libnvinfer10",
    "libnvinfer8",
    "python3-libnvinfer",
)
_DEFAULT_NAMES = {"root", "user", "ubuntu", "nvidia", "jetson", "localhost"}
# Two folders at least, so that "1/2" and "FP16/INT8" stay; the last part of a path tells nobody who or where.
_NAME = r"[^\s/\\'\"<>|:,;()\[\]]+"
_PATHS = re.compile(rf"(?<![\w./~])(?!//)(?:[A-Za-z]:)?(?:[/\\]{_NAME})+[/\\]({_NAME})")
_UUIDS = re.compile(r"\b(?:GPU-|MIG-)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.I)


def collect(
    facts: dict[str, Any], *, progress: Callable[[str], AbstractContextManager[object]], folder: Path = Path("/")
) -> dict[str, Any]:
    """Return the report: what ``doctor --json`` prints, and what follows.

    Keys: ``schema_version``, ``settings`` (governor, power mode …), ``jetson`` (or null), ``packages`` (versions of
    what is installed) and ``steps`` (one a self-test, as ``run`` returns them).

    Args:
        facts: Of ``doctor.diagnose``.
        progress: Shows the name of a self-test while it runs.
        folder: What stands for ``/``.
    """
    from ..benchmark.sensors import machine_settings

    steps = []
    for test in self_tests(facts):
        with progress(test.name):
            steps.append(run(test))
    report = {
        "schema_version": _SCHEMA_VERSION,
        **facts,
        "settings": machine_settings(folder / "sys"),
        "jetson": jetson(folder),
        "packages": _versions(),
        "steps": steps,
    }
    found = scrubbed(report, private=private_names())
    assert isinstance(found, dict)
    return found


def jetson(folder: Path = Path("/")) -> dict[str, Any] | None:
    """Return what JetPack a Jetson has and whether its clocks are held; None elsewhere.

    Keys: ``l4t`` such as ``36.4.3``, ``packages`` (versions by name) and ``clocks_held`` for ``cpu`` and ``gpu``:
    whether the lowest clock is the highest, as ``jetson_clocks`` sets them, or null where that is not told.
    """
    from ..benchmark.sensors.readings import text_in

    release = text_in(folder / "etc/nv_tegra_release")
    if release is None and "Jetson" not in (text_in(folder / "proc/device-tree/model") or ""):
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release or "")
    cpus = folder.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    gpus = (path for path in folder.glob("sys/class/devfreq/*") if re.search(r"gpu|gv11b|ga10b|gb10b", path.name))
    return {
        "l4t": f"{found[1]}.{found[2]}" if found else None,
        "packages": _debian_versions(),
        "clocks_held": {
            "cpu": _held((path / "scaling_min_freq", path / "scaling_max_freq") for path in cpus),
            "gpu": _held((path / "min_freq", path / "max_freq") for path in gpus),
        },
    }


def _held(pairs: Iterator[tuple[Path, Path]]) -> bool | None:
    from ..benchmark.sensors.readings import number_in

    limits = [(number_in(low), number_in(high)) for low, high in pairs]
    return all(low == high for low, high in limits) if limits and None not in {*sum(limits, ())} else None


def _debian_versions() -> dict[str, str]:
    from ..machine import _run

    output = _run(["dpkg-query", "-W", "-f=${Package}\\t${Version}\\n", *_DEBIAN_PACKAGES])
    rows = (line.split("\t") for line in output.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2 and row[1]}


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def private_names() -> list[str]:
    """Return the names of this user and machine, where they are no more than what an installer suggests."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        user = ""
    host = socket.gethostname()
    names = {user, host, host.partition(".")[0], Path.home().name}
    return sorted((name for name in names - _DEFAULT_NAMES if len(name) > 1), key=len, reverse=True)


def scrubbed(value: object, *, private: Sequence[str]) -> object:
    """Return JSON-ready data without paths, identifiers of devices and private names, wherever they stand."""
    if isinstance(value, dict):
        return {key: scrubbed(item, private=private) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrubbed(item, private=private) for item in value]
    if not isinstance(value, str):
        return value
    text = _UUIDS.sub("<id>", value)
    for folder in sorted({str(Path.home()), str(Path.cwd()), sys.prefix}, key=len, reverse=True):
        if len(folder) > 1:
            text = re.sub(rf"{re.escape(folder)}(?=[/\\\\])", "", text)  # it may hold spaces
    text = _PATHS.sub(r"…/\1", text)
    for name in private:
        text = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", "<name>", text)
    return text


@dataclass(frozen=True, slots=True)
class SelfTest:
    """One process.

    Attributes:
        name: For people.
        function: What it runs, a function of ``_selftest`` that yields what it has done.
        arguments: Of the function.
        seconds: How long it may take.
    """

    name: str
    function: str
    arguments: tuple[str, ...] = ()
    seconds: float = _SECONDS


def self_tests(facts: dict[str, Any]) -> list[SelfTest]:
    """Return the self-tests for what is here.

    Args:
        facts: Of ``doctor.diagnose``.
    """
    found = []
    for engine in facts["engines"]:
        name, devices = engine["name"], engine["devices"]
        if name in ("onnxruntime", "openvino") and engine["usable"]:
            device, listed = {"onnxruntime": ("cuda", "CUDAExecutionProvider"), "openvino": ("gpu", "GPU")}[name]
            kinds = ["cpu", *([device] if listed in devices else [])]
            found += [SelfTest(f"{name} on {kind}", "run_bundled", (name, kind)) for kind in kinds]
    installed = [engine["name"] for engine in facts["engines"] if engine["version"] is not None]
    flavors = [name.replace("_", "-") for name in ("tensorrt", "tensorrt_rtx") if name in installed]
    if facts["gpus"] or flavors:
        found += [SelfTest("CUDA", "reach_gpus"), SelfTest("letterbox on the GPU", "letterbox_on_gpu")]
    for flavor in flavors:
        for precision in ("fp32", "fp16"):
            found.append(SelfTest(f"{flavor} {precision}", "make_engine", (flavor, precision), _BUILD_SECONDS))
    return found


def run(test: SelfTest) -> dict[str, Any]:
    """Run a self-test in a process of its own.

    Returns:
        ``name``; ``outcome``: ``ok``, ``failed``, ``missing`` (a package is not installed), ``crashed`` or
        ``timed out``; ``seconds``; ``parts``: what was done, each with ``part``, ``seconds`` and what was found; and
        ``text``, the error, unless it is ok.
    """
    call = f"child({test.function!r}, {test.arguments!r})"
    code = f"import sys; sys.path[:] = {sys.path!r}; from {_CHILD} import child; {call}"
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    late = False
    try:
        output, errors = process.communicate(timeout=test.seconds)
    except subprocess.TimeoutExpired:
        late = True
        process.kill()
        output, errors = process.communicate()
    except BaseException:
        process.kill()
        process.communicate()
        raise
    lines = list(_lines(output))
    end = next((line for line in lines if "outcome" in line), None)
    parts = [line for line in lines if "part" in line]
    status = process.returncode
    if late or end is None or (status and end["outcome"] == "ok"):  # it may crash at its very end, too
        how = f"ended with signal {-status}" if status < 0 else f"exit status {status}"
        how = f"took more than {test.seconds:g} s" if late else how
        where = f"after {parts[-1]['part']!r}" if parts else "at the beginning"
        last = "\n".join(errors.strip().splitlines()[-_LAST_LINES:])
        end = {"outcome": "timed out" if late else "crashed", "text": f"{how}, {where}\n{last}".strip()}
    return {"name": test.name, **end, "seconds": round(time.monotonic() - begin, 2), "parts": parts}


def _lines(output: str) -> Iterator[dict[str, Any]]:
    """Give what a child has said; its last line may be half of one."""
    for line in output.splitlines():
        if line.startswith(MARK):
            with suppress(ValueError):
                yield json.loads(line[len(MARK) :])
