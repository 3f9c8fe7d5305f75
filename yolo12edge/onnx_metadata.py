"""Reading the metadata of an ONNX file without the ``onnx`` package and without parsing its graph.

An ONNX file is one protobuf message, ``ModelProto``; its field 14, ``metadata_props``, is a list of key/value pairs.
The graph is skipped by its length, so that a file of any size is read in well under a millisecond.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import ArtifactError

__all__ = ["read_onnx_metadata"]

_METADATA_PROPS = 14
_LIMIT = 16 << 20  # bytes of all pairs together


class _Damaged(Exception):
    """The bytes are not a protobuf message."""


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return the ``metadata_props`` of an ONNX file.

    Raises:
        ArtifactError: If the file is missing, is not a protobuf message, or has a key twice.
    """
    pairs: dict[str, str] = {}
    used = 0
    try:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            for field, start, length in _fields(file, end):
                if field != _METADATA_PROPS:
                    continue
                used += length
                if used > _LIMIT:
                    raise ArtifactError(f"the metadata of {path} takes more than {_LIMIT >> 20} MiB")
                key, value = _pair(file, start, length)
                if key in pairs:
                    raise ArtifactError(f"{path} has the metadata key {key!r} twice", remedy="export it again")
                pairs[key] = value
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except (_Damaged, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path} is not an ONNX file, or is damaged: {error}", remedy="copy or export it again"
        ) from error
    return pairs


def _pair(file: BinaryIO, start: int, length: int) -> tuple[str, str]:
    parts = {1: b"", 2: b""}
    file.seek(start)
    for field, at, size in _fields(file, start + length):
        if field in parts:
            file.seek(at)
            parts[field] = file.read(size)
    file.seek(start + length)
    return parts[1].decode(), parts[2].decode()


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, length) of each length-delimited field from the file's position to ``end``."""
    position = file.tell()
    while position < end:
        file.seek(position)
        tag = _varint(file)
        kind = tag & 7
        if kind == 0:
            _varint(file)
            position = file.tell()
        elif kind in (1, 5):
            position = file.tell() + (8 if kind == 1 else 4)
        elif kind == 2:
            length = _varint(file)
            start = file.tell()
            position = start + length
            if position <= end:
                yield tag >> 3, start, length
        else:
            raise _Damaged(f"unknown wire type {kind}")
        if position > end:
            raise _Damaged("it ends in the middle of a field")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise _Damaged("it ends in the middle of a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _Damaged("a number is too long")
