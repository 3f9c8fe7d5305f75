"""ROS 2: ``sensor_msgs/Image`` as an array that the Runtime takes, without importing ROS and mostly without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..frame import Color

__all__ = ["from_image"]

# Encoding → colour for the Runtime, channels. OpenCV's own names say no order; as everywhere in OpenCV, it is BGR.
_ENCODINGS: dict[str, tuple[Color, int]] = {
    "mono8": ("gray", 1),
    "8UC1": ("gray", 1),
    "bgr8": ("bgr", 3),
    "8UC3": ("bgr", 3),
    "rgb8": ("rgb", 3),
    "bgra8": ("bgra", 4),
    "8UC4": ("bgra", 4),
    "rgba8": ("rgba", 4),
    "mono16": ("gray16", 1),
    "bgr16": ("bgr16", 3),
    "16UC3": ("bgr16", 3),
    "rgb16": ("rgb16", 3),
    "bgra16": ("bgr16", 4),
    "rgba16": ("rgb16", 4),
}


def from_image(message: Any) -> tuple[npt.NDArray[Any], Color]:
    """Return the picture of a ``sensor_msgs/Image``, and the ``color`` to hand to the Runtime with it.

    The array is a view of the message's data; rows may be longer than the picture is wide (``step``). Only 16-bit
    numbers of the other byte order, and those that begin at an odd byte, are copied.

    Args:
        message: With ``height``, ``width``, ``encoding``, ``is_bigendian``, ``step`` and ``data``.

    Returns:
        uint8 or uint16, shape (height, width, channels), (height, width) for grey; the alpha of 16-bit
        pictures is left out.

    Raises:
        InputError: If the encoding is none that a detector can look at (depth, Bayer, YUV, float), or the sizes
            contradict one another.
    """
    encoding = message.encoding
    if encoding not in _ENCODINGS:
        raise InputError(
            f"the image's encoding is {encoding!r:.40}",
            expected=f"one of {', '.join(_ENCODINGS)}",
            remedy="let image_proc or the camera driver convert it; a 16UC1 image is nearly always depth, "
            "and one that is a picture should say mono16",
        )
    color, channels = _ENCODINGS[encoding]
    wide = color.endswith("16")
    dtype = np.dtype((">u2" if message.is_bigendian else "<u2") if wide else np.uint8)
    height, width, step = message.height, message.width, message.step
    pixel = channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)
    if height < 1 or width < 1 or step < width * pixel or data.nbytes < height * step:
        raise InputError(
            f"the image has {width} x {height} pixels of {encoding}, rows of {step} bytes and {data.nbytes} bytes",
            expected=f"rows of at least {max(width, 1) * pixel} bytes, and {height} x {step} bytes in all",
        )
    strides = (step, pixel, dtype.itemsize)
    image: npt.NDArray[Any] = np.ndarray((height, width, channels), dtype, data, strides=strides)
    if wide and not (dtype.isnative and image.flags.aligned):
        image = image.astype(np.uint16)
    if channels == 1:
        return image[..., 0], color
    return (image[..., :3] if wide else image), color
