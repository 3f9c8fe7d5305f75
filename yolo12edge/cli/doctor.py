"""``yolo12edge doctor``: which engines are usable on this machine and why not, what the machine is, what is fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError

if TYPE_CHECKING:
    import subprocess

__all__ = ["ENGINES", "Engine", "EngineState", "diagnose", "doctor", "gpu_names", "measurement"]


@dataclass(frozen=True, slots=True)
class Engine:
    """An inference engine that may be installed.

    Attributes:
        module: What is imported.
        extra: The extra of yolo12edge that brings it, where this version has one.
        distributions: Packages that contain the module; the first is the one to install.
        devices: Python expression over the imported module ``m``: a list of what it can run on.
        backend: Module of ``yolo12edge.runtimes`` that drives it.
        needs_nvidia: Whether it is of no use without a device, which is an NVIDIA GPU.
    """

    module: str
    extra: str
    distributions: tuple[str, ...]
    devices: str
    backend: str
    needs_nvidia: bool = False


_GPUS = "__import__('yolo12edge.cli.doctor', fromlist=['doctor']).gpu_names()"
_UNITS = "__import__('yolo12edge.cli.doctor', fromlist=['doctor']).apple_units(m)"

ENGINES = (
    Engine(
        "onnxruntime",
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn"),
        "m.get_available_providers()",
        "ort_backend",
    ),
    Engine("openvino", "openvino", ("openvino",), "list(m.Core().available_devices)", "openvino_backend"),
    Engine(
        "tensorrt",
        "tensorrt",
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        _GPUS,
        "tensorrt_backend",
        needs_nvidia=True,
    ),
    Engine("tensorrt_rtx", "tensorrt-rtx", ("tensorrt-rtx",), _GPUS, "tensorrt_backend", needs_nvidia=True),
    Engine("coremltools", "coreml", ("coremltools",), _UNITS, "coreml_backend"),
    Engine(
        "torch",
        "train",
        ("torch",),
        "['cpu'] + ['cuda'] * m.cuda.is_available() + ['mps'] * m.backends.mps.is_available()",
        "torch_backend",
    ),
)


@dataclass(frozen=True, slots=True)
class EngineState:
    """What was found of one engine.

    Attributes:
        name: Its module.
        usable: Whether ``Runtime`` can use it here.
        version: Of the installed package; None if there is none.
        devices: What it says it can run on, of what ``device`` can ask for.
        reason: Why it is not usable, or "".
        remedy: What to do about that, or "".
    """

    name: str
    usable: bool
    version: str | None
    devices: tuple[str, ...]
    reason: str
    remedy: str


def doctor(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Measure these models in place of the bundled ones.")
    ] = None,
    *,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Find the fastest engine, precision and thread count; takes about 20 s on an idle machine.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Test every engine and write what was found to this file, for others to read: no paths, no names. "
            "With TensorRT it builds engines, which takes minutes."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show which engines are usable on this machine, why the others are not, and with --measure which is the fastest.

    Exit code 1: no engine is usable, nothing could be measured, or a self-test of --report failed.
    """
    from ._doctor_tables import print_facts

    for path in models or []:
        if not path.exists():
            raise InputError(f"{path} does not exist", expected="an artifact, an .onnx or .xml file or a checkpoint")
    facts = diagnose()
    if measure or models:
        facts["measurement"] = measurement(facts["engines"], models or [])
    failed = _write_report(report, facts) if report is not None else False
    if json:
        typer.echo(_json(facts))
    else:
        print_facts(facts)
    measured = facts.get("measurement", {"advised": True})
    if not any(engine["usable"] for engine in facts["engines"]) or measured["advised"] is None or failed:
        raise typer.Exit(1)


