"""Reading inputs and outputs of an ONNX file without the ``onnx`` package; weights are skipped by their length."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from .errors import ArtifactError
from .protobuf import Field, NotProtobufError, fields
from .signature import Signature, Tensor

__all__ = ["read_onnx_signature"]

# Numbers of fields in ONNX's definition of its messages.
_GRAPH = 7  # ModelProto
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # GraphProto
_OP_TYPE = 4  # NodeProto
_DATA_TYPE, _TENSOR_NAME = 2, 8  # TensorProto
_NAME, _TYPE = 1, 2  # ValueInfoProto
_TENSOR_TYPE = 1  # TypeProto
_ELEMENT, _SHAPE = 1, 2  # TypeProto.Tensor
_DIMENSION = 1  # TensorShapeProto
_SIZE = 1  # its Dimension

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}
_HALF = 10
_QUANTIZING = {
    b"QuantizeLinear",
    b"DynamicQuantizeLinear",
    b"QLinearConv",
    b"QLinearMatMul",
    b"ConvInteger",
    b"MatMulInteger",
}
_LARGEST = 1 << 20  # bytes of one node, input or output without weights


def read_onnx_signature(path: Path) -> Signature:
    """Read what goes into an ONNX model and what comes out.

    Raises:
        ArtifactError: If the file is missing, or not ONNX.
    """
    reader = _Reader()
    try:
        with path.open("rb") as file:
            for field in fields(file, os.fstat(file.fileno()).st_size):
                if field.number == _GRAPH:
                    file.seek(field.start)
                    for part in fields(file, field.start + field.length):
                        reader.take(file, part)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except (NotProtobufError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path} is not an ONNX file, or is damaged: {error}", remedy="copy or export it again"
        ) from error
    # Old files list their weights among the inputs too.
    inputs = tuple(tensor for tensor in reader.inputs if tensor.name not in reader.weights)
    return Signature(inputs, tuple(reader.outputs), reader.quantized, reader.half)


class _Reader:
    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.weights: set[str] = set()
        self.quantized = self.half = False

    def take(self, file: BinaryIO, part: Field) -> None:
        """Look at one part of the graph."""
        if part.number == _INITIALIZER:
            file.seek(part.start)
            for field in fields(file, part.start + part.length):
                if field.number == _TENSOR_NAME:
                    self.weights.add(_bytes(file, field).decode())
                elif field.number == _DATA_TYPE:
                    self.half |= field.value == _HALF
        elif part.number == _NODE and not self.quantized and part.length <= _LARGEST:
            node = _bytes(file, part)
            self.quantized = any(
                field.number == _OP_TYPE and node[field.start : field.start + field.length] in _QUANTIZING
                for field in fields(BytesIO(node), len(node))
            )
        elif part.number in (_INPUT, _OUTPUT):
            (self.inputs if part.number == _INPUT else self.outputs).append(_tensor(_bytes(file, part)))


def _bytes(file: BinaryIO, field: Field) -> bytes:
    if field.length > _LARGEST:
        raise NotProtobufError("a name or type takes more than a megabyte")
    file.seek(field.start)
    return file.read(field.length)


def _parts(message: bytes) -> list[tuple[int, bytes | int]]:
    found: list[tuple[int, bytes | int]] = []
    for number, start, length, value in fields(BytesIO(message), len(message)):
        found.append((number, message[start : start + length] if value is None else value))
    return found


def _inner(message: bytes, number: int) -> bytes:
    """Return the last part of that number, as protobuf has it; nothing if there is none."""
    return next((part for at, part in reversed(_parts(message)) if at == number and isinstance(part, bytes)), b"")


def _tensor(info: bytes) -> Tensor:
    kind = _inner(_inner(info, _TYPE), _TENSOR_TYPE)
    element = next((part for number, part in _parts(kind) if number == _ELEMENT and isinstance(part, int)), 0)
    sizes: list[int | None] = []
    for number, dimension in _parts(_inner(kind, _SHAPE)):
        if number == _DIMENSION and isinstance(dimension, bytes):
            sizes.append(next((part for at, part in _parts(dimension) if at == _SIZE and isinstance(part, int)), None))
    return Tensor(_inner(info, _NAME).decode(), _DTYPES.get(element, f"ONNX type {element}"), tuple(sizes))
