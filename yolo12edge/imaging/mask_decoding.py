"""Instance masks from coefficients and prototypes: resampled to source pixels inside each box only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..masks import Masks
from .letterbox import Letterbox

__all__ = ["decode_masks"]

Floats = npt.NDArray[np.float32]

_STRIP = 128  # columns resampled at a time: each looks at few cells, so wide products would be nearly all zeros
# OpenBLAS does larger products in threads of its own, which wait actively on the cores that the engine computes on.
_ONE_THREAD = 4 * 65536


def decode_masks(coefficients: Floats, prototypes: Floats, xyxy: Floats, letterbox: Letterbox) -> Masks:
    """Return one mask an object: the pixels in its box where coefficients times prototypes are above 0.

    The product is taken at the size of the prototypes. Its values, not the decision, are interpolated linearly: that of
    a cell stands for its middle, and a pixel asks at its own. Only what lies in a box is ever made.

    Args:
        coefficients: float32, shape (n, k).
        prototypes: float32, shape (k, h, w), of the whole network input.
        xyxy: float32, shape (n, 4), boxes in source pixels, clipped to the frame.
        letterbox: Geometry of the image.
    """
    (height, width), (cells_down, cells_across) = letterbox.source_hw, prototypes.shape[1:]
    rows = _axis(height, letterbox.resized_hw[0], letterbox.pad_top, letterbox.network_hw[0], cells_down)
    columns = _axis(width, letterbox.resized_hw[1], letterbox.pad_left, letterbox.network_hw[1], cells_across)
    # At least a pixel, whatever the box, and always inside the frame.
    low = np.minimum(np.rint(xyxy[:, :2]).astype(np.int32), (width - 1, height - 1))
    high = np.maximum(np.rint(xyxy[:, 2:]).astype(np.int32), low + 1)
    boxes = np.concatenate((low, high), axis=1).tolist()
    # Cells that pixels of the image look at: padding is not worth a product.
    top, bottom = rows.cells(0, height)
    inside = np.ascontiguousarray(prototypes[:, top:bottom].transpose(1, 0, 2))
    crops = []
    block = max(1, _ONE_THREAD // (len(prototypes) * cells_across))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite belongs to no object
        for begin in range(0, len(boxes), block):
            small = coefficients[begin : begin + block] @ inside  # (rows of cells, objects, cells of a row)
            for index, box in enumerate(boxes[begin : begin + block]):
                crops.append(_crop(small[:, index], top, box, rows, columns))
    return Masks(tuple(crops), low, letterbox.source_hw)


def _crop(values: Floats, top: int, box: list[int], rows: _Axis, columns: _Axis) -> npt.NDArray[np.bool_]:
    """Return the mask inside a box (left, top, right, bottom); ``values`` begin with the row of cells ``top``."""
    x0, y0, x1, y1 = box
    first, last = rows.cells(y0, y1)
    left, right = columns.cells(x0, x1)
    tall = _product(rows.weights[y0:y1, first:last], values[first - top : last - top, left:right])
    if x1 - x0 <= _STRIP:
        return np.asarray(_product(tall, columns.weights[x0:x1, left:right].T) > 0)
    mask = np.empty((y1 - y0, x1 - x0), np.bool_)
    for start in range(x0, x1, _STRIP):
        end = min(start + _STRIP, x1)
        begin, stop = columns.cells(start, end)
        strip = _product(tall[:, begin - left : stop - left], columns.weights[start:end, begin:stop].T)
        np.greater(strip, 0, out=mask[:, start - x0 : end - x0])
    return mask


def _product(left: Floats, right: Floats) -> Floats:
    """Return the product of two matrices, made in this thread."""
    rows = max(1, _ONE_THREAD // (left.shape[1] * right.shape[1]))
    if rows >= len(left):
        return left @ right
    product = np.empty((len(left), right.shape[1]), np.float32)
    for start in range(0, len(left), rows):
        np.matmul(left[start : start + rows], right, out=product[start : start + rows])
    return product


class _Axis:
    """Linear interpolation along one side.

    Attributes:
        weights: float32, shape (pixels, cells): how much of each cell is in a pixel; two of a row are not 0.
    """

    __slots__ = ("_first", "_second", "weights")

    def __init__(self, weights: Floats, first: list[int], second: list[int]) -> None:
        self.weights = weights
        self._first, self._second = first, second

    def cells(self, start: int, end: int) -> tuple[int, int]:
        """Return from which cell on, and up to which (excluded), the pixels from ``start`` to ``end`` look."""
        return self._first[start], self._second[end - 1] + 1


@lru_cache(maxsize=16)
def _axis(pixels: int, resized: int, padding: int, network: int, cells: int) -> _Axis:
    """Return the interpolation of a side of the source from cells of the network input; cameras ask for two again."""
    middle = (np.arange(pixels) + 0.5) * (resized / pixels) + padding
    place = np.clip(middle * (cells / network) - 0.5, 0, cells - 1)
    first = place.astype(np.int64)
    second = np.minimum(first + 1, cells - 1)
    share = (place - first).astype(np.float32)
    weights = np.zeros((pixels, cells), np.float32)
    pixel: Any = np.arange(pixels)
    weights[pixel, first] = 1 - share
    weights[pixel, second] += share
    return _Axis(weights, first.tolist(), second.tolist())
