"""Write a Q/DQ ONNX model: standard QuantizeLinear / DequantizeLinear nodes around what is to run in INT8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..onnx_model import checked_model
from .graph import Graph
from .placement import Placement
from .quantizers import QuantParams

if TYPE_CHECKING:
    import onnx

__all__ = ["QuantizedWeight", "emit_qdq"]

_LARGEST_BIAS = 2.0**30  # half of int32: sums of products need room too


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedWeight:
    """A convolution's constants in INT8.

    Attributes:
        integers: int8, shape (out, in / groups, height, width).
        scales: float32, shape (out,): ``weight = integers * scale``.
        bias: float32, shape (out,), corrected for what rounding shifts; None for a convolution without one.
    """

    integers: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None


def emit_qdq(
    graph: Graph,
    placement: Placement,
    params: Mapping[str, QuantParams],
    weights: Mapping[str, QuantizedWeight],
    *,
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Return the model with Q/DQ pairs on activations and INT8 weights.

    The added nodes have no names of their own: what they give is named after the tensor, with ``.q`` and ``.dq``.

    Args:
        graph: The float model; left as it is.
        placement: Who reads what quantized.
        params: Scale and zero point of each tensor of ``placement.reads``.
        weights: By name of each node of ``placement.weights``.
        metadata: Custom metadata of the new model.

    Raises:
        ExportError: If the result is not valid ONNX.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = graph.model
    nodes: list[onnx.NodeProto] = []
    added: dict[str, Any] = {}
    replaced: set[str] = set()

    def constant(name: str, value: Any) -> str:
        added[name] = value
        return name

    def pair(name: str) -> None:
        """Add Q and DQ behind a tensor."""
        item = params[name]
        scale = constant(f"{name}.scale", np.array(item.scale, np.float32))
        zero = constant(f"{name}.zero_point", np.array(item.zero_point))
        nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", scale, zero], [f"{name}.dq"]))

    def constant_input(node: onnx.NodeProto, index: int, integers: Any, scales: Any) -> None:
        """Replace a constant input by its integers and a DQ with one scale per output channel."""
        name = node.input[index]
        parts = {f"{name}.q": integers, f"{name}.scale": scales}
        if integers.dtype == np.int8:
            parts[f"{name}.zero_point"] = np.zeros(len(scales), np.int8)
        inputs = [constant(part, value) for part, value in parts.items()]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], axis=0))
        node.input[index] = f"{name}.dq"
        replaced.add(name)

    for item in model.graph.input:
        if item.name in placement.reads:
            pair(item.name)
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        for index, name in enumerate(original.input):
            if node.name in placement.reads.get(name, ()):
                node.input[index] = f"{name}.dq"
        weight = weights.get(node.name)
        if weight is not None:
            if placement.integer_bias:
                weight = _room_for_bias(weight, float(params[original.input[0]].scale))
            constant_input(node, 1, weight.integers, weight.scales)
            if weight.bias is not None and placement.integer_bias:
                product = np.float64(params[original.input[0]].scale) * weight.scales.astype(np.float64)
                whole = np.round(weight.bias.astype(np.float64) / product)
                constant_input(node, 2, whole.astype(np.int32), product.astype(np.float32))
            elif weight.bias is not None:
                node.input[2] = constant(f"{original.input[2]}.corrected", weight.bias)
                replaced.add(original.input[2])
        nodes.append(node)
        for name in original.output:
            if name in placement.reads:
                pair(name)
    kept = [item for item in model.graph.initializer if item.name not in replaced]
    kept += [numpy_helper.from_array(np.asarray(value), name) for name, value in added.items()]
    rebuilt = helper.make_graph(nodes, model.graph.name, list(model.graph.input), list(model.graph.output), kept)
    result = checked_model(rebuilt, metadata)
    del result.graph.value_info[:]  # engines infer the shapes; the names of all these tensors are a part of the size
    return result


def _room_for_bias(weight: QuantizedWeight, input_scale: float) -> QuantizedWeight:
    """Give channels with tiny weights and a large bias coarser weights, so that the bias fits 32 bits beside them."""
    if weight.bias is None:
        return weight
    least = np.abs(weight.bias.astype(np.float64)) / (input_scale * _LARGEST_BIAS)
    scales = np.maximum(weight.scales, least).astype(np.float32)
    if (scales == weight.scales).all():
        return weight
    ratio = (weight.scales / scales)[:, None, None, None]
    return QuantizedWeight(np.rint(weight.integers * ratio).astype(np.int8), scales, weight.bias)
