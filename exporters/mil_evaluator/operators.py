"""The operators of MIL, as Apple documents them, computed by PyTorch.

Half precision is emulated: a float16 value lies in a float32 tensor, and is rounded to float16 after every operator.
What happens inside of one (the sums of a convolution, the steps of a softmax) is float32. Apple's engines are free to
differ: the Neural Engine may add up in float16 or join operators without rounding between them, the GPU may choose
other orders, and INT8 operators may be joined into whole-number ones, which multiply exactly what is multiplied here.
Overflow beyond 65,504 becomes infinite and numbers below 6e-5 lose digits here; the Neural Engine may stop at the
largest number instead, and flush the smallest to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .mil_types import LARGEST, Constant, TensorType, type_named

if TYPE_CHECKING:
    import torch

__all__ = ["OPERATORS", "Call", "Value", "as_array", "as_value"]

_FLOATS = ("fp16", "fp32")
_IOS17 = 7
_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor at run time.

    Attributes:
        dtype: Of the program.
        data: The tensor: float32 for both kinds of floats, int64 for whole numbers above 32 bits or without sign above
            8; or the text of a ``"string"``.
    """

    dtype: str
    data: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes; of a text none."""
        return () if isinstance(self.data, str) else tuple(self.data.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One operator with the values it is given.

    Attributes:
        inputs: Values by parameter, several where it takes a list.
        declared: The types that the program declares for its outputs.
        opset: Generation of the operators.
    """

    inputs: Mapping[str, tuple[Value, ...]]
    declared: tuple[TensorType, ...]
    opset: int

    def value(self, name: str) -> Value:
        """Return the one value of a parameter.

        Raises:
            KeyError: If it has none.
        """
        (found,) = self.inputs[name]
        return found

    def get(self, name: str) -> Value | None:
        """Return the one value of a parameter, or None."""
        return self.value(name) if name in self.inputs else None

    def floats(self, *names: str) -> tuple[str, list[torch.Tensor]]:
        """Return the element type that these parameters share, which must be a float, and their tensors."""
        values = [self.value(name) for name in names]
        kinds = {value.dtype for value in values}
        if len(kinds) != 1 or not kinds <= set(_FLOATS):
            given = ", ".join(f"{name} {value.dtype}" for name, value in zip(names, values, strict=True))
            raise ValueError(f"it takes floats of one type, not {given}")
        return kinds.pop(), [value.data for value in values]

    def numbers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Return a list of whole numbers."""
        value = self.get(name) if default is not None else self.value(name)
        if value is None:
            return list(default or ())
        return [int(number) for number in value.data.reshape(-1).tolist()]

    def number(self, name: str, default: int | None = None) -> int:
        """Return a whole number."""
        (found,) = self.numbers(name, None if default is None else (default,))
        return found

    def flag(self, name: str) -> bool:
        """Return whether a parameter is set; without it, not."""
        value = self.get(name)
        return value is not None and bool(value.data.item())

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text."""
        value = self.get(name) if default is not None else self.value(name)
        found = default if value is None else value.data
        if not isinstance(found, str):
            raise ValueError(f"{name} is no text")
        return found

    def axes(self, rank: int) -> tuple[int, ...]:
        """Return the parameter ``axes``, none of them negative; without it, all."""
        return tuple(_axis(axis, rank) for axis in self.numbers("axes", tuple(range(rank))))

    def expect(self, shape: Sequence[int]) -> None:
        """Refuse a result before memory is taken for it."""
        wanted = self.declared[0].shape
        if wanted is not None and not self.declared[0].admits(self.declared[0].dtype, tuple(shape)):
            raise ValueError(f"the result has the shape {list(shape)}, the program declares {list(wanted)}")
        if math.prod(shape) > LARGEST:
            raise ValueError(f"the result has the shape {list(shape)}, more than {LARGEST} elements")


Operator = Callable[[Call], "Value | list[Value]"]


