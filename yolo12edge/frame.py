"""``Frame``: one picture of a source, with where and when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

__all__ = ["Color", "Frame"]

Color = Literal["bgr", "rgb", "gray", "bgra", "rgba", "bgr16", "rgb16", "gray16"]
"""What the numbers of an image mean: the order of its channels, and 8 or 16 bits of each (0 to 65,535)."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        image: uint8, shape (height, width, 3), BGR, unless the source says otherwise.
        index: Position in the source, from 0; a gap is a frame that was dropped.
        stamp_ns: Wall clock in nanoseconds since 1970, when it was taken or, if nobody knows that, read.
        source: What it came from: a path, URL or device.
    """

    image: npt.NDArray[Any]
    index: int = 0
    stamp_ns: int | None = None
    source: str = ""
