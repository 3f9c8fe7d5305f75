"""The letterbox as a GPU kernel, in Triton, by the arithmetic of OpenCV's resize: the picture is the same either way.

Only ``benchmarks/make_letterbox_ptx.py`` and tests import this file; at run time the PTX beside it is loaded.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["SIGNATURE", "letterbox_float32", "letterbox_uint8"]

SIGNATURE = {
    "source": "*u8",  # the frame's first byte
    "output": "*fp32",  # or *u8: the tensor's
    "pitch": "i32",  # bytes from row to row
    "height": "i32",
    "width": "i32",
    "step": "i32",  # bytes from pixel to pixel
    "red": "i32",  # where a channel lies in a pixel, bytes
    "green": "i32",
    "blue": "i32",
    "network_height": "i32",
    "network_width": "i32",
    "top": "i32",
    "left": "i32",
    "resized_height": "i32",
    "resized_width": "i32",
    "pad": "i32",
    "scale": "fp32",
}
"""What is passed, in order; ``letterbox_uint8`` has no ``scale``."""


@triton.jit
def _axis(target, source_size, target_size):  # type: ignore[no-untyped-def]
    """Return, along one axis, the first of the two source pixels, and how far on towards the second the place is.

    OpenCV computes ``(target + 0.5) * source_size / target_size - 0.5`` in double and rounds it to float. The same
    comes from whole numbers, which a GPU is fast at, and one division: quotient and remainder are exact, and adding
    them rounds as the conversion does.
    """
    numerator = (2 * target + 1) * source_size - target_size
    denominator = 2 * target_size
    # Division goes towards zero, and the numerator is never below -denominator.
    whole = (numerator + denominator) // denominator - 1
    rest = numerator - whole * denominator
    place = whole.to(tl.float32) + tl.div_rn(rest.to(tl.float32), denominator.to(tl.float32))
    first = tl.floor(place)
    fraction = place - first
    return first.to(tl.int32), fraction


@triton.jit
def _weight(fraction):  # type: ignore[no-untyped-def]
    """Return ``round(fraction * 2048)``, halves to even: adding 2**23 leaves no bits for a fraction."""
    return ((fraction * 2048.0 + 8388608.0) - 8388608.0).to(tl.int32)


@triton.jit
def _channel(source, above, below, near, far, inside, x_near, x_far, y_near, y_far, pad):  # type: ignore[no-untyped-def]
    """Return one channel of a row of pixels, as OpenCV mixes four neighbours, and the padding outside."""
    upper = tl.load(source + above + near, mask=inside, other=0).to(tl.int32) * x_near
    upper += tl.load(source + above + far, mask=inside, other=0).to(tl.int32) * x_far
    lower = tl.load(source + below + near, mask=inside, other=0).to(tl.int32) * x_near
    lower += tl.load(source + below + far, mask=inside, other=0).to(tl.int32) * x_far
    mixed = (((upper >> 4) * y_near) >> 16) + (((lower >> 4) * y_far) >> 16)
    return tl.where(inside, (mixed + 2) >> 2, pad)


@triton.jit
def _columns(column, width, left, resized_width):  # type: ignore[no-untyped-def]
    """Return both source columns and their weights; beyond the edge, the last column counts alone."""
    near, fraction = _axis(column - left, width, resized_width)
    fraction = tl.where((near < 0) | (near >= width - 1), 0.0, fraction)
    near = tl.minimum(tl.maximum(near, 0), width - 1)
    return near, tl.minimum(near + 1, width - 1), _weight(1.0 - fraction), _weight(fraction)


@triton.jit
def _rows(row, height, top, resized_height):  # type: ignore[no-untyped-def]
    """Return both source rows and their weights; beyond the edge, both are the last row."""
    near, fraction = _axis(row - top, height, resized_height)
    above = tl.minimum(tl.maximum(near, 0), height - 1)
    below = tl.minimum(tl.maximum(near + 1, 0), height - 1)
    return above, below, _weight(1.0 - fraction), _weight(fraction)


@triton.jit
def _masks(row, column, network_height, network_width, top, left, resized_height, resized_width):  # type: ignore[no-untyped-def]
    """Return where the tensor is, and where the picture is in it."""
    row = row + tl.zeros_like(column)  # Triton's interpreter takes no mask that is made of a scalar and a block
    drawn = (column < network_width) & (row < network_height)
    inside = (column >= left) & (column < left + resized_width) & (row >= top) & (row < top + resized_height)
    return drawn, inside & drawn


@triton.jit  # type: ignore[untyped-decorator]
def letterbox_float32(  # type: ignore[no-untyped-def]
    source,
    output,
    pitch,
    height,
    width,
    step,
    red,
    green,
    blue,
    network_height,
    network_width,
    top,
    left,
    resized_height,
    resized_width,
    pad,
    scale,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write ``ROWS`` x ``COLUMNS`` pixels of a tensor float32 (3, network_height, network_width), RGB x scale."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    near, far, x_near, x_far = _columns(column, width, left, resized_width)
    near, far = near * step, far * step
    plane = network_height * network_width
    for line in range(ROWS):
        row = tl.program_id(1) * ROWS + line
        above, below, y_near, y_far = _rows(row, height, top, resized_height)
        above, below = above.to(tl.int64) * pitch, below.to(tl.int64) * pitch
        drawn, inside = _masks(row, column, network_height, network_width, top, left, resized_height, resized_width)
        place = output + row * network_width + column
        first = _channel(source + red, above, below, near, far, inside, x_near, x_far, y_near, y_far, pad)
        tl.store(place, first.to(tl.float32) * scale, mask=drawn)
        second = _channel(source + green, above, below, near, far, inside, x_near, x_far, y_near, y_far, pad)
        tl.store(place + plane, second.to(tl.float32) * scale, mask=drawn)
        third = _channel(source + blue, above, below, near, far, inside, x_near, x_far, y_near, y_far, pad)
        tl.store(place + 2 * plane, third.to(tl.float32) * scale, mask=drawn)


@triton.jit  # type: ignore[untyped-decorator]
def letterbox_uint8(  # type: ignore[no-untyped-def]
    source,
    output,
    pitch,
    height,
    width,
    step,
    red,
    green,
    blue,
    network_height,
    network_width,
    top,
    left,
    resized_height,
    resized_width,
    pad,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write ``ROWS`` x ``COLUMNS`` pixels of a tensor uint8 (network_height, network_width, 3), BGR."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    near, far, x_near, x_far = _columns(column, width, left, resized_width)
    near, far = near * step, far * step
    for line in range(ROWS):
        row = tl.program_id(1) * ROWS + line
        above, below, y_near, y_far = _rows(row, height, top, resized_height)
        above, below = above.to(tl.int64) * pitch, below.to(tl.int64) * pitch
        drawn, inside = _masks(row, column, network_height, network_width, top, left, resized_height, resized_width)
        place = output + (row * network_width + column) * 3
        first = _channel(source + blue, above, below, near, far, inside, x_near, x_far, y_near, y_far, pad)
        tl.store(place, first.to(tl.uint8), mask=drawn)
        second = _channel(source + green, above, below, near, far, inside, x_near, x_far, y_near, y_far, pad)
        tl.store(place + 1, second.to(tl.uint8), mask=drawn)
        third = _channel(source + red, above, below, near, far, inside, x_near, x_far, y_near, y_far, pad)
        tl.store(place + 2, third.to(tl.uint8), mask=drawn)
