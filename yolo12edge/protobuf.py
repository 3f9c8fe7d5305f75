"""The wire format of protocol buffers, as far as an ONNX file needs it: fields by number, large ones skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["Field", "NotProtobufError", "fields"]


class NotProtobufError(Exception):
    """The bytes are not a protobuf message; whoever reads a file says which."""


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: Its number in the message's definition.
        start: Where its content begins in the file, if it is text, bytes or a message; else 0.
        length: Length of that content in bytes; else 0.
        value: The number, if it is one of variable length; else None.
    """

    number: int
    start: int
    length: int
    value: int | None = None


def fields(file: BinaryIO, end: int) -> Iterator[Field]:
    """Yield the fields from the file's position to ``end``; content is not read, and the file may be moved between.

    Numbers of fixed length, which ONNX has no use for in its structure, are skipped.

    Raises:
        NotProtobufError: If that is no sequence of fields.
    """
    position = file.tell()
    while position < end:
        file.seek(position)
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            found = Field(number, 0, 0, _varint(file))
            position = file.tell()
        elif kind == 2:
            length = _varint(file)
            found = Field(number, file.tell(), length)
            position = found.start + length
        elif kind in (1, 5):
            position = file.tell() + (8 if kind == 1 else 4)
        else:
            raise NotProtobufError(f"unknown wire type {kind}")
        if position > end:
            raise NotProtobufError("it ends in the middle of a field")
        if kind in (0, 2):
            yield found


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise NotProtobufError("it ends in the middle of a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise NotProtobufError("a number is too long")