def as_value(constant: Constant) -> Value:
    """Return an array as the operators take it."""
    import torch

    array = constant.array
    if constant.dtype == "string":
        return Value("string", str(array.reshape(-1)[0]) if array.size == 1 else "")
    if constant.dtype in _FLOATS:
        return _stored(constant.dtype, torch.from_numpy(array.astype(np.float32)))
    if constant.dtype in ("uint16", "uint32"):
        array = array.astype(np.int64)
    return Value(constant.dtype, torch.from_numpy(np.array(array)))


def as_array(value: Value) -> npt.NDArray[Any]:
    """Return a value as an array of its own type; the caller's own."""
    return np.array(value.data.numpy(), dtype=type_named(value.dtype).array, order="C")


def _stored(dtype: str, data: torch.Tensor) -> Value:
    """Round a result to what the program stores."""
    return Value(dtype, data.half().float() if dtype == "fp16" else data)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"there is no axis {axis} of {rank}")
    return axis % rank


# Element by element


def _unary(function: str) -> Operator:
    def operator(call: Call) -> Value:
        import torch

        dtype, (x,) = call.floats("x")
        return _stored(dtype, getattr(torch, function)(x))

    return operator


def _silu(call: Call) -> Value:
    import torch

    dtype, (x,) = call.floats("x")
    return _stored(dtype, torch.nn.functional.silu(x))


def _binary(function: str, *, whole: bool = True) -> Operator:
    def operator(call: Call) -> Value:
        import torch

        x, y = call.value("x"), call.value("y")
        if x.dtype != y.dtype or x.dtype not in (*_FLOATS, *(("int32",) if whole else ())):
            raise ValueError(f"it takes numbers of one type, not {x.dtype} and {y.dtype}")
        call.expect(np.broadcast_shapes(x.shape, y.shape))
        return _stored(x.dtype, getattr(torch, function)(x.data, y.data))

    return operator


def _clip(call: Call) -> Value:
    dtype, (x, low, high) = call.floats("x", "alpha", "beta")
    return _stored(dtype, x.clamp(low.item(), high.item()))


def _identity(call: Call) -> Value:
    return call.value("x")


