"""The types of MIL: what their values are in memory, and how a model file and a weight file hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ArtifactError
from ...manifest import COPY_AGAIN

__all__ = [
    "LARGEST",
    "Constant",
    "DataType",
    "TensorType",
    "damaged",
    "from_packed",
    "type_named",
    "type_numbered",
    "unpack",
]

LARGEST = 1 << 28
"""Elements of the largest tensor that is accepted: 1 GiB in float32, a hundred times what YOLO12x needs at 1280."""


@dataclass(frozen=True, slots=True)
class DataType:
    """An element type.

    Attributes:
        name: As ``cast`` and ``quantize`` call it.
        number: In a model file (``DataType`` of ``MIL.proto``).
        bits: Of one element where it is stored.
        array: What NumPy holds it in; elements below a byte take a byte each.
        blob: Its number in a weight file; None where it cannot lie there.
        field: Where a model file holds such values in place, of the fields of ``TensorValue``.
    """

    name: str
    number: int
    bits: int
    array: npt.DTypeLike
    blob: int | None
    field: str


_TYPES = (
    DataType("bool", 1, 8, np.bool_, None, "bools"),
    DataType("string", 2, 0, np.str_, None, "strings"),
    DataType("fp16", 10, 16, np.float16, 1, "bytes"),
    DataType("fp32", 11, 32, np.float32, 2, "floats"),
    DataType("int8", 21, 8, np.int8, 4, "bytes"),
    DataType("int16", 22, 16, np.int16, 6, "ints"),
    DataType("int32", 23, 32, np.int32, 14, "ints"),
    DataType("int4", 25, 4, np.int8, 8, "bytes"),
    DataType("uint8", 31, 8, np.uint8, 3, "bytes"),
    DataType("uint16", 32, 16, np.uint16, 7, "ints"),
    DataType("uint32", 33, 32, np.uint32, 15, "bytes"),
    DataType("uint4", 35, 4, np.uint8, 11, "bytes"),
    DataType("uint2", 36, 2, np.uint8, 10, "bytes"),
    DataType("uint1", 37, 1, np.uint8, 9, "bytes"),
    DataType("uint6", 38, 6, np.uint8, 13, "bytes"),
    DataType("uint3", 39, 3, np.uint8, 12, "bytes"),
)
_BY_NUMBER = {kind.number: kind for kind in _TYPES}
_BY_NAME = {kind.name: kind for kind in _TYPES}


@dataclass(frozen=True, slots=True)
class TensorType:
    """The declared type of a value.

    Attributes:
        dtype: Name of the element type; empty for what is no tensor (a list, a dictionary, a state).
        shape: Sizes, None where a size is open; None if the rank is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def admits(self, dtype: str, shape: tuple[int, ...]) -> bool:
        """Whether a value of this type and shape may stand here."""
        if dtype != self.dtype:
            return False
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            wanted in (None, size) for size, wanted in zip(shape, self.shape, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.dtype} {'of any rank' if self.shape is None else list(self.shape)}"


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that the program holds: a tensor, or for ``"string"`` an array of text."""

    dtype: str
    array: npt.NDArray[Any]


def damaged(fact: str, *, expected: str = "") -> ArtifactError:
    """Return the error for a package that cannot be what somebody wrote."""
    return ArtifactError(f"the CoreML package is damaged: {fact}", expected=expected, remedy=COPY_AGAIN)


def type_numbered(number: int) -> DataType:
    """Return an element type by its number in a model file.

    Raises:
        ArtifactError: If it is not known here.
    """
    kind = _BY_NUMBER.get(number)
    if kind is None:
        known = ", ".join(kind.name for kind in _TYPES)
        raise damaged(f"element type {number} is not known here", expected=f"one of {known}")
    return kind


def type_named(name: str) -> DataType:
    """Return an element type by its name.

    Raises:
        ValueError: If there is none of this name.
    """
    kind = _BY_NAME.get(name)
    if kind is None:
        raise ValueError(f"element type {name!r} is not known")
    return kind


def from_packed(content: bytes, kind: DataType, count: int) -> npt.NDArray[Any]:
    """Return ``count`` elements out of bytes; below a byte they lie one after the other, lowest bits first.

    Raises:
        ArtifactError: If there are not exactly the bytes of so many elements.
    """
    if len(content) != (count * kind.bits + 7) // 8:
        raise damaged(f"{count} elements of {kind.name} are said to lie in {len(content)} bytes")
    if kind.bits >= 8:
        return np.frombuffer(content, np.dtype(kind.array).newbyteorder("<")).astype(kind.array, copy=False)
    return unpack(np.frombuffer(content, np.uint8), kind.bits, count, signed=kind.name.startswith("int"))


def unpack(content: npt.NDArray[np.uint8], bits: int, count: int, *, signed: bool = False) -> npt.NDArray[Any]:
    """Return ``count`` whole numbers of ``bits`` bits each out of bytes, lowest bits first; a byte for each."""
    flat = np.unpackbits(content, bitorder="little", count=count * bits).reshape(count, bits)
    whole = np.packbits(flat, axis=1, bitorder="little")[:, 0]
    if not signed:
        return whole
    top = np.uint8(1 << (bits - 1))
    return ((whole ^ top).astype(np.int16) - int(top)).astype(np.int8)