def _write_report(place: Path, facts: dict[str, Any]) -> bool:
    """Run the self-tests and write the report; add their outcomes to the facts; return whether one failed."""
    from ..files import atomic_file
    from ._console import console
    from ._report import collect

    with atomic_file(place) as temporary:
        try:
            temporary.touch()  # before minutes are spent for a file that cannot be written
            content = collect(facts, progress=lambda name: console.status(f"Self-test: {name}"))
            temporary.write_text(_json(content) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {place}: {error.strerror}", remedy="name another file") from error
    facts["steps"] = content["steps"]
    console.print(f"Written: {place}. Look through it before you send it.", markup=False, soft_wrap=True)
    return any(step["outcome"] not in ("ok", "missing") for step in content["steps"])


def _json(facts: dict[str, Any]) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()


def apple_units(coremltools: Any) -> list[str]:
    """Return what Core ML can compute on.

    Raises:
        BackendError: If this is no Mac.
    """
    from ..runtimes.coreml_library import check_macos, units_here

    check_macos()
    return sorted(units_here(coremltools))


def gpu_names() -> list[str]:
    """Return the names of the GPUs that CUDA reaches.

    Raises:
        MissingDependencyError: If no package that binds the CUDA driver is installed.
        BackendError: If there is no driver, or it refuses to start.
    """
    from ..runtimes.cuda import open_cuda

    cuda = open_cuda()
    names = []
    for index in range(cuda.device_count()):
        device = cuda.open(index)
        facts = device.facts
        device.close()
        names.append(f"cuda:{index} ({facts.name}, {facts.architecture})")
    return names


def measurement(engines: list[dict[str, Any]], models: list[Path]) -> dict[str, Any]:
    """Measure for about 20 s, on an idle machine; return what ``doctor --measure --json`` adds.

    Keys: ``rows`` (each with the fields of ``Measured``), ``advised`` (one of them, or null), ``sentence`` and
    ``missing`` (sentences about engines that could not be measured).

    Args:
        engines: As in ``diagnose``.
        models: What to measure; empty for the bundled models.
    """
    from ..runtimes.cores import physical_cores
    from ._console import progress
    from ._measure import advise, bundled, given
    from ._measure import measure as measure_all

    @contextmanager
    def show(step: str) -> Iterator[Callable[[int, int | None], None]]:
        with progress(f"Measuring {step}", unit="frames") as steps:
            yield steps.update

    usable = [(engine["name"], engine["devices"]) for engine in engines if engine["usable"]]
    candidates = given(models) if models else bundled(usable)
    rows = measure_all(candidates, cores=physical_cores(), seconds=_MEASURE_SECONDS, progress=show)
    advised = advise(rows)
    return {
        "rows": [asdict(row) for row in rows],
        "advised": asdict(advised.best) if advised else None,
        "sentence": advised.sentence if advised else "Nothing could be measured.",
        "missing": [
            f"{engine['name']} was not measured: {engine['reason']}. {engine['remedy']}".strip()
            for engine in engines
            if engine["name"] in ("onnxruntime", "openvino") and not engine["usable"]
        ],
    }


def diagnose() -> dict[str, Any]:
    """Return what ``doctor --json`` prints.

    Keys: ``yolo12edge`` (its version), ``machine`` (as ``machine_summary``), ``gpus``, ``engines`` (each with the
    fields of ``EngineState``) and ``advice`` (sentences).
    """
    from .. import __version__
    from ..machine import machine_summary, nvidia_gpus

    gpus = nvidia_gpus()
    return {
        "yolo12edge": __version__,
        "machine": machine_summary(),
        "gpus": gpus,
        "engines": [asdict(state) for state in probe(ENGINES)],
        "advice": advice(),
    }


def advice() -> list[str]:
    """Return what the processor means for INT8, in sentences."""
    import platform

    from ..machine import cpu_features, has_vnni, int8_saturates

    features = cpu_features()
    if has_vnni():
        return ["VNNI: INT8 has its fast instructions here, with 8-bit weights."]
    if int8_saturates():
        return [
            "No VNNI: INT8 sums saturate on this processor, in ONNX Runtime and OpenVINO, so use 7-bit weights for it "
            "(the exporter's choice on such a machine); INT8 may be no faster than float here: measure."
        ]
    if features & {"dotprod", "i8mm"}:
        return ["ARM dot product: INT8 has its fast instructions here, with 8-bit weights."]
    if features:
        return ["No dot-product instructions: INT8 may be no faster than float here: measure."]
    return [f"The features of this processor ({platform.machine()}) are not known: measure INT8 against float."]


def probe(engines: tuple[Engine, ...]) -> list[EngineState]:
    """Import every installed engine in a process of its own, all at the same time.

    A process of its own because a broken native library may end the process that loads it.
    """
    from importlib.util import find_spec

    running = [_start(engine) if find_spec(engine.module) else None for engine in engines]
    return [
        _state(engine, _finish(process) if process else None) for engine, process in zip(engines, running, strict=True)
    ]


_MARK = "yolo12edge-doctor:"  # engines may print on import; the answer is the line with this mark
_PROBE = """
import sys
sys.path[:] = {paths!r}
sys.modules["openvino_telemetry"] = None  # or importing openvino would report to a server
import json, importlib
m = importlib.import_module({module!r})
answer = {{"version": str(getattr(m, "__version__", "")).split("-")[0], "devices": []}}
try:
    answer["devices"] = [str(item) for item in {devices}]
except Exception as error:
    answer["error"] = getattr(error, "fact", f"it cannot list its devices: {{error}}")
    answer["remedy"] = getattr(error, "remedy", "")
print({mark!r} + json.dumps(answer))
"""
_SECONDS = 120
_MEASURE_SECONDS = 17.0  # finding the engines and opening the last models takes the rest of 20 s


def _start(engine: Engine) -> subprocess.Popen[str]:
    import subprocess
    import sys

    code = _PROBE.format(module=engine.module, devices=engine.devices, mark=_MARK, paths=sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the probe's answer; ``error`` says why there is none."""
    import json
    import subprocess

    try:
        output, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"error": f"importing it took more than {_SECONDS} s"}
    for line in output.splitlines():
        if line.startswith(_MARK):
            answer: dict[str, Any] = json.loads(line[len(_MARK) :])
            return answer
    if process.returncode < 0:
        return {"error": f"importing it crashed with signal {-process.returncode}"}
    last = errors.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
    return {"error": f"importing it failed: {last[0]}"}


def _state(engine: Engine, answer: dict[str, Any] | None) -> EngineState:
    versions = _versions(engine.distributions)
    installed = ", ".join(f"{name} {version}" for name, version in versions.items())
    reason = remedy = ""
    if not _has_backend(engine):
        reason = "this version of yolo12edge has no backend for it"
    elif answer is None:
        reason, remedy = "not installed", _install(engine)
    elif "error" in answer:
        reinstall = f"pip install --force-reinstall {next(iter(versions), engine.module)}"
        reason, remedy = answer["error"], answer.get("remedy") or reinstall
    elif engine.needs_nvidia and not answer["devices"]:
        reason, remedy = "no NVIDIA GPU found", "install the NVIDIA driver, if there is a GPU, so that nvidia-smi runs"
    if answer is not None and engine.module == "onnxruntime" and len(versions) > 1:
        reason = f"{installed} are installed together and overwrite each other"
        remedy = f"pip uninstall {' '.join(versions)}, then install one of them"
    answer = answer or {}
    devices = answer.get("devices", ())
    if engine.module == "onnxruntime":  # it also lists what no device of ours stands for
        from ..runtimes.ort_backend import _PROVIDERS

        devices = [device for device in devices if device in _PROVIDERS.values()]
    return EngineState(
        name=engine.module,
        usable=not reason,
        version=answer.get("version") or next(iter(versions.values()), None),
        devices=tuple(devices),
        reason=reason,
        remedy=remedy,
    )


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _install(engine: Engine) -> str:
    """Return the command that installs an engine: by our extra, where the installed yolo12edge has it."""
    from importlib.metadata import PackageNotFoundError, metadata

    from ..errors import install_remedy

    try:
        extras = metadata("yolo12edge").get_all("Provides-Extra") or []
    except PackageNotFoundError:  # run from a checkout that is not installed
        extras = []
    if engine.extra in extras:
        return install_remedy(engine.module, engine.extra)
    return f"pip install {engine.distributions[0]}"


def _has_backend(engine: Engine) -> bool:
    from importlib.util import find_spec

    return find_spec(f"yolo12edge.runtimes.{engine.backend}") is not None
