"""What the drawings of all tasks share: colours, and places in the picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Color", "Image", "class_color", "corners_in", "darker"]

Image = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

# fmt: off
_PALETTE = (
    0xE6194B, 0x3CB44B, 0xFFC800, 0x2F6FED, 0xF58231, 0x8E3FD1, 0x19C8D6, 0xF032E6, 0xB7E619, 0xF7A8C4,
    0x0F8F8F, 0xC39BFF, 0x9A6324, 0xFFF27A, 0x8C1230, 0x8FF0B4, 0x7F7F16, 0xFFB48A, 0x1F2F8F, 0xA0A0A8,
)
# fmt: on


def class_color(class_id: int) -> Color:
    """Return the colour of a class, BGR: always the same for one index, distinct for neighbours.

    Args:
        class_id: Index of the class, from 0.
    """
    if class_id < len(_PALETTE):
        red, green, blue = _PALETTE[class_id].to_bytes(3, "big")
        return blue, green, red
    # Steps of the golden ratio never come near a hue that was just used.
    hue = round(180 * (class_id * 0.618034 % 1)) % 180
    saturation, value = (230, 150, 200)[class_id % 3], (235, 250, 170)[class_id % 3]
    pixel = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


def darker(color: Color) -> Color:
    """Return a colour for the rim of a line: it keeps light lines visible on light ground."""
    return color[0] // 2, color[1] // 2, color[2] // 2


def corners_in(xyxy: npt.NDArray[np.float32], canvas: Image) -> npt.NDArray[np.int64]:
    """Return corners in whole pixels of the image, int64, shape (n, 4)."""
    height, width = canvas.shape[:2]
    limit = np.array((width - 1, height - 1, width - 1, height - 1), np.float32)
    return np.clip(np.nan_to_num(xyxy), 0, limit).round().astype(np.int64)
