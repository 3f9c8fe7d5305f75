"""What quantized weights do to the mean of a layer, and how its bias makes up for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["bias_correction"]


def bias_correction(
    weight: npt.NDArray[np.float32],
    quantized: npt.NDArray[Any],
    input_mean: npt.NDArray[np.float64],
    *,
    groups: int,
) -> npt.NDArray[np.float64]:
    """Return what to add to the bias of a convolution so that quantizing its weight keeps the mean of its output.

    Rounding errors of one output channel seldom add up to zero, and the inputs do not have zero mean: the output
    shifts by their product (Nagel et al. 2019, arXiv:1906.04721, section 4.2, with measured means). Padding is not
    reckoned with.

    Args:
        weight: Float weight, shape (out, in / groups, height, width).
        quantized: The same after quantization, as real numbers: integer * scale.
        input_mean: Mean of each input channel over positions and images, shape (in,).
        groups: Of the convolution.

    Returns:
        Shape (out,).
    """
    error = (quantized.astype(np.float64) - weight).sum((2, 3))
    per_group = input_mean.reshape(groups, -1)
    means = np.repeat(per_group, len(weight) // groups, axis=0)
    shift: npt.NDArray[np.float64] = -(error * means).sum(1)
    return shift
