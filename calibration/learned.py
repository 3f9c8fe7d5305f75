"""Ranges and weight steps that quantization-aware training has learned, for one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .quantizers import QuantParams, largest_weight, quantize_weight
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
    """

    recipe: Recipe
    activations: Mapping[str, QuantParams]
    weights: Mapping[str, npt.NDArray[np.float32]]


def solved_ranges(quantizer: Quantizer, recipe: Recipe) -> LearnedRanges:
    """Return what training starts from: the ranges of a recipe, and the steps at which weights are rounded with it."""
    placement = quantizer.placement(recipe)
    graph = quantizer.graph
    weights = {
        node.name: quantize_weight(graph.constants[node.input[1]], reduced_range=recipe.reduced_range)[1]
        for node in graph.nodes
        if node.name in set(placement.weights)
    }
    activations = quantizer.params(placement, recipe)
    return LearnedRanges(replace(recipe, learned=True, rounding="nearest"), activations, weights)


def round_to_steps(
    weight: npt.NDArray[np.float32], steps: npt.NDArray[np.float32], *, reduced_range: bool
) -> npt.NDArray[np.int8]:
    """Return the integers nearest to a weight at given steps, as training rounds it."""
    largest = largest_weight(reduced_range)
    units = weight / steps[:, None, None, None]
    integers: npt.NDArray[np.int8] = np.clip(np.rint(units), -largest, largest).astype(np.int8)
    return integers