def _cast(call: Call) -> Value:
    import torch

    x, dtype = call.value("x"), call.text("dtype")
    if dtype in _FLOATS:
        return _stored(dtype, x.data.float())
    wanted = {"int32": torch.int32, "int16": torch.int16, "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool}
    if dtype not in wanted:
        raise ValueError(f"there is no cast to {dtype!r} here")
    return Value(dtype, x.data.to(wanted[dtype]))  # towards zero


def _quantize(call: Call) -> Value:
    import torch

    _, (x, scale) = call.floats("input", "scale")
    dtype = call.text("output_dtype")
    if dtype not in _RANGES:
        raise ValueError(f"output_dtype is {dtype!r}")
    steps, shift = _parameters(call, x, scale, dtype)
    low, high = _RANGES[dtype]
    rounded = (x / steps).round_().add_(shift).clamp_(low, high)  # ties to even
    return Value(dtype, rounded.to(torch.int8 if dtype == "int8" else torch.uint8))


def _dequantize(call: Call) -> Value:
    x = call.value("input")
    if x.dtype not in _RANGES:
        raise ValueError(f"input is {x.dtype}")
    dtype, (scale,) = call.floats("scale")
    steps, shift = _parameters(call, x.data, scale, x.dtype)
    return _stored(dtype, (x.data.float() - shift).mul_(steps))


def _parameters(call: Call, x: torch.Tensor, scale: torch.Tensor, dtype: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and zero point so that they stand along their axis of ``x``."""
    import torch

    shift = call.get("zero_point")
    if shift is not None and (shift.dtype != dtype or shift.shape != tuple(scale.shape)):
        raise ValueError(f"zero_point is {shift.dtype} {list(shift.shape)}, scale {list(scale.shape)}, for {dtype}")
    zero = torch.zeros_like(scale) if shift is None else shift.data.float()
    if scale.ndim == 0:
        return scale, zero
    axis = _axis(call.number("axis"), x.ndim)
    if tuple(scale.shape) != (x.shape[axis],):
        raise ValueError(f"scale is {list(scale.shape)} along axis {axis} of {list(x.shape)}")
    shape = [1] * x.ndim
    shape[axis] = -1
    return scale.reshape(shape), zero.reshape(shape)


# Sums of products


def _conv(call: Call) -> Value:
    import torch

    dtype, (x, weight) = call.floats("x", "weight")
    bias = None
    if "bias" in call.inputs:
        _, (_, bias) = call.floats("x", "bias")
    spatial = x.ndim - 2
    if not 1 <= spatial <= 3 or weight.ndim != x.ndim or 0 in weight.shape:
        raise ValueError(f"x has the shape {list(x.shape)}, weight {list(weight.shape)}")
    strides, dilations = _counts(call, "strides", spatial), _counts(call, "dilations", spatial)
    groups = call.number("groups", 1)
    if groups < 1 or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ValueError(f"x has {x.shape[1]} channels, weight {list(weight.shape)}, in {groups} groups")
    kernel = [(size - 1) * dilation + 1 for size, dilation in zip(weight.shape[2:], dilations, strict=True)]
    pads = _pads(call, x.shape[2:], kernel, strides)
    sizes = [
        (size + before + after - taps) // stride + 1
        for size, (before, after), taps, stride in zip(x.shape[2:], pads, kernel, strides, strict=True)
    ]
    call.expect((x.shape[0], weight.shape[0], *sizes))
    symmetric = all(before == after for before, after in pads)
    if not symmetric:
        x = _padded(x, pads, 0.0)
    convolve = getattr(torch.nn.functional, f"conv{spatial}d")
    padding = [before if symmetric else 0 for before, _ in pads]
    return _stored(dtype, convolve(x, weight, bias, strides, padding, dilations, groups))


def _matmul(call: Call) -> Value:
    dtype, (x, y) = call.floats("x", "y")
    if call.flag("transpose_x") and x.ndim > 1:
        x = x.transpose(-1, -2)
    if call.flag("transpose_y") and y.ndim > 1:
        y = y.transpose(-1, -2)
    if min(x.ndim, y.ndim) > 1:
        call.expect((*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]))
    return _stored(dtype, x @ y)


def _linear(call: Call) -> Value:
    dtype, (x, weight) = call.floats("x", "weight")
    call.expect((*x.shape[:-1], weight.shape[0]))
    result = x @ weight.T
    if "bias" in call.inputs:
        _, (_, bias) = call.floats("x", "bias")
        result = result + bias
    return _stored(dtype, result)


def _attention(call: Call) -> Value:
    """``softmax(query @ key^T / sqrt(E) + mask) @ value``, all in float32 until the end."""
    import torch

    dtype, (query, key, value) = call.floats("query", "key", "value")
    if query.ndim < 3 or not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        raise ValueError(f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}")
    if query.shape[-2] * key.shape[-2] * math.prod(query.shape[:-2]) > LARGEST:
        raise ValueError(f"query {list(query.shape)} by key {list(key.shape)} is too large")
    mask = call.get("attn_mask")
    if mask is not None and mask.dtype not in (dtype, "bool"):
        raise ValueError(f"attn_mask is {mask.dtype}")
    given = None if mask is None else mask.data
    return _stored(dtype, torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=given))


# Windows


def _max_pool(call: Call) -> Value:
    import torch

    dtype, (x,) = call.floats("x")
    spatial = x.ndim - 2
    if not 1 <= spatial <= 3:
        raise ValueError(f"x has the shape {list(x.shape)}")
    kernel = _counts(call, "kernel_sizes", spatial, optional=False)
    strides = _counts(call, "strides", spatial)
    pads = _pads(call, x.shape[2:], kernel, strides)
    ceil = call.flag("ceil_mode")
    sizes = []
    for axis, (size, (before, after), taps, stride) in enumerate(zip(x.shape[2:], pads, kernel, strides, strict=True)):
        count = (size + before + after - taps + (stride - 1 if ceil else 0)) // stride + 1
        if ceil and before + after and (count - 1) * stride >= size + before:
            count -= 1  # a window must not begin in the padding behind
        sizes.append(count)
        # What the last window lacks behind.
        pads[axis] = (before, max(after, (count - 1) * stride + taps - size - before))
    call.expect((*x.shape[:2], *sizes))
    pool = getattr(torch.nn.functional, f"max_pool{spatial}d")
    found = pool(_padded(x, pads, -math.inf), kernel, strides)
    return Value(dtype, found[(..., *(slice(count) for count in sizes))])


def _counts(call: Call, name: str, spatial: int, *, optional: bool = True) -> list[int]:
    """Return a parameter with a positive number for each spatial axis."""
    found = call.numbers(name, [1] * spatial if optional else None)
    if len(found) != spatial or min(found) < 1 or max(found) > LARGEST:
        raise ValueError(f"{name} are {found}")
    return found


def _pads(call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return how much each spatial axis is padded before and behind.

    ``same`` gives ceil(size / stride) results; where the padding is odd, the one more stands behind, and with
    ``same_lower`` before.
    """
    kind = call.text("pad_type", "valid")
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        found = call.numbers("pad", [0] * (2 * len(sizes)))
        if len(found) != 2 * len(sizes) or min(found) < 0 or max(found) > LARGEST:
            raise ValueError(f"pad is {found}")
        return [(found[2 * axis], found[2 * axis + 1]) for axis in range(len(sizes))]
    if kind not in ("same", "same_lower"):
        raise ValueError(f"pad_type is {kind!r}")
    pads = []
    for size, taps, stride in zip(sizes, kernel, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + taps - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if kind == "same" else (more, less))
    return pads


def _padded(x: torch.Tensor, pads: Sequence[tuple[int, int]], value: float) -> torch.Tensor:
    import torch

    sizes = [size + before + after for size, (before, after) in zip(x.shape[2:], pads, strict=True)]
    if math.prod((*x.shape[:2], *sizes)) > LARGEST:
        raise ValueError(f"padded, x has the sizes {sizes}")
    flat = [amount for pair in reversed(pads) for amount in pair]  # PyTorch begins with the last axis
    return torch.nn.functional.pad(x, flat, value=value)


def _upsample(call: Call) -> Value:
    _, (x,) = call.floats("x")
    factors = []
    for name in ("scale_factor_height", "scale_factor_width"):
        factor = call.get(name)
        factors.append(1.0 if factor is None else float(factor.data.item()))
    if not all(0 < factor <= LARGEST for factor in factors) or x.ndim < 3:
        raise ValueError(f"the factors are {factors}, x has the shape {list(x.shape)}")
    sizes = [math.floor(size * factor) for size, factor in zip(x.shape[-2:], factors, strict=True)]
    return _nearest(call, sizes, factors)


def _resize(call: Call) -> Value:
    _, (x,) = call.floats("x")
    sizes = [call.number("target_size_height"), call.number("target_size_width")]
    if min(sizes) < 1 or x.ndim < 3 or 0 in x.shape:
        raise ValueError(f"the size is {sizes}, x has the shape {list(x.shape)}")
    return _nearest(call, sizes, [new / old for new, old in zip(sizes, x.shape[-2:], strict=True)])


def _nearest(call: Call, sizes: Sequence[int], factors: Sequence[float]) -> Value:
    """Take, for each place of the result, the value at floor(place / factor)."""
    import torch

    x = call.value("x")
    call.expect((*x.shape[:-2], *sizes))
    data = x.data
    for axis, size, factor in zip((-2, -1), sizes, factors, strict=True):
        places = (torch.arange(size, dtype=torch.float64) / factor).long().clamp_(max=data.shape[axis] - 1)
        data = data.index_select(axis, places)
    return Value(x.dtype, data)


# Along axes


def _softmax(call: Call) -> Value:
    dtype, (x,) = call.floats("x")
    return _stored(dtype, x.softmax(_axis(call.number("axis", -1), x.ndim)))


def _reduce(function: str) -> Operator:
    def operator(call: Call) -> Value:
        import torch

        dtype, (x,) = call.floats("x")
        axes = call.axes(x.ndim)
        return _stored(dtype, getattr(torch, function)(x, axes, keepdim=call.flag("keep_dims")) if axes else x)

    return operator


# Shapes


def _reshape(call: Call) -> Value:
    """0 keeps a size, counted from the last axis; -1 is what remains."""
    x, shape = call.value("x"), call.numbers("shape")
    behind = len(shape) - len(x.shape)
    if behind and 0 in shape and call.opset < _IOS17:
        raise ValueError(f"the shape {shape} keeps sizes of {list(x.shape)}")
    kept = [size or (x.shape[place - behind] if place >= behind else 1) for place, size in enumerate(shape)]
    if min(kept, default=1) < -1:
        raise ValueError(f"the shape is {shape}")
    return Value(x.dtype, x.data.reshape(kept))


def _transpose(call: Call) -> Value:
    x = call.value("x")
    return Value(x.dtype, x.data.permute(call.numbers("perm")))


def _expand_dims(call: Call) -> Value:
    x, axes = call.value("x"), call.numbers("axes")
    rank = len(x.shape) + len(axes)
    places = sorted(_axis(axis, rank) for axis in axes)
    if len(set(places)) != len(places):
        raise ValueError(f"axes are {axes}")
    data = x.data
    for place in places:
        data = data.unsqueeze(place)
    return Value(x.dtype, data)


def _squeeze(call: Call) -> Value:
    x = call.value("x")
    ones = [place for place, size in enumerate(x.shape) if size == 1]
    axes = [_axis(axis, len(x.shape)) for axis in call.numbers("axes", ones)]
    if not set(axes) <= set(ones):
        raise ValueError(f"axes are {axes}, x has the shape {list(x.shape)}")
    return Value(x.dtype, x.data.reshape([size for place, size in enumerate(x.shape) if place not in axes]))


def _shape(call: Call) -> Value:
    import torch

    return Value("int32", torch.tensor(call.value("x").shape, dtype=torch.int32))


def _concat(call: Call) -> Value:
    import torch

    values = call.inputs["values"]
    dtype = _one_type(values)
    axis = _axis(call.number("axis"), len(values[0].shape))
    tensors = [value.data for value in values]
    if call.flag("interleave"):  # one slice of each in turn
        return Value(dtype, torch.stack(tensors, axis + 1).flatten(axis, axis + 1))
    return Value(dtype, torch.cat(tensors, axis))


def _stack(call: Call) -> Value:
    import torch

    values = call.inputs["values"]
    return Value(_one_type(values), torch.stack([one.data for one in values], call.number("axis")))


def _one_type(values: Sequence[Value]) -> str:
    kinds = {value.dtype for value in values}
    if len(kinds) != 1:
        raise ValueError(f"it takes values of one type, not {sorted(kinds)}")
    return kinds.pop()


def _split(call: Call) -> list[Value]:
    x = call.value("x")
    axis = _axis(call.number("axis"), len(x.shape))
    count = call.number("num_splits", 0)
    sizes = call.numbers("split_sizes", ())
    if not sizes:
        if count < 1 or x.shape[axis] % count:
            raise ValueError(f"{x.shape[axis]} cannot be split into {count}")
        sizes = [x.shape[axis] // count] * count
    if min(sizes) < 0 or sum(sizes) != x.shape[axis] or count not in (0, len(sizes)):
        raise ValueError(f"{x.shape[axis]} cannot be split into {sizes}")
    return [Value(x.dtype, part) for part in x.data.split(sizes, axis)]


def _slice_by_index(call: Call) -> Value:
    """``x[begin:end:stride]`` by axis; masks leave ``begin`` or ``end`` open, or take the one slice at ``begin``."""
    import torch

    x = call.value("x")
    rank = len(x.shape)
    begin, end = call.numbers("begin"), call.numbers("end")
    stride = call.numbers("stride", [1] * rank)
    open_begin, open_end, single = (
        call.numbers(name, [0] * rank) for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    if not all(len(one) == rank for one in (begin, end, stride, open_begin, open_end, single)) or 0 in stride:
        raise ValueError(f"begin {begin}, end {end}, stride {stride}, for {list(x.shape)}")
    data = x.data
    for axis in range(rank):
        first = None if open_begin[axis] else begin[axis]
        if single[axis]:
            place = _axis(first or 0, x.shape[axis])
            data = data.narrow(axis, place, 1)
            continue
        places = range(x.shape[axis])[slice(first, None if open_end[axis] else end[axis], stride[axis])]
        if places.step == 1 or len(places) < 2:
            data = data.narrow(axis, places.start if len(places) else 0, len(places))
        else:
            data = data.index_select(axis, torch.tensor(places))
    return Value(x.dtype, data.reshape([size for axis, size in enumerate(data.shape) if not single[axis]]))


def _gather(call: Call) -> Value:
    """Slices of ``x`` along an axis; since iOS 17 indices must not be negative."""
    x, indices = call.value("x"), call.value("indices")
    if call.number("batch_dims", 0):
        raise ValueError("batch_dims is not known here")
    axis = _axis(call.number("axis", 0), len(x.shape))
    size, flat = x.shape[axis], indices.data.reshape(-1).long()
    lowest = 0 if call.opset >= _IOS17 else -size
    if flat.numel() and not (lowest <= int(flat.min()) and int(flat.max()) < size):
        raise ValueError(f"an index is outside of {lowest} to {size - 1}")
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    call.expect(shape)
    return Value(x.dtype, x.data.index_select(axis, flat % size if size else flat).reshape(shape))


def _pixel_shuffle(call: Call) -> Value:
    """Channels (c, i, j) of a pixel become its ``factor x factor`` pixels of channel c."""
    import torch

    x, factor = call.value("x"), call.number("upscale_factor")
    if len(x.shape) != 4 or factor < 1 or x.shape[1] % factor**2:
        raise ValueError(f"{list(x.shape)} cannot be shuffled by {factor}")
    return Value(x.dtype, torch.pixel_shuffle(x.data, factor))


OPERATORS: dict[str, Operator] = {
    "add": _binary("add"),
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "conv": _conv,
    "cos": _unary("cos"),
    "dequantize": _dequantize,
    "exp": _unary("exp"),
    "expand_dims": _expand_dims,
    "gather": _gather,
    "identity": _identity,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "maximum": _binary("maximum"),
    "minimum": _binary("minimum"),
    "mul": _binary("mul"),
    "pixel_shuffle": _pixel_shuffle,
    "quantize": _quantize,
    "real_div": _binary("div", whole=False),
    "reduce_max": _reduce("amax"),
    "reduce_mean": _reduce("mean"),
    "reduce_min": _reduce("amin"),
    "reduce_sum": _reduce("sum"),
    "relu": _unary("relu"),
    "reshape": _reshape,
    "resize_nearest_neighbor": _resize,
    "scaled_dot_product_attention": _attention,
    "shape": _shape,
    "sigmoid": _unary("sigmoid"),
    "silu": _silu,
    "sin": _unary("sin"),
    "slice_by_index": _slice_by_index,
    "softmax": _softmax,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "sub": _binary("sub"),
    "tanh": _unary("tanh"),
    "transpose": _transpose,
    "upsample_nearest_neighbor": _upsample,
}
