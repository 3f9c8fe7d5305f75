"""How the weights of convolutions lie in an ML program: floats, int8 with a scale a channel, or a palette.

Core ML knows all but floats as ``constexpr`` operators: the file holds the compressed form, and the device decides
whether it computes with that or unpacks it while loading.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.quantizers import quantize_weight
from ..manifest import Weights
from ..runtimes.coreml_library import import_coremltools

__all__ = ["WeightWriter", "palettize"]

_SMALLEST = 2048
"""Weights with fewer elements stay float: tables and scales would cost what compressing gains. Apple's own choice."""
_ROUNDS = 100
_MOST_BITS = 8
_HEAD_LAST = re.compile(r"model_\d+_cv[23]_\d_2_weight")
"""What boxes and scores come out of has the largest palette: 0.30 of 0.52 points of AP50-95 were lost there."""


class WeightWriter:
    """Writes weights into the program that is being built.

    Args:
        weights: How those that are floats are to be stored.
        target: A member of ``coremltools.target``: from iOS18 on the operators are others.
    """

    def __init__(self, weights: Weights, target: Any) -> None:
        self._weights = weights
        self._target = target

    def floats(self, values: npt.NDArray[np.float32], name: str) -> Any:
        """Return a weight as it is, or compressed as was asked for.

        Args:
            values: (out, in / groups, height, width).
            name: In the program.
        """
        if self._weights == "float" or values.size < _SMALLEST:
            return values
        if self._weights == "int8":
            return self.integers(*quantize_weight(values, reduced_range=False), name)
        bits = int(self._weights.rpartition("-")[2])
        return self._palette(values, _MOST_BITS if _HEAD_LAST.fullmatch(name) else bits, name)

    def integers(self, integers: npt.NDArray[np.int8], scales: npt.NDArray[np.float32], name: str) -> Any:
        """Return a weight that is integers times one scale an output channel.

        Args:
            integers: (out, in / groups, height, width).
            scales: (out,).
            name: In the program.
        """
        from coremltools.converters.mil import Builder

        if self._blockwise:
            return Builder.constexpr_blockwise_shift_scale(data=integers, scale=scales[:, None, None, None], name=name)
        return Builder.constexpr_affine_dequantize(
            quantized_data=integers, zero_point=np.int8(0), scale=scales, axis=0, name=name
        )

    @property
    def _blockwise(self) -> bool:
        return bool(self._target >= import_coremltools().target.iOS18)

    def _palette(self, values: npt.NDArray[np.float32], bits: int, name: str) -> Any:
        from coremltools.converters.mil import Builder

        table, indices = palettize(values, bits)
        if self._blockwise:
            from coremltools.converters.mil.mil import types

            kind = types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}"))
            return Builder.constexpr_lut_to_dense(
                indices=indices.astype(kind), lut=table.reshape(*(1,) * values.ndim, -1, 1), name=name
            )
        packed = np.packbits(
            np.unpackbits(indices.reshape(-1, 1), axis=1, bitorder="little")[:, :bits], bitorder="little"
        )
        return Builder.constexpr_lut_to_dense(
            indices=packed, lut=table, shape=np.array(values.shape, np.uint32), name=name
        )


def palettize(values: npt.NDArray[np.float32], bits: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Find the few values that stand for all with the least squared error: k-means, by Lloyd's iteration.

    The start spreads the values by the cube root of their density, which is the optimum for many levels (P. Panter and
    W. Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", 1951), so that no
    chance is needed and few rounds are.

    Args:
        values: Any shape.
        bits: 2**bits is the number of values, at most 8.

    Returns:
        The values in ascending order, shape (2**bits,), and for each of ``values`` which of them stands for it.
    """
    ordered = np.sort(values.reshape(-1).astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count, levels = len(ordered), 2**bits
    counts, edges = np.histogram(ordered, bins=min(1024, count))
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(counts))])
    table = np.interp((np.arange(levels) + 0.5) / levels * share[-1], share, edges)
    for _ in range(_ROUNDS):
        bounds = np.concatenate([[0], np.searchsorted(ordered, (table[1:] + table[:-1]) / 2), [count]])
        members = np.diff(bounds)
        means = np.where(members > 0, np.diff(sums[bounds]) / np.maximum(members, 1), table)
        if np.abs(means - table).max() <= 1e-7 * np.abs(ordered[[0, -1]]).max():
            break
        table = means
    single = np.sort(table).astype(np.float32)
    indices = np.searchsorted((single[1:] + single[:-1]) / 2, values.reshape(-1)).astype(np.uint8)
    return single, indices.reshape(values.shape)
