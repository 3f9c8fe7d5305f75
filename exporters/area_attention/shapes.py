"""What a qkv map must look like, and the shapes of YOLO12's attention."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import InputError

__all__ = ["HEAD_CHANNELS", "YOLO12_ATTENTION", "check_shape", "token_grid"]

HEAD_CHANNELS = 32
"""Channels of a head: the same in every scale of YOLO12."""

YOLO12_ATTENTION = {
    "n": ((2, 4, 16), (4, 1, 32)),
    "s": ((4, 4, 16), (8, 1, 32)),
    "m": ((8, 4, 16), (8, 1, 32)),
    "l": ((8, 4, 16), (8, 1, 32)),
    "x": ((12, 4, 16), (12, 1, 32)),
}
"""By scale, (heads, areas, stride) of its two kinds of attention: eight distinct ones."""


def token_grid(side: int, stride: int) -> int:
    """Return the side of the map that a square image of ``side`` pixels has at a stride."""
    return side // stride


def check_shape(shape: Sequence[int], *, heads: int, area: int) -> None:
    """Check a qkv map (images, 3 * heads * 32, height, width).

    Raises:
        InputError: If the channels are not those of the heads, or the tokens cannot be cut into equal runs.
    """
    if heads < 1 or area < 1:
        raise InputError(f"heads is {heads} and area is {area}", expected="both at least 1")
    if len(shape) != 4 or min(shape) < 1 or shape[1] != 3 * heads * HEAD_CHANNELS:
        raise InputError(
            f"the qkv map has the shape {tuple(shape)}",
            expected=f"(images, {3 * heads * HEAD_CHANNELS}, height, width)",
        )
    if shape[2] * shape[3] % area:
        raise InputError(
            f"{shape[2]} x {shape[3]} tokens cannot be cut into {area} equal areas",
            expected=f"a multiple of {area} tokens",
            remedy="use an image size that is a multiple of 64",
        )
