"""Float ONNX + statistics + recipe → INT8 ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .emit import QuantizedWeight, emit_qdq
from .graph import Graph, groups_of, load_model, observable_tensors
from .learned import LearnedRanges, round_to_steps
from .placement import Placement, place
from .quantizers import QuantParams, activation_params, largest_weight, quantize_weight
from .ranges import Method, solve_range
from .recipe import Recipe
from .tensor_statistics import Statistics
from .weights import bias_correction

if TYPE_CHECKING:
    import onnx

__all__ = ["Quantizer", "RoundWeight"]


class RoundWeight(Protocol):
    """Rounds a weight; see ``Quantizer.round_weight``."""

    def __call__(
        self, weight: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], *, largest: int
    ) -> npt.NDArray[np.int8]:
        """Return int8 integers of the shape of ``weight``."""
        ...


class Quantizer:
    """Makes INT8 models of one float model; what recipes share is computed once.

    Args:
        model: Content of the float ``.onnx`` file.
        statistics: What ``observe`` recorded of this very model.
        learned: What training found for recipes that are ``learned``; groups may have gone back to float since.

    Raises:
        MissingDependencyError: If onnx is not installed.
        ExportError: If the model is not one that this project has exported.
        InputError: If the statistics lack one of its tensors.
    """

    def __init__(self, model: bytes, statistics: Statistics, *, learned: LearnedRanges | None = None) -> None:
        self.graph = Graph.of(load_model(model))
        self.statistics = statistics
        self.learned = learned
        if missing := [name for name in observable_tensors(self.graph) if name not in statistics.tensors]:
            raise InputError(
                f"the statistics lack {len(missing)} tensors of the model, such as {missing[0]}",
                remedy="calibrate again with `yolo12edge calibrate`",
            )
        self._ranges: dict[tuple[str, str, bool], tuple[float, float]] = {}
        self._weights: dict[tuple[str, bool, str], QuantizedWeight] = {}

    def placement(self, recipe: Recipe) -> Placement:
        """Return where the recipe puts Q/DQ pairs."""
        return place(
            self.graph,
            recipe.target,
            attention=recipe.attention,
            join_concats=recipe.join_concats,
            float_groups=recipe.float_groups,
        )

    def __call__(self, recipe: Recipe, *, metadata: Mapping[str, str] | None = None) -> bytes:
        """Return the content of the INT8 ``.onnx`` file; the same arguments give the same bytes.

        Args:
            recipe: How.
            metadata: Custom metadata of the new model.

        Raises:
            ExportError: If the result is not valid ONNX.
            InputError: If the recipe asks for a rounding that ``round_weight`` has not been given.
        """
        placement = self.placement(recipe)
        params = self.params(placement, recipe)
        weights = {name: self.rounded(name, recipe) for name in placement.weights}
        model = emit_qdq(self.graph, placement, params, weights, metadata=metadata or {})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def params(self, placement: Placement, recipe: Recipe) -> dict[str, QuantParams]:
        """Return scale and zero point of every tensor that is read quantized."""
        if recipe.learned:
            learned = self._learned().activations
            return {name: learned[name] for name in placement.reads}
        signed = placement.signed
        # 1/256, the output scale that ONNX Runtime's integer sigmoid is made for, never quite reaches 1.
        unit = QuantParams(np.float32(1 / 127), np.int8(0)) if signed else QuantParams(np.float32(1 / 256), np.uint8(0))
        ranges = {
            name: self._range(name, recipe.method, symmetric=signed)
            for name in placement.reads
            if name not in placement.unit
        }
        for group in placement.same_scale:
            joined = min(ranges[name][0] for name in group), max(ranges[name][1] for name in group)
            ranges.update(dict.fromkeys(group, joined))
        params = {name: activation_params(low, high, signed=signed) for name, (low, high) in ranges.items()}
        return {**params, **{name: unit for name in placement.reads if name in placement.unit}}

    def _range(self, name: str, method: Method, *, symmetric: bool) -> tuple[float, float]:
        key = (name, method, symmetric)
        if key not in self._ranges:
            statistics = self.statistics.tensors[name]
            self._ranges[key] = solve_range(statistics, method, symmetric=symmetric)
        return self._ranges[key]

    def round_weight(self, name: str, recipe: Recipe, rounding: RoundWeight) -> None:
        """Round the weight of a convolution by a method of its own, for recipes that ask for it.

        Args:
            name: Of the convolution.
            recipe: Says how many bits the weights have.
            rounding: Given the weight, its scales and, by keyword, the ``largest`` magnitude, it gives the integers.
        """
        node = self._node(name)
        weight = self.graph.constants[node.input[1]]
        _, scales = quantize_weight(weight, reduced_range=recipe.reduced_range)
        integers = rounding(weight, scales, largest=largest_weight(recipe.reduced_range))
        self._weights[name, recipe.reduced_range, recipe.rounding] = self._corrected(node, integers, scales)

    def rounded(self, name: str, recipe: Recipe) -> QuantizedWeight:
        """Return what the weight of a convolution becomes.

        Raises:
            InputError: If the recipe asks for a rounding that ``round_weight`` has not been given.
        """
        if recipe.learned:  # the bias has learned with it
            node, steps = self._node(name), self._learned().weights[name]
            bias = self.graph.constants[node.input[2]] if len(node.input) > 2 else None
            integers = round_to_steps(self.graph.constants[node.input[1]], steps, reduced_range=recipe.reduced_range)
            return QuantizedWeight(integers, steps, bias)
        key = (name, recipe.reduced_range, recipe.rounding)
        if key not in self._weights:
            if recipe.rounding != "nearest":
                raise InputError(f"the weight of {name} has not been rounded by {recipe.rounding}")
            node = self._node(name)
            integers, scales = quantize_weight(self.graph.constants[node.input[1]], reduced_range=recipe.reduced_range)
            self._weights[key] = self._corrected(node, integers, scales)
        return self._weights[key]

    def _learned(self) -> LearnedRanges:
        if self.learned is None:
            raise InputError("no ranges have been learned for this model", remedy="train it with `yolo12edge qat`")
        return self.learned

    def _corrected(
        self, node: onnx.NodeProto, integers: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]
    ) -> QuantizedWeight:
        """Give a quantized weight the bias that undoes its mean shift."""
        if len(node.input) < 3:
            return QuantizedWeight(integers, scales, None)
        weight, bias = (self.graph.constants[name] for name in node.input[1:3])
        groups = groups_of(node)
        mean = self.statistics.tensors[node.input[0]].channel_mean
        if len(mean) != weight.shape[1] * groups:
            raise InputError(
                f"the statistics of {node.input[0]} have {len(mean)} channels",
                expected=f"{weight.shape[1] * groups}",
                remedy="calibrate again with `yolo12edge calibrate`",
            )
        back = integers.astype(np.float64) * scales.astype(np.float64)[:, None, None, None]
        shift = bias_correction(weight, back, mean, groups=groups)
        return QuantizedWeight(integers, scales, (bias + shift).astype(np.float32))

    def _node(self, name: str) -> onnx.NodeProto:
        return next(node for node in self.graph.nodes if node.name == name)
