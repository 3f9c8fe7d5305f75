"""The coremltools library: importing it without its noise, and what Core ML offers on this machine."""

from __future__ import annotations

import json
import logging
import platform
from importlib import import_module
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, Literal

from ..errors import ArtifactError, BackendError, MissingDependencyError
from ..manifest import COPY_AGAIN

__all__ = [
    "Unit",
    "check_macos",
    "import_coremltools",
    "importing",
    "macos_version",
    "one_line",
    "read_package",
    "unit_of",
    "units_here",
]

Unit = Literal["cpu", "gpu", "ane"]
"""Where Core ML computes: the CPU, the GPU, the Neural Engine."""

# The first macOS that runs a version of the specification, and the iOS of the same year.
_SYSTEMS = {6: (12, 15), 7: (13, 16), 8: (14, 17), 9: (15, 18), 10: (26, 26)}
_DEVICES = (14, 0)
importing = RLock()
"""Held while something is changed that all of the process shares: a logger, filters of warnings."""


def import_coremltools() -> ModuleType:
    """Import ``coremltools`` without its remarks on torch, scikit-learn and the parts that only a Mac has.

    Raises:
        MissingDependencyError: If it is not installed.
        BackendError: If it is installed and does not load.
    """
    logger = logging.getLogger("coremltools")
    with importing:
        before = logger.disabled
        logger.disabled = True  # its level is set by coremltools itself
        try:
            return import_module("coremltools")
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] == "coremltools":
                raise MissingDependencyError("coremltools", extra="coreml", purpose="for Core ML") from error
            raise _broken(error) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise _broken(error) from error
        finally:
            logger.disabled = before


def macos_version() -> tuple[int, ...] | None:
    """Return the version of macOS, such as ``(14, 5)``; None on any other system."""
    if platform.system() != "Darwin":
        return None
    return tuple(int(part) for part in platform.mac_ver()[0].split(".") if part.isdigit())


def check_macos() -> tuple[int, ...]:
    """Return the version of macOS.

    Raises:
        BackendError: If this is another system.
    """
    version = macos_version()
    if version is None:
        raise BackendError(
            f"Core ML runs on macOS, and this is {platform.system() or 'another system'}",
            expected="a Mac for Core ML packages; here run ONNX and OpenVINO artifacts, and checkpoints",
            remedy="copy the artifact to a Mac, or export for this machine with --format onnx",
        )
    return version


def units_here(ct: ModuleType) -> frozenset[Unit]:
    """Return what Core ML can compute on here.

    Before macOS 14 nothing tells; then it is taken from the processor: Macs of Apple's own have a Neural Engine, and
    those of Intel's none.
    """
    if (macos_version() or ()) < _DEVICES:
        return frozenset(("cpu", "gpu", "ane") if platform.machine() == "arm64" else ("cpu", "gpu"))
    try:
        devices = ct.models.MLModel.get_available_compute_devices()
    except RuntimeError as error:
        raise BackendError(f"Core ML does not tell what it can compute on: {one_line(error)}") from error
    return frozenset(unit for device in devices if (unit := unit_of(ct, device)) is not None)


def unit_of(ct: ModuleType, device: Any) -> Unit | None:
    """Return which unit an ``MLComputeDevice`` is; None of one that is not known."""
    kinds = ct.models.compute_device
    named: tuple[tuple[Any, Unit], ...] = (
        (kinds.MLCPUComputeDevice, "cpu"),
        (kinds.MLGPUComputeDevice, "gpu"),
        (kinds.MLNeuralEngineComputeDevice, "ane"),
    )
    return next((unit for kind, unit in named if isinstance(device, kind)), None)


def read_package(ct: ModuleType, package: Path) -> Any:
    """Return the specification of an ML program, a ``Model`` message; nothing is compiled, nothing written.

    ``coremltools.utils.load_spec`` would write the package's ``Manifest.json`` anew, after which the artifact is not
    what was verified.

    Raises:
        ArtifactError: If it is damaged, no ML program, or for a later macOS than this one.
    """
    if not package.is_dir():
        raise ArtifactError(f"{package} is not a directory", expected="a .mlpackage", remedy=COPY_AGAIN)
    spec = ct.proto.Model_pb2.Model()
    try:
        spec.ParseFromString(_root_model(package).read_bytes())
    except Exception as error:  # of protobuf's own, and whatever JSON of another shape leads to
        raise ArtifactError(f"{package} cannot be read: {one_line(error)}", remedy=COPY_AGAIN) from error
    kind = spec.WhichOneof("Type")
    if kind in ("pipeline", "nonMaximumSuppression"):
        raise ArtifactError(
            f"{package} holds Apple's non-maximum suppression, for Vision and Xcode",
            expected="the package of the artifact, whose outputs the Runtime reads itself",
            remedy="name the artifact that was exported beside it",
        )
    if kind != "mlProgram":
        raise ArtifactError(f"{package} holds a {kind or 'model of no kind'}", expected="an ML program")
    needed = _SYSTEMS.get(spec.specificationVersion)
    here = macos_version()
    if here is not None and (needed is None or here < needed[:1]):
        system = f"macOS {needed[0]} (iOS {needed[1]})" if needed else "a macOS that is not known yet"
        raise ArtifactError(
            f"{package} needs {system}, and this is macOS {'.'.join(map(str, here))}",
            remedy=f"update macOS, or export with a lower --ios than {needed[1]}" if needed else "update yolo12edge",
        )
    return spec


def _root_model(package: Path) -> Path:
    """Return the file of the specification, which the package's own manifest names.

    Raises:
        OSError: If the manifest cannot be read.
        ValueError: If it is no JSON, or the file lies elsewhere.
        LookupError: If it names none.
    """
    index = json.loads((package / "Manifest.json").read_bytes())
    data = (package / "Data").resolve()
    name: str = index["itemInfoEntries"][index["rootModelIdentifier"]]["path"]
    model = (data / name).resolve()
    if not model.is_relative_to(data):
        raise ValueError("its model lies outside of it")
    return model


def one_line(error: Exception) -> str:
    """Return what an error says in one line: it may quote a file, with any length and any control character."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(char if char.isprintable() else "?" for char in text[:300]) + ("…" if len(text) > 300 else "")


def _broken(error: Exception) -> BackendError:
    return BackendError(
        f"coremltools is installed but does not load: {one_line(error)}",
        remedy="pip install --force-reinstall coremltools",
    )
