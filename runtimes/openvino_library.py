"""The OpenVINO library: importing it without telemetry, and reading models with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import ArtifactError, ExportError, MissingDependencyError
from ..openvino_metadata import find_weights

if TYPE_CHECKING:
    import openvino

__all__ = ["import_nncf", "import_openvino", "openvino_core", "read_network", "reason_of"]

_TELEMETRY = "openvino_telemetry"
_importing = Lock()
_cores: dict[int, openvino.Core] = {}
"""By process. Never destroyed: see ``openvino_core``."""


def import_openvino() -> ModuleType:
    """Import ``openvino`` without its telemetry; every use of it in this package goes through here.

    The import itself would report to Google Analytics, and start a process for that. OpenVINO keeps silent where the
    package ``openvino_telemetry`` is not installed, so that is what it gets to see.

    Raises:
        MissingDependencyError: If openvino is not installed.
    """
    with _importing, _hidden(_TELEMETRY):
        try:
            import openvino
        except ImportError as error:
            raise MissingDependencyError("openvino", extra="openvino", purpose="to run OpenVINO models") from error
    return openvino  # type: ignore[no-any-return]


def openvino_core() -> openvino.Core:
    """Return this process's ``openvino.Core``; every use of it in this package goes through here.

    There is one, and it is never destroyed. A core's CPU plugin gives the thread that makes it another stack for
    signals; destroyed by another thread, it frees that stack but leaves it in use, and the next signal that Python
    handles, be it Ctrl-C or the end of a child, ends the process with a segmentation fault (OpenVINO 2026.4). A forked
    child gets a core of its own, because threads of the inherited one are not there.

    Raises:
        MissingDependencyError: If openvino is not installed.
    """
    ov = import_openvino()
    with _importing:
        core = _cores.get(os.getpid())
        if core is None:
            core = _cores[os.getpid()] = ov.Core()
            # Weights mapped from the file would change under a running model, or end the process, if the file is
            # rewritten.
            core.set_property({"ENABLE_MMAP": False})
    return core


def import_nncf() -> ModuleType:
    """Import ``nncf`` without its telemetry, which is OpenVINO's.

    Raises:
        MissingDependencyError: If openvino is not installed.
        ExportError: If nncf is not.
    """
    import_openvino()
    with _importing, _hidden(_TELEMETRY):
        try:
            import nncf
        except ImportError as error:
            raise ExportError("the package 'nncf' is not installed", remedy="pip install nncf") from error
    return nncf  # type: ignore[no-any-return]


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let a package look as if it was not installed."""
    modules = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == package}
    sys.modules[package] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(modules)


def read_network(core: openvino.Core, model: Path | bytes) -> openvino.Model:
    """Read a model.

    ONNX is simplified the way OpenVINO's own converter does it. Compiling would do so too, but in another order, which
    moves the roundings of an INT8 model: so an ONNX model and the ``.xml`` made of it give the same numbers.

    Args:
        core: OpenVINO.
        model: Path of an ``.xml`` file, whose weights lie beside it in a ``.bin``, or of an ``.onnx`` file; or the
            content of an ``.onnx`` file.

    Raises:
        ArtifactError: If OpenVINO cannot read it, or the ``.bin`` is missing or cannot be the one of the ``.xml``.
    """
    try:
        if isinstance(model, Path) and model.suffix.lower() == ".xml":
            return _named(core.read_model(str(model), str(find_weights(model))))
        network = core.read_model(model if isinstance(model, bytes) else str(model))
        # What ``openvino.convert_model`` does; that one would report its use if OpenVINO was imported by others.
        from openvino._offline_transformations import apply_moc_transformations

        apply_moc_transformations(network, cf=False)
    except RuntimeError as error:
        what = "the model" if isinstance(model, bytes) else model
        raise ArtifactError(
            f"OpenVINO cannot read {what}: {reason_of(error)}", remedy="export it again, or update openvino"
        ) from error
    return network


def _named(network: openvino.Model) -> openvino.Model:
    """Give outputs without a name the one that ``read_openvino_metadata`` gives them; models from PyTorch have none."""
    for number, output in enumerate(network.outputs):
        if not output.get_names():
            output.get_tensor().set_names({f"output{number}"})
    return network


def reason_of(error: Exception) -> str:
    """Return what an error of OpenVINO says in one line, without where in its source it was raised.

    It may quote a file, hence any length and control characters.
    """
    lines = (line.strip() for line in str(error).splitlines())
    text = " ".join(line for line in lines if line and not line.startswith("Exception from"))
    return "".join(char if char.isprintable() else "?" for char in text[:300]) + ("…" if len(text) > 300 else "")
