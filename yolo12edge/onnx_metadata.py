"""Reading the metadata of an ONNX file without the ``onnx`` package and without parsing its graph.

An ONNX file is one protobuf message, ``ModelProto``; its field 14, ``metadata_props``, is a list of key/value pairs.
The graph is skipped by its length, so that a file of any size is read in well under a millisecond.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from .errors import ArtifactError
from .protobuf import NotProtobufError, fields

__all__ = ["read_onnx_metadata"]

_METADATA_PROPS = 14
_LIMIT = 16 << 20  # bytes of all pairs together


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
            for number, start, length, value in fields(file, end):
                if number != _METADATA_PROPS or value is not None:
                    continue
                used += length
                if used > _LIMIT:
                    raise ArtifactError(f"the metadata of {path} takes more than {_LIMIT >> 20} MiB")
                key, text = _pair(file, start, length)
                if key in pairs:
                    raise ArtifactError(f"{path} has the metadata key {key!r} twice", remedy="export it again")
                pairs[key] = text
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except (NotProtobufError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path} is not an ONNX file, or is damaged: {error}", remedy="copy or export it again"
        ) from error
    return pairs


def _pair(file: BinaryIO, start: int, length: int) -> tuple[str, str]:
    parts = {1: b"", 2: b""}
    file.seek(start)
    for field in fields(file, start + length):
        if field.number in parts and field.value is None:
            file.seek(field.start)
            parts[field.number] = file.read(field.length)
    return parts[1].decode(), parts[2].decode()
