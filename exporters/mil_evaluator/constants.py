"""Compressed constants: what their ``constexpr`` operators make of them, once, when a program is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .mil_types import LARGEST, Constant, type_named, unpack

__all__ = ["CONSTANT_OPERATORS", "expand"]

_Array = npt.NDArray[Any]
_Inputs = Mapping[str, Constant]


def expand(kind: str, inputs: _Inputs) -> Constant:
    """Return the constant that a ``constexpr`` operator makes of others.

    It is computed in float32 and stored in the type of the scale or table, which rounds once.

    Raises:
        ValueError: If the inputs do not fit each other.
        KeyError: If one is missing.
    """
    return CONSTANT_OPERATORS[kind](inputs)


def _affine(inputs: _Inputs) -> Constant:
    """``scale * (quantized_data - zero_point)``, a scalar or one value for each index of ``axis``."""
    data, scale, zero_point = inputs["quantized_data"], inputs["scale"], inputs["zero_point"]
    axis = int(inputs["axis"].array)
    # Below a byte the sum could not be told from its parts: only what the operator is documented for.
    _demand(data.dtype in ("int8", "uint8"), f"quantized_data is {data.dtype}")
    steps, shift = (_along(one.array, axis, data.array) for one in (scale, zero_point))
    return _floats(scale.dtype, (data.array.astype(np.float32) - shift) * steps)


def _blockwise(inputs: _Inputs) -> Constant:
    """``scale * (data - offset)``, where each scale serves a block of equal size along each axis."""
    data, scale = inputs["data"], inputs["scale"]
    values = data.array.astype(np.float32)
    if "offset" in inputs:
        offset = inputs["offset"]
        _demand(offset.array.shape == scale.array.shape, "offset and scale differ in shape")
        _demand(offset.dtype in (data.dtype, "fp16", "fp32"), f"offset is {offset.dtype}")
        values = values - _in_blocks(offset.array, values.shape)
    return _floats(scale.dtype, values * _in_blocks(scale.array, values.shape))


def _lookup(inputs: _Inputs) -> Constant:
    return _lookup_flat(inputs) if "shape" in inputs else _lookup_grouped(inputs)


def _lookup_flat(inputs: _Inputs) -> Constant:
    """The form of iOS 16: one table; its indices are packed into bytes, lowest bits first."""
    table, indices = inputs["lut"], inputs["indices"]
    shape = tuple(int(size) for size in inputs["shape"].array)
    count = int(np.prod(shape, dtype=object))
    bits = table.array.size.bit_length() - 1
    _demand(table.array.ndim == 1 and bits in (1, 2, 4, 6, 8), f"the table has the shape {table.array.shape}")
    _demand(table.array.size == 1 << bits, f"the table has {table.array.size} values")
    _demand(0 < count <= LARGEST, f"the shape is {shape}")
    _demand(indices.dtype == "uint8" and indices.array.ndim == 1, "the indices are not one row of bytes")
    _demand(indices.array.size == (count * bits + 7) // 8, f"{count} indices lie in {indices.array.size} bytes")
    return Constant(table.dtype, table.array[unpack(indices.array, bits, count)].reshape(shape))


def _lookup_grouped(inputs: _Inputs) -> Constant:
    """The form of iOS 18: an index for each element, tables for blocks of it, and vectors as values of a table."""
    table, indices = inputs["lut"].array, inputs["indices"]
    keys, rank = indices.array, indices.array.ndim
    _demand(rank > 0 and table.ndim == rank + 2, f"the table has {table.ndim} axes, the indices {rank}")
    count, width = table.shape[-2:]
    bits = type_named(indices.dtype).bits
    _demand(indices.dtype.startswith("uint") and bits <= 8 and count == 1 << bits, f"{count} values, {indices.dtype}")
    _demand(keys.size * width <= LARGEST, f"the result has {keys.size * width} elements")
    # Which table serves an element: those of all blocks lie in one row.
    groups = np.arange(int(np.prod(table.shape[:-2])), dtype=np.int64).reshape(table.shape[:-2])
    found = table.reshape(-1, count, width)[_in_blocks(groups, keys.shape), keys]  # indices' shape, then the vector
    if width == 1:
        return Constant(inputs["lut"].dtype, found[..., 0])
    axis = int(inputs["vector_axis"].array)
    _demand(-rank <= axis < rank, f"vector_axis is {axis}")
    axis %= rank
    shape = tuple(size * width if place == axis else size for place, size in enumerate(keys.shape))
    return Constant(inputs["lut"].dtype, np.moveaxis(found, -1, axis + 1).reshape(shape))


def _cast(inputs: _Inputs) -> Constant:
    dtype = str(inputs["output_dtype"].array)
    _demand(dtype == "fp32" and inputs["source_val"].dtype == "fp16", f"to {dtype!r}")
    return _floats(dtype, inputs["source_val"].array)


CONSTANT_OPERATORS: dict[str, Callable[[_Inputs], Constant]] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_cast": _cast,
    "constexpr_lut_to_dense": _lookup,
}


def _floats(dtype: str, values: _Array) -> Constant:
    _demand(dtype in ("fp16", "fp32"), f"the result is {dtype}")
    with np.errstate(over="ignore"):
        return Constant(dtype, values.astype(type_named(dtype).array))


def _along(values: _Array, axis: int, data: _Array) -> _Array:
    """Return a scalar as it is, and a vector so that it stands along an axis of the data."""
    values = values.astype(np.float32)
    if values.ndim == 0:
        return values
    _demand(-data.ndim <= axis < data.ndim, f"axis is {axis}")
    _demand(values.shape == (data.shape[axis],), f"{values.shape} values stand along axis {axis} of {data.shape}")
    shape = [1] * data.ndim
    shape[axis] = -1
    return values.reshape(shape)


def _in_blocks(values: _Array, shape: tuple[int, ...]) -> _Array:
    """Return the values, each repeated for its block of a tensor of that shape."""
    _demand(values.ndim == len(shape), f"{values.shape} blocks in {shape}")
    for axis, (blocks, size) in enumerate(zip(values.shape, shape, strict=True)):
        _demand(blocks > 0 and size % blocks == 0, f"{values.shape} blocks in {shape}")
        if 1 < blocks < size:
            values = values.repeat(size // blocks, axis)
    return np.broadcast_to(values, shape)


def _demand(condition: bool, fact: str) -> None:
    if not condition:
        raise ValueError(fact)
