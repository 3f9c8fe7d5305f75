"""The TensorRT libraries: importing either of the two, their version, and what they say while they work."""

from __future__ import annotations

import platform
import re
import sys
from collections import deque
from functools import cache
from importlib import import_module
from threading import RLock
from types import ModuleType
from typing import Any
from weakref import WeakSet

from ..errors import BackendError, MissingDependencyError
from ..manifest import TensorRtFormat

__all__ = [
    "Flavor",
    "LogKeeper",
    "build_number",
    "flavor_of",
    "import_tensorrt",
    "one_line",
    "platform_name",
    "version_of",
]

Flavor = TensorRtFormat
"""TensorRT, or TensorRT for RTX, whose engines are compiled to the end where they run."""

_MODULES: dict[Flavor, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_OLDEST: dict[Flavor, tuple[int, int, int]] = {"tensorrt": (10, 3, 0), "tensorrt-rtx": (1, 2, 0)}
_KEPT = 200  # messages of a kind
_LONGEST = 600  # characters of a message that is repeated


def import_tensorrt(flavor: Flavor) -> ModuleType:
    """Import a TensorRT library.

    Raises:
        MissingDependencyError: If it is not installed.
        BackendError: If it is installed and does not load, or is too old.
    """
    name = _MODULES[flavor]
    try:
        module = import_module(name)
    except (ImportError, OSError, RuntimeError) as error:  # its shared libraries are loaded by Python code of its own
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == name:
            raise MissingDependencyError(name, extra=flavor, purpose="to build and run its engines") from error
        raise BackendError(
            f"{name} is installed but does not load: {one_line(str(error))}",
            expected="its Python package and its shared libraries, of one version",
            remedy="install both again; on Jetson they come with JetPack (apt install tensorrt python3-libnvinfer)",
        ) from error
    version = version_of(module)
    if version < _OLDEST[flavor]:
        raise BackendError(
            f"{name} {module.__version__} is too old",
            expected=".".join(map(str, _OLDEST[flavor])) + " or newer",
            remedy="update it; on Jetson it comes with JetPack 6.1 and newer",
        )
    return module


def flavor_of(trt: ModuleType) -> Flavor:
    """Return which of the two libraries this is."""
    return "tensorrt-rtx" if trt.__name__ == "tensorrt_rtx" else "tensorrt"


def version_of(trt: ModuleType) -> tuple[int, int, int]:
    """Return major, minor and patch of a library: what an engine's own version is compared with.

    Raises:
        BackendError: If it does not tell, as an unfinished installation may not.
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", str(getattr(trt, "__version__", "")))
    if match is None:
        raise BackendError(f"{trt.__name__} does not tell its version", remedy="install it again")
    return int(match[1]), int(match[2]), int(match[3])


def build_number(trt: ModuleType) -> int | None:
    """Return the fourth number of its version, which some packages leave out."""
    match = re.match(r"\d+\.\d+\.\d+\.(\d+)", str(getattr(trt, "__version__", "")))
    return int(match[1]) if match else None


def platform_name() -> str:
    """Return system and processor as engines know them, such as ``linux-aarch64``."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"{system}-{machine}"


class LogKeeper:
    """Keeps what a library says, because what its calls return on failure is None.

    A library uses one logger for all that lives in the process at a time, the first that it was given. So there is one,
    for good, and every keeper that is alive hears all of it.

    Attributes:
        logger: The ``ILogger`` to hand to the library.
    """

    def __init__(self, trt: ModuleType) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT)
        self._warnings: deque[str] = deque(maxlen=_KEPT)
        self.logger = _logger_of(trt)
        with _speaking:
            _keepers.setdefault(trt.__name__, WeakSet()).add(self)

    def keep(self, severity: str, message: str) -> None:
        """Take a message; ``severity`` is the name of one of the library's."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors.append(one_line(message))
        elif severity == "WARNING":
            self._warnings.append(one_line(message))

    @property
    def errors(self) -> tuple[str, ...]:
        """The last errors, the oldest first."""
        return tuple(self._errors)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The last warnings, the oldest first, each once."""
        return tuple(dict.fromkeys(self._warnings))

    def last_error(self) -> str:
        """Return the last error, or a sentence that there was none."""
        return self._errors[-1] if self._errors else "it gave no reason"


_speaking = RLock()  # an object of the library that is collected meanwhile may speak, too
_keepers: dict[str, WeakSet[LogKeeper]] = {}


@cache
def _logger_of(trt: ModuleType) -> Any:
    """Return the one logger of a library, for good; its base class exists once the library is imported."""
    base: Any = trt.ILogger

    class Logger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            with _speaking:  # several threads of the library may
                listening = list(_keepers.get(trt.__name__, ()))
            for keeper in listening:
                keeper.keep(str(getattr(severity, "name", severity)), msg)

    return Logger()


def one_line(text: str) -> str:
    """Return a message of a library in one line fit for a terminal: it may quote a file, with any characters."""
    joined = " ".join(text.split())
    cut = joined[:_LONGEST] + ("…" if len(joined) > _LONGEST else "")
    return "".join(char if char.isprintable() else "?" for char in cut)
