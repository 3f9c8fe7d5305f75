"""The operators of the reference evaluator, against NumPy written for the purpose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.errors import ExportError
from yolo12edge.exporters.mil_evaluator import MilProgram

pytest.importorskip("coremltools", reason="needs coremltools")
pytest.importorskip("torch", reason="needs torch")

from tests.unit.mil_packages import MODEL, result, results, written

FLOATS = ["float16", "float32"]
FEW = settings(max_examples=50)


def random(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(found: np.ndarray, exact: np.ndarray, dtype: str) -> None:
    """Compare with the exact result: half precision is rounded once, so that one step in the last place may differ."""
    assert found.dtype == dtype
    assert found.shape == exact.shape
    if dtype == "float16":
        with np.errstate(over="ignore"):
            wanted = exact.astype(np.float16)
        step = np.spacing(np.abs(wanted)).astype(np.float32)
        assert (np.abs(found.astype(np.float32) - wanted.astype(np.float32)) <= step).all()
    else:
        np.testing.assert_allclose(found, exact, rtol=2e-5, atol=2e-5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    parts = np.exp(x - x.max(axis, keepdims=True))
    return parts / parts.sum(axis, keepdims=True)


ELEMENTWISE = {
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "exp": np.exp,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", sorted(ELEMENTWISE))
def test_functions_of_one_tensor(kind: str, dtype: str) -> None:
    x = random(2, 3, 5, dtype=dtype)
    check(result(lambda mb, x: getattr(mb, kind)(x=x), {"x": x}), ELEMENTWISE[kind](x.astype(np.float64)), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_clip(dtype: str) -> None:
    x, low, high = random(2, 3, 5, dtype=dtype), np.array(-0.5, dtype), np.array(1, dtype)
    check(result(lambda mb, x: mb.clip(x=x, alpha=low, beta=high), {"x": x}), np.clip(x, -0.5, 1), dtype)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", sorted(BINARY))
def test_functions_of_two_tensors_broadcast(kind: str, dtype: str) -> None:
    x, y = random(2, 1, 4, dtype=dtype), random(3, 1, dtype=dtype, seed=1)
    found = result(lambda mb, x, y: getattr(mb, kind)(x=x, y=y), {"x": x, "y": y})
    check(found, BINARY[kind](x.astype(np.float64), y.astype(np.float64)), dtype)


def test_half_precision_is_stored_after_every_operator() -> None:
    x = np.array([0.1, 1.0, 3.3, -2.7, 1e-8, 300.0], np.float16)
    large = np.float16(1024)

    def build(mb, x):
        grown = mb.add(x=x, y=large)
        return mb.sub(x=grown, y=large), mb.mul(x=x, y=x), mb.real_div(x=x, y=np.float16(3))

    with np.errstate(over="ignore"):
        wanted = [(x + large) - large, x * x, x / np.float16(3)]
    for found, expected in zip(results(build, {"x": x}), wanted, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert np.isinf(wanted[1][-1])  # beyond 65,504


def test_sums_of_half_precision_are_float32_inside() -> None:
    x = np.full((1, 4096), 0.1, np.float16)
    ones = np.ones((4096, 1), np.float16)
    exact = np.float16(4096 * np.float64(np.float16(0.1)))
    assert result(lambda mb, x: mb.matmul(x=x, y=ones), {"x": x}).item() == exact  # in float16 it would stop at 256
    assert result(lambda mb, x: mb.reduce_sum(x=x), {"x": x}).item() == exact


@pytest.mark.parametrize("kind", ["mul", "matmul"])
def test_types_are_never_mixed(kind: str) -> None:
    from coremltools.proto import MIL_pb2, Model_pb2

    one = np.ones((2, 2), np.float32)
    files = written(lambda mb, x, y: getattr(mb, kind)(x=x, y=y), {"x": ((2, 2), "fp32"), "y": ((2, 2), "fp32")})
    assert MilProgram.load(files).run({"x": one, "y": one})["out0"][0, 0] == {"mul": 1, "matmul": 2}[kind]
    model = Model_pb2.Model.FromString(files[MODEL])
    model.mlProgram.functions["main"].inputs[1].type.tensorType.dataType = MIL_pb2.FLOAT16
    model.description.input[1].type.multiArrayType.dataType = 65552
    mixed = MilProgram.load({**files, MODEL: model.SerializeToString()})
    with pytest.raises(ExportError, match=f"{kind} .* takes .* of one type, not .*fp32.*fp16"):
        mixed.run({"x": one, "y": one.astype(np.float16)})


# Convolution


def convolve(x, weight, bias, strides, dilations, pads, groups) -> np.ndarray:
    """A convolution as its definition has it: one product after the other."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *pads])
    count, inner, rows, columns = weight.shape
    spans = [(size - 1) * step + 1 for size, step in zip((rows, columns), dilations, strict=True)]
    high, wide = ((x.shape[2 + i] - spans[i]) // strides[i] + 1 for i in range(2))
    result = np.zeros((x.shape[0], count, high, wide))
    for channel in range(count):
        first = channel // (count // groups) * inner
        for i in range(high):
            for j in range(wide):
                top, left = i * strides[0], j * strides[1]
                window = x[
                    :,
                    first : first + inner,
                    top : top + spans[0] : dilations[0],
                    left : left + spans[1] : dilations[1],
                ]
                result[:, channel, i, j] = (window * weight[channel].astype(np.float64)).sum((1, 2, 3))
    return result + bias.astype(np.float64).reshape(1, -1, 1, 1)


pairs = st.tuples(st.integers(1, 2), st.integers(1, 2))


@FEW
@given(
    dtype=st.sampled_from(FLOATS),
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=pairs,
    dilations=pairs,
    pad=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.sampled_from([1, 2, 4]),
    biased=st.booleans(),
)
def test_convolution(dtype, size, kernel, strides, dilations, pad, groups, biased) -> None:
    kernel = tuple(min(taps, 2) if step > 1 else taps for taps, step in zip(kernel, dilations, strict=True))
    x, weight = random(2, 4, *size, dtype=dtype), random(4, 4 // groups, *kernel, dtype=dtype, seed=1)
    bias = random(4, dtype=dtype, seed=2) if biased else np.zeros(4, dtype)
    given = {"bias": bias} if biased else {}

    def build(mb, x):
        return mb.conv(
            x=x, weight=weight, strides=strides, dilations=dilations, pad_type="custom", pad=pad, groups=groups, **given
        )

    exact = convolve(x, weight, bias, strides, dilations, (pad[:2], pad[2:]), groups)
    check(result(build, {"x": x}), exact, dtype)


@pytest.mark.parametrize(
    ("pad_type", "kernel", "stride", "pads"),
    [
        ("valid", 3, 1, (0, 0)),
        ("same", 3, 1, (1, 1)),
        ("same", 3, 2, (0, 1)),  # of six: three results, and the one that is odd behind
        ("same_lower", 3, 2, (1, 0)),
        ("same", 2, 1, (0, 1)),
        ("same_lower", 2, 1, (1, 0)),
        ("same", 1, 2, (0, 0)),
    ],
)
def test_convolution_pads_by_name(pad_type: str, kernel: int, stride: int, pads: tuple[int, int]) -> None:
    x, weight, bias = random(1, 2, 6, 6), random(3, 2, kernel, kernel, seed=1), np.zeros(3, np.float32)
    found = result(lambda mb, x: mb.conv(x=x, weight=weight, pad_type=pad_type, strides=[stride] * 2), {"x": x})
    check(found, convolve(x, weight, bias, (stride, stride), (1, 1), (pads, pads), 1), "float32")


def test_convolution_along_one_axis() -> None:
    x, weight = random(1, 2, 9), random(3, 2, 3, seed=1)
    found = result(lambda mb, x: mb.conv(x=x, weight=weight, pad_type="custom", pad=[2, 0]), {"x": x})
    exact = convolve(x[:, :, None], weight[:, :, None], np.zeros(3), (1, 1), (1, 1), ((0, 0), (2, 0)), 1)
    check(found, exact[:, :, 0], "float32")


# Products and attention


@FEW
@given(
    dtype=st.sampled_from(FLOATS),
    sizes=st.tuples(*[st.integers(1, 5)] * 3),
    batch=st.sampled_from([((), ()), ((2,), (2,)), ((2, 1), (3,)), ((), (2, 3))]),
    transpose=st.tuples(st.booleans(), st.booleans()),
)
def test_matmul(dtype, sizes, batch, transpose) -> None:
    rows, inner, columns = sizes
    x, y = random(*batch[0], rows, inner, dtype=dtype), random(*batch[1], inner, columns, dtype=dtype, seed=1)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    given = (x.swapaxes(-1, -2) if transpose[0] else x, y.swapaxes(-1, -2) if transpose[1] else y)
    found = result(
        lambda mb, x, y: mb.matmul(x=x, y=y, transpose_x=transpose[0], transpose_y=transpose[1]),
        {"x": np.ascontiguousarray(given[0]), "y": np.ascontiguousarray(given[1])},
    )
    check(found, exact, dtype)


def test_linear() -> None:
    x, weight, bias = random(4, 3), random(5, 3, seed=1), random(5, seed=2)
    found = result(lambda mb, x: mb.linear(x=x, weight=weight, bias=bias), {"x": x})
    check(found, x.astype(np.float64) @ weight.T + bias, "float32")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("masked", [False, True])
def test_attention(dtype: str, masked: bool) -> None:
    query, key, value = (random(2, 3, n, 4, dtype=dtype, seed=n) for n in (5, 6, 6))
    mask = random(5, 6, dtype=dtype, seed=9)

    def build(mb, query, key, value, mask):
        return mb.scaled_dot_product_attention(
            query=query, key=key, value=value, **({"attn_mask": mask} if masked else {})
        )

    found = result(build, {"query": query, "key": key, "value": value, "mask": mask}, target="iOS18")
    logits = query.astype(np.float64) @ key.astype(np.float64).swapaxes(-1, -2) / math.sqrt(4) + masked * mask
    exact = softmax(logits, -1) @ value.astype(np.float64)
    if dtype == "float16":
        np.testing.assert_allclose(found, exact, rtol=2e-3, atol=2e-3)
    else:
        check(found, exact, dtype)


# Axes and shapes


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis: int, dtype: str) -> None:
    x = random(2, 3, 4, dtype=dtype)
    check(result(lambda mb, x: mb.softmax(x=x, axis=axis), {"x": x}), softmax(x.astype(np.float64), axis), dtype)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", [[1], [-1, 0], None])
@pytest.mark.parametrize(("kind", "exact"), [("max", np.max), ("min", np.min), ("sum", np.sum), ("mean", np.mean)])
def test_reduction(kind: str, exact, axes: list[int] | None, keep: bool) -> None:
    x = random(2, 3, 4)
    given = {} if axes is None else {"axes": axes}
    found = result(lambda mb, x: getattr(mb, f"reduce_{kind}")(x=x, keep_dims=keep, **given), {"x": x})
    check(found, exact(x.astype(np.float64), axis=axes and tuple(axes), keepdims=keep), "float32")


def test_concatenation_split_and_stack() -> None:
    x, y = random(2, 3, 4), random(2, 3, 4, seed=1)

    def build(mb, x, y):
        yield mb.concat(values=[x, y], axis=-2)
        yield mb.concat(values=[x, y], axis=1, interleave=True)
        yield mb.stack(values=[x, y], axis=2)
        yield from mb.split(x=x, axis=-1, split_sizes=[1, 3])
        yield from mb.split(x=y, axis=2, num_splits=2)

    found = results(lambda mb, x, y: list(build(mb, x, y)), {"x": x, "y": y})
    wanted = [
        np.concatenate([x, y], 1),
        np.stack([x, y], 2).reshape(2, 6, 4),
        np.stack([x, y], 2),
        x[..., :1],
        x[..., 1:],
        y[..., :2],
        y[..., 2:],
    ]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


bounds = st.tuples(st.integers(-6, 6), st.integers(-6, 6), st.sampled_from([1, 2, 3, -1, -2]))


@FEW
@given(
    first=bounds,
    second=bounds,
    masks=st.lists(st.booleans(), min_size=4, max_size=4),
    squeeze=st.booleans(),
    place=st.integers(-3, 2),
)
def test_slice_by_index(first, second, masks, squeeze, place) -> None:
    x = random(5, 4, 3)
    slices = [
        slice(None if masks[2 * i] else begin, None if masks[2 * i + 1] else end, step)
        for i, (begin, end, step) in enumerate((first, second))
    ]
    expected = x[(*slices, place if squeeze else slice(None))]

    def build(mb, x):
        # coremltools infers another shape for some slices that are empty or run past an end: these are not our matter.
        return mb.slice_by_index(
            x=x,
            begin=[first[0], second[0], place],
            end=[first[1], second[1], 0],
            stride=[first[2], second[2], 1],
            begin_mask=[masks[0], masks[2], not squeeze],
            end_mask=[masks[1], masks[3], not squeeze],
            squeeze_mask=[False, False, squeeze],
        )

    try:
        files = written(build, {"x": (x.shape, "fp32")})
    except ValueError:
        return
    program = MilProgram.load(files)
    declared = program.operations[0].outputs[0][1].shape
    if 0 in expected.shape or declared != expected.shape:
        return
    np.testing.assert_array_equal(program.run({"x": x})["out0"], expected)


def test_slices_that_exporters_write() -> None:
    x = random(1, 6, 8)

    def build(mb, x):
        yield mb.slice_by_index(x=x, begin=[0, 2, 0], end=[1, 4, 8])
        yield mb.slice_by_index(x=x, begin=[0, -2, 1], end=[0, 0, 0], end_mask=[True] * 3)
        yield mb.slice_by_index(
            x=x, begin=[0, 0, 7], end=[0, 0, 0], stride=[1, 2, -2], begin_mask=[True, True, False], end_mask=[True] * 3
        )
        yield mb.slice_by_index(x=x, begin=[0, 3, 0], end=[1, 0, 8], squeeze_mask=[False, True, False])

    found = results(lambda mb, x: list(build(mb, x)), {"x": x})
    for one, other in zip(found, [x[:, 2:4], x[:, -2:, 1:], x[:, ::2, ::-2], x[:, 3]], strict=True):
        np.testing.assert_array_equal(one, other)


def test_shapes() -> None:
    x = random(2, 3, 4)

    def build(mb, x):
        yield mb.reshape(x=x, shape=[4, -1])
        yield mb.reshape(x=x, shape=[0, -1, 2])  # keeps the first
        yield mb.reshape(x=x, shape=[-1, 1, 0, 0])  # keeps the last two: zeros count from behind
        yield mb.transpose(x=x, perm=[2, 0, 1])
        yield mb.expand_dims(x=x, axes=[-1, 1])
        yield mb.squeeze(x=mb.reshape(x=x, shape=[1, 24, 1]), axes=[-1])
        yield mb.squeeze(x=mb.reshape(x=x, shape=[1, 24, 1]))
        yield mb.shape(x=x)

    wanted = [x.reshape(4, 6), x.reshape(2, 6, 2), x.reshape(2, 1, 3, 4), x.transpose(2, 0, 1), x[:, None, ..., None]]
    wanted += [x.reshape(1, 24), x.reshape(24), np.array([2, 3, 4])]
    for one, other in zip(results(lambda mb, x: list(build(mb, x)), {"x": x}), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gather() -> None:
    x = random(3, 4, 2)
    indices = np.array([[2, 0], [1, 3]], np.int32)
    found = result(lambda mb, x: mb.gather(x=x, indices=indices, axis=-2), {"x": x})
    np.testing.assert_array_equal(found, x[:, indices])
    negative = np.array([-1, 0], np.int32)
    old = result(lambda mb, x: mb.gather(x=x, indices=negative, axis=1), {"x": x}, target="iOS16")
    np.testing.assert_array_equal(old, x[:, negative])
    with pytest.raises(ExportError, match=r"gather .* an index is outside of 0 to 3"):  # undefined since iOS 17
        result(lambda mb, x: mb.gather(x=x, indices=negative, axis=1), {"x": x})


@FEW
@given(size=st.tuples(st.integers(1, 5), st.integers(1, 5)), target=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_resize(size, target) -> None:
    x = random(1, 2, *size)
    rows = [row * size[0] // target[0] for row in range(target[0])]
    columns = [column * size[1] // target[1] for column in range(target[1])]
    found = result(
        lambda mb, x: mb.resize_nearest_neighbor(x=x, target_size_height=target[0], target_size_width=target[1]),
        {"x": x},
    )
    np.testing.assert_array_equal(found, x[:, :, rows][..., columns])


@pytest.mark.parametrize("factors", [(2, 3), (2.0, 1.0), (1.5, 2.0)])
def test_upsample(factors: tuple[float, float]) -> None:
    x = random(1, 2, 4, 6)
    rows, columns = (
        [int(place / factor) for place in range(int(size * factor))]
        for size, factor in zip((4, 6), factors, strict=True)
    )
    found = result(
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=factors[0], scale_factor_width=factors[1]),
        {"x": x},
    )
    np.testing.assert_array_equal(found, x[:, :, rows][..., columns])


@pytest.mark.parametrize(
    ("pad_type", "pad", "stride", "ceil", "before", "size"),
    [
        ("valid", None, 2, False, 0, 3),
        ("valid", None, 2, True, 0, 4),  # the last window runs past the end
        ("custom", [2, 2, 2, 2], 1, False, 2, 8),
        ("custom", [1, 0, 1, 0], 2, False, 1, 4),
        ("custom", [1, 1, 1, 1], 3, True, 1, 3),
        ("same", None, 2, False, 0, 4),
        ("same_lower", None, 2, False, 1, 4),
    ],
)
def test_max_pool(pad_type: str, pad: list[int] | None, stride: int, ceil: bool, before: int, size: int) -> None:
    taps = 5 if pad == [2, 2, 2, 2] else 3
    x = random(1, 2, 8, 8) - 5  # all below zero: padding must not win
    given = {} if pad is None else {"pad": pad}
    found = result(
        lambda mb, x: mb.max_pool(
            x=x, kernel_sizes=[taps] * 2, strides=[stride] * 2, pad_type=pad_type, ceil_mode=ceil, **given
        ),
        {"x": np.ascontiguousarray(x)},
    )
    assert found.shape == (1, 2, size, size)
    for i in range(size):
        for j in range(size):
            top, left = (max(0, place * stride - before) for place in (i, j))
            window = x[:, :, top : i * stride - before + taps, left : j * stride - before + taps]
            np.testing.assert_array_equal(found[:, :, i, j], window.max((2, 3)))


# Types and quantization


def test_casts() -> None:
    x = np.array([-1.7, 0.2, 2.5, 100.1], np.float32)

    def build(mb, x):
        whole = mb.cast(x=x, dtype="int32")
        return whole, mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), mb.cast(x=whole, dtype="fp16")

    found = results(build, {"x": x})
    assert found[0].tolist() == [-1, 0, 2, 100]
    np.testing.assert_array_equal(found[1], x.astype(np.float16).astype(np.float32))
    assert (found[2].dtype, found[2].tolist()) == (np.float16, [-1, 0, 2, 100])


@pytest.mark.parametrize("dtype", FLOATS)
def test_quantize_and_dequantize(dtype: str) -> None:
    x = np.concatenate([random(40, dtype=dtype) * 3, np.array([0.125, 0.375, -0.125, 99, -99], dtype)]).astype(dtype)
    scale = np.array(0.25, dtype)

    def build(mb, x):
        signed = mb.quantize(input=x, scale=scale, output_dtype="int8")
        shifted = mb.quantize(input=x, scale=scale, zero_point=np.uint8(7), output_dtype="uint8")
        yield signed
        yield mb.cast(x=shifted, dtype="int32")
        yield mb.dequantize(input=signed, scale=scale)
        yield mb.dequantize(input=shifted, scale=scale, zero_point=np.uint8(7))

    found = results(lambda mb, x: list(build(mb, x)), {"x": x})
    steps = np.rint(x.astype(np.float64) / 0.25)  # ties to even: 0.125 to 0, 0.375 to 2
    signed, shifted = np.clip(steps, -128, 127), np.clip(steps + 7, 0, 255)
    for one, other in zip(found, [signed, shifted, signed * 0.25, (shifted - 7) * 0.25], strict=True):
        np.testing.assert_array_equal(one, other)
    assert [one.dtype.name for one in found] == ["int8", "int32", dtype, dtype]


def test_quantize_along_an_axis() -> None:
    x, scale, zero = random(2, 3, 4), np.float32([0.1, 0.2, 0.4]), np.int8([0, 5, -9])

    def build(mb, x):
        whole = mb.quantize(input=x, scale=scale, zero_point=zero, axis=-2, output_dtype="int8")
        return whole, mb.dequantize(input=whole, scale=scale, zero_point=zero, axis=1)

    whole, back = results(build, {"x": x})
    steps = np.rint(x / scale[:, None]) + zero[:, None]
    np.testing.assert_array_equal(whole, steps)
    np.testing.assert_allclose(back, (steps - zero[:, None]) * scale[:, None], rtol=1e-6)


# Compressed constants


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_integers_with_a_scale_a_channel(dtype: str, target: str) -> None:
    generator = np.random.default_rng(0)
    whole = generator.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8)
    scale = generator.uniform(0.01, 0.1, 4).astype(dtype)
    zero = np.int8([3, -4, 0, 9])
    x = np.eye(3, dtype=dtype).reshape(3, 3, 1, 1)  # the results are the weights

    def build(mb, x):
        if target == "iOS16":
            weight = mb.constexpr_affine_dequantize(quantized_data=whole, zero_point=zero, scale=scale, axis=0)
        else:
            weight = mb.constexpr_blockwise_shift_scale(
                data=whole, scale=scale.reshape(4, 1, 1, 1), offset=zero.reshape(4, 1, 1, 1)
            )
        return mb.conv(x=x, weight=weight)

    exact = (whole.astype(np.float64) - zero.reshape(-1, 1, 1, 1)) * scale.astype(np.float64).reshape(-1, 1, 1, 1)
    found = result(build, {"x": x}, target=target)
    np.testing.assert_array_equal(found[:, :, 0, 0].T, exact.astype(dtype)[:, :, 0, 0])


def test_integers_of_four_bits_in_blocks() -> None:
    from coremltools.converters.mil.mil import types

    whole = np.random.default_rng(0).integers(-8, 8, (4, 6)).astype(np.int8)
    scale = np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    data = whole.astype(types.nptype_from_builtin(types.int4))
    found = result(
        lambda mb, x: mb.matmul(x=x, y=mb.constexpr_blockwise_shift_scale(data=data, scale=scale)),
        {"x": np.eye(4, dtype=np.float32)},
        target="iOS18",
    )
    np.testing.assert_array_equal(found, whole * scale.repeat(3, 1))


@pytest.mark.parametrize("count", [9, 45])  # few elements lie in the model file, more in the weight file
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_palettes(target: str, bits: int, count: int) -> None:
    from coremltools.converters.mil.mil import types

    if target == "iOS16" and bits == 3:
        pytest.skip("iOS 16 has no palettes of 3 bits")
    keys = np.random.default_rng(bits).integers(0, 2**bits, (count, 1)).astype(np.uint8)
    table = random(2**bits, dtype="float16")

    def build(mb, x):
        if target == "iOS16":
            flat = np.unpackbits(keys, axis=1, bitorder="little")[:, :bits]
            packed = np.packbits(flat, bitorder="little")
            weight = mb.constexpr_lut_to_dense(indices=packed, lut=table, shape=np.uint32([count, 1]))
        else:
            kind = types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}"))
            weight = mb.constexpr_lut_to_dense(indices=keys.astype(kind), lut=table.reshape(1, 1, -1, 1))
        return mb.matmul(x=weight, y=x)

    found = result(build, {"x": np.ones((1, 1), np.float16)}, target=target)
    np.testing.assert_array_equal(found, table[keys])


def test_palettes_of_groups_and_vectors() -> None:
    from coremltools.converters.mil.mil import types

    keys = np.random.default_rng(0).integers(0, 4, (6, 2)).astype(types.nptype_from_builtin(types.uint2))
    groups, vectors = random(2, 1, 4, 1), random(1, 1, 4, 3)

    def build(mb, x, y):
        grouped = mb.constexpr_lut_to_dense(indices=keys, lut=groups)
        along = [mb.constexpr_lut_to_dense(indices=keys, lut=vectors, vector_axis=axis) for axis in (0, 1)]
        return mb.matmul(x=grouped, y=x), mb.matmul(x=along[0], y=x), mb.matmul(x=along[1], y=y)

    feeds = {"x": np.eye(2, dtype=np.float32), "y": np.eye(6, dtype=np.float32)}
    grouped, first, last = results(build, feeds, target="iOS18")
    whole = keys.astype(np.int64)
    assert [grouped[i, j] for i in range(6) for j in range(2)] == [
        groups[i // 3, 0, whole[i, j], 0] for i in range(6) for j in range(2)
    ]
    for i in range(6):
        for j in range(2):
            np.testing.assert_array_equal(first[3 * i : 3 * i + 3, j], vectors[0, 0, whole[i, j]])
            np.testing.assert_array_equal(last[i, 3 * j : 3 * j + 3], vectors[0, 0, whole[i, j]])
