"""A Core ML package without an artifact around it: whose manifests lie in its metadata, one for each function.

A package may hold several programs, "functions", for several image sizes. Each is named by a path that goes on behind
the package, ``best.mlpackage/size_320x320``, so that whatever takes the path of a model takes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import ArtifactError, InputError
from ..manifest import COPY_AGAIN, EMBEDDED_KEY, Manifest
from .coreml_library import import_coremltools, read_package

__all__ = [
    "FUNCTIONS_KEY",
    "MAIN",
    "PACKAGE_SUFFIX",
    "description_of",
    "functions_json",
    "package_at",
    "package_files",
    "package_manifest",
    "package_manifests",
]

PACKAGE_SUFFIX = ".mlpackage"
FUNCTIONS_KEY = "functions"
"""Key of the list of functions among the metadata of a package."""
MAIN = "main"
"""Core ML's name of the only program of a package."""
_LIMIT = 64 << 20  # characters of that list


class _Function(msgspec.Struct, frozen=True):
    """One entry of the list; height and width are for those that do not read manifests."""

    name: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9_]+\Z")]
    height: int
    width: int
    manifest: msgspec.Raw


def package_at(path: Path) -> tuple[Path, str | None] | None:
    """Return the package that a path names, and the function if the path goes on with one; None of other paths."""
    if path.suffix == PACKAGE_SUFFIX and path.is_dir():
        return path, None
    if path.parent.suffix == PACKAGE_SUFFIX and path.parent.is_dir() and not path.exists():
        return path.parent, path.name
    return None


def package_files(package: Path) -> list[Path]:
    """Return the files of a package."""
    return sorted(path for path in package.rglob("*") if path.is_file())


def functions_json(manifests: Mapping[str, Manifest]) -> str:
    """Return the list of functions as it goes into the metadata: ASCII, the same for the same manifests.

    Args:
        manifests: By the name of the function; the first is the one that opens by itself.
    """
    entries = [
        {
            "name": name,
            "height": manifest.input.height,
            "width": manifest.input.width,
            "manifest": msgspec.json.decode(manifest.to_embedded_json()),
        }
        for name, manifest in manifests.items()
    ]
    return json.dumps(entries, separators=(",", ":"))


def package_manifests(package: Path) -> dict[str, Manifest]:
    """Return the manifest of each function, first of the one that opens by itself; ``main`` where there is only one.

    Raises:
        ArtifactError: If the package is damaged, or there is no such manifest.
        MissingDependencyError: If coremltools is not installed.
    """
    spec = read_package(import_coremltools(), package)
    metadata, source = spec.description.metadata.userDefined, f"the manifest in {package}"
    described = [one.name for one in spec.description.functions]
    key = FUNCTIONS_KEY if described else EMBEDDED_KEY
    text = metadata.get(key, "")
    if not text:
        raise ArtifactError(
            f"{package} has no manifest of yolo12edge in its metadata",
            remedy="export with 'yolo12edge export --format coreml'",
        )
    if not described:
        return {MAIN: Manifest.from_embedded_json(text, source=source)}
    if len(text) > _LIMIT:
        raise ArtifactError(f"the list of functions in {package} is too long", remedy=COPY_AGAIN)
    try:
        functions = msgspec.json.decode(text, type=list[_Function])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ArtifactError(f"the list of functions in {package} cannot be read", remedy=COPY_AGAIN) from error
    first, names = spec.description.defaultFunctionName, [one.name for one in functions]
    if sorted(names) != sorted(described) or len(set(names)) != len(names) or first not in names:
        raise ArtifactError(f"{package} contradicts itself: it lists other functions than it has", remedy=COPY_AGAIN)
    functions.sort(key=lambda one: one.name != first)
    return {one.name: Manifest.from_embedded_json(bytes(one.manifest), source=source) for one in functions}


def package_manifest(package: Path, function: str | None) -> Manifest:
    """Return the manifest of one function; None is the one that opens by itself.

    Raises:
        InputError: If there is no such function.
        ArtifactError: If the package is damaged, or there is no such manifest.
        MissingDependencyError: If coremltools is not installed.
    """
    manifests = package_manifests(package)
    if function is None:
        return next(iter(manifests.values()))
    if function not in manifests:
        raise InputError(
            f"{package} has no function {function!r}",
            expected=f"one of {', '.join(manifests)}",
            remedy=f"name {package / next(iter(manifests))}, say, or {package} alone",
        )
    return manifests[function]


def description_of(spec: Any, function: str | None) -> Any:
    """Return what describes input and outputs of a function; None is the one that opens by itself.

    Args:
        spec: A ``Model`` message.
        function: One that it has.

    Raises:
        ArtifactError: If it has none of that name.
    """
    description = spec.description
    named = {one.name: one for one in description.functions}
    name = function or description.defaultFunctionName
    if not named and name in ("", MAIN):
        return description
    if name not in named:
        raise ArtifactError(f"the package has no function {name!r}", expected=f"one of {', '.join(named) or MAIN}")
    return named[name]
