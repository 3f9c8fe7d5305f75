"""The files of a ``.mlpackage``: which one is the model, and what lies in its weight file."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy.typing as npt

from ...errors import ArtifactError
from .mil_types import DataType, damaged, from_packed

__all__ = ["Blob", "Package", "WeightFile", "WeightWriter"]

_MANIFEST = "Manifest.json"
_DATA = "Data"
_HERE = "@model_path/"

# The weight file, all little-endian: a header, then pairs of metadata and data, each at a multiple of 64 bytes.
_HEADER = struct.Struct("<II56x")  # number of blobs, version of the format
_ENTRY = struct.Struct("<IIQQQ32x")  # sentinel, element type, bytes, their beginning, unused bits
_ALIGNMENT = 64
_VERSION = 2
_SENTINEL = 0xDEADBEEF


class Package:
    """A package on disk, or its files in memory.

    Args:
        source: Path of the ``.mlpackage`` directory; or its files by relative path, whatever folder they begin with.

    Raises:
        ArtifactError: If there is no package, or its ``Manifest.json`` does not name a model.
    """

    def __init__(self, source: Path | Mapping[str, bytes]) -> None:
        self._root: Path | None = None
        self._files: Mapping[str, bytes] = {}
        if isinstance(source, Path):
            if not source.is_dir():
                raise ArtifactError(f"{source} is no CoreML package", expected="a directory NAME.mlpackage")
            self._root = source
        else:
            self._files = _without_folder(source)
        self._weights: dict[str, WeightFile] = {}
        self.model_path = self._find_model()

    def model(self) -> bytes:
        """Return the content of the model file.

        Raises:
            ArtifactError: If it cannot be read.
        """
        return self.read(self.model_path)

    def weights(self, name: str) -> WeightFile:
        """Return the weight file that a model calls ``@model_path/…``.

        Raises:
            ArtifactError: If there is none of this name, or it is not a weight file.
        """
        if not name.startswith(_HERE):
            raise damaged(f"weights are said to lie in {name!r}", expected=f"a name that begins with {_HERE!r}")
        path = str(PurePosixPath(self.model_path).parent / name.removeprefix(_HERE))
        if path not in self._weights:
            self._weights[path] = WeightFile(self.read(path), name=path)
        return self._weights[path]

    def read(self, path: str) -> bytes:
        """Return the content of a file of the package.

        Raises:
            ArtifactError: If there is none, or its name leads out of the package.
        """
        parts = path.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part or ":" in part for part in parts):
            raise damaged(f"it names a file {path!r}", expected="a path inside the package")
        if self._root is None:
            content = self._files.get(path)
            if content is None:
                raise damaged(f"it has no file {path!r}")
            return content
        try:
            return self._root.joinpath(*parts).read_bytes()
        except OSError as error:
            raise damaged(f"cannot read {path!r}: {error.strerror}") from error

    def _find_model(self) -> str:
        try:
            manifest = json.loads(self.read(_MANIFEST))
            path = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise damaged(f"{_MANIFEST} does not name a model") from error
        if not isinstance(path, str):
            raise damaged(f"{_MANIFEST} does not name a model")
        return f"{_DATA}/{path}"


class Blob(NamedTuple):
    """Elements in a weight file: the number of their type, how many of the last bits are unused, and all bits."""

    kind: int
    padding: int
    content: bytes


class WeightFile:
    """A weight file, in Apple's blob format of version 2.

    Args:
        content: Of the file.
        name: For messages.

    Raises:
        ArtifactError: If it has not the header of such a file.
    """

    def __init__(self, content: bytes, *, name: str) -> None:
        self._content = memoryview(content)
        self._name = name
        if len(content) < _HEADER.size or _HEADER.unpack_from(content)[1] != _VERSION:
            raise damaged(f"{name!r} is no weight file of version {_VERSION}")

    def array(self, offset: int, kind: DataType, count: int) -> npt.NDArray[Any]:
        """Return the elements that the metadata at an offset describes.

        Raises:
            ArtifactError: If there is no metadata, or it tells another type or number, or of bytes that are not there.
        """
        where = self._where(offset)
        blob = self.blob(offset)
        if blob.kind != kind.blob:
            raise damaged(f"{where} are of type {blob.kind}", expected=f"{kind.blob} ({kind.name})")
        bits = len(blob.content) * 8 - blob.padding
        if kind.bits < 8 and bits != count * kind.bits:
            raise damaged(f"{where} have {bits} bits", expected=f"{count * kind.bits}")
        return from_packed(blob.content, kind, count)

    def blob(self, offset: int) -> Blob:
        """Return what the metadata at an offset describes.

        Raises:
            ArtifactError: If there is no metadata, or it tells of bytes that are not there.
        """
        where = self._where(offset)
        if offset % _ALIGNMENT or offset < _HEADER.size or offset + _ENTRY.size > len(self._content):
            raise damaged(f"there can be no {where}")
        sentinel, kind, size, start, padding = _ENTRY.unpack_from(self._content, offset)
        if sentinel != _SENTINEL:
            raise damaged(f"there are no {where}")
        if start % _ALIGNMENT or start < offset + _ENTRY.size or start + size > len(self._content):
            raise damaged(f"{where} lie at {start}, {size} bytes, in a file of {len(self._content)}")
        return Blob(kind, padding, bytes(self._content[start : start + size]))

    def _where(self, offset: int) -> str:
        return f"weights at {offset} of {self._name!r}"


class WeightWriter:
    """Makes a weight file in which equal blobs are stored once."""

    def __init__(self) -> None:
        self._offsets: dict[Blob, int] = {}
        self._content = bytearray(_HEADER.size)

    def add(self, blob: Blob) -> int:
        """Return the offset of a blob's metadata."""
        if blob not in self._offsets:
            self._content += bytes(-len(self._content) % _ALIGNMENT)
            offset = self._offsets[blob] = len(self._content)
            start = offset + _ENTRY.size
            self._content += _ENTRY.pack(_SENTINEL, blob.kind, len(blob.content), start, blob.padding) + blob.content
        return self._offsets[blob]

    def content(self) -> bytes:
        """Return the file."""
        _HEADER.pack_into(self._content, 0, len(self._offsets), _VERSION)
        return bytes(self._content)


def _without_folder(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files by their path in the package: below the folder where ``Manifest.json`` lies."""
    folders = [path[: -len(_MANIFEST)] for path in files if path.endswith(_MANIFEST)]
    folders = [folder for folder in folders if not folder or folder.endswith(".mlpackage/")]
    if len(folders) != 1:
        raise ArtifactError(
            f"there are {len(folders)} CoreML packages in the files {sorted(files)[:8]}",
            expected="one Manifest.json",
        )
    return {path.removeprefix(folders[0]): content for path, content in files.items() if path.startswith(folders[0])}
