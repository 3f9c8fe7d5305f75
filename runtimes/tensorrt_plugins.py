"""Plugins: operators of our own that TensorRT must know before it parses a model or reads an engine that has them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BackendError
from .tensorrt_library import flavor_of, one_line

__all__ = ["PLUGIN_REMEDY", "PLUGIN_VARIABLE", "PLUGIN_VERSION", "find_creator", "load_plugins"]

PLUGIN_VARIABLE = "YOLO12EDGE_TENSORRT_PLUGIN"
"""Environment variable that names the shared library."""
PLUGIN_VERSION = "1"
PLUGIN_REMEDY = (
    f"build the plugin for this TensorRT (docs/tensorrt.md) and let {PLUGIN_VARIABLE} name its shared library, or "
    "export with --attention native, which needs none"
)


def load_plugins(trt: ModuleType, names: Sequence[str]) -> None:
    """Make sure that plugins are registered; load the library that the environment names where one is not.

    Args:
        trt: The library.
        names: As ``namespace::name``. With none, nothing is done.

    Raises:
        BackendError: If there is no such library, it does not load, or it does not register one of them; always of
            TensorRT for RTX, whose Python package has no way to use plugins.
    """
    missing = [name for name in names if flavor_of(trt) == "tensorrt-rtx" or find_creator(trt, name) is None]
    if not missing:
        return
    if flavor_of(trt) == "tensorrt-rtx":
        raise BackendError(
            f"the model needs the plugin {missing[0]}, and tensorrt-rtx takes no plugins from Python",
            remedy="export with --attention native",
        )
    library = _library(missing[0])
    try:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # tells why it does not load; the registry would not
    except OSError as error:
        raise BackendError(
            f"the plugin library does not load: {one_line(str(error))}",
            expected="one for this processor, whose own libraries are found",
            remedy=PLUGIN_REMEDY,
        ) from error
    registry = trt.get_plugin_registry()
    if any(find_creator(trt, name) is None for name in missing) and hasattr(registry, "load_library"):
        registry.load_library(str(library))
    for name in missing:
        if find_creator(trt, name) is None:
            raise BackendError(
                f"{library} does not register the plugin {name}, version {PLUGIN_VERSION}",
                expected=f"a library built against the headers of TensorRT {trt.__version__}",
                remedy=PLUGIN_REMEDY,
            )


def find_creator(trt: ModuleType, name: str) -> Any | None:
    """Return the creator that is registered for ``namespace::name``, or None."""
    namespace, _, kind = name.rpartition("::")
    registry = trt.get_plugin_registry()
    creators = None if registry is None else registry.all_creators
    if registry is not None and creators is None:  # one of them is of a kind that the bindings do not know
        return registry.get_creator(kind, PLUGIN_VERSION, namespace)
    for creator in creators or ():  # by name, the library would log an error where there is none
        found = tuple(getattr(creator, key, None) for key in ("plugin_namespace", "name", "plugin_version"))
        if found == (namespace, kind, PLUGIN_VERSION):
            return creator
    return None


def _library(name: str) -> Path:
    value = os.environ.get(PLUGIN_VARIABLE, "")
    if not value:
        raise BackendError(f"the model needs the plugin {name}, and {PLUGIN_VARIABLE} is not set", remedy=PLUGIN_REMEDY)
    library = Path(value).absolute()
    if not library.is_file():
        raise BackendError(f"{PLUGIN_VARIABLE} names {library}, which is no file", remedy=PLUGIN_REMEDY)
    return library
