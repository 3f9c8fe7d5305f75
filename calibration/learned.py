"""Ranges and weight steps that quantization-aware training has learned, for one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .emit import QuantizedWeight
from .quantizers import QuantParams, largest_weight
from .recipe import Recipe

if TYPE_CHECKING:
    from .quantize import Quantizer

__all__ = ["LearnedRanges", "round_to_steps", "solved_ranges"]


@dataclass(frozen=True, slots=True, eq=False)
class LearnedRanges:
    """What training found.

    Attributes:
        recipe: What it was found for, ``learned`` being True.
        activations: By tensor that is read in 8 bits.
        weights: By convolution, float32 (out,): the step of each output channel.
        rounded: What the convolutions are before training, where it has yet to begin.
    """

    recipe: Recipe
    activations: Mapping[str, QuantParams]
    weights: Mapping[str, npt.NDArray[np.float32]]
    rounded: Mapping[str, QuantizedWeight] = field(default_factory=dict)


def solved_ranges(quantizer: Quantizer, recipe: Recipe) -> LearnedRanges:
    """Return what training starts from: the ranges of a recipe, and the weights as they are rounded with it."""
    placement = quantizer.placement(recipe)
    rounded = {name: quantizer.rounded(name, recipe) for name in placement.weights}
    return LearnedRanges(
        replace(recipe, learned=True, rounding="nearest"),
        quantizer.params(placement, recipe),
        {name: weight.scales for name, weight in rounded.items()},
        rounded,
    )


def round_to_steps(
    weight: npt.NDArray[np.float32], steps: npt.NDArray[np.float32], *, reduced_range: bool
) -> npt.NDArray[np.int8]:
    """Return the integers nearest to a weight at given steps, as training rounds it."""
    largest = largest_weight(reduced_range)
    units = weight / steps[:, None, None, None]
    integers: npt.NDArray[np.int8] = np.clip(np.rint(units), -largest, largest).astype(np.int8)
    return integers
