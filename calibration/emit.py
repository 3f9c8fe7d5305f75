"""Write a Q/DQ ONNX model: standard QuantizeLinear / DequantizeLinear nodes around what is to run in INT8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ExportError
from .placement_ort import Placement
from .quantizers import QuantParams, quantize_weight

if TYPE_CHECKING:
    import onnx

__all__ = ["emit_qdq"]


def emit_qdq(
    model: onnx.ModelProto,
    placement: Placement,
    params: Mapping[str, QuantParams],
    *,
    reduced_range: bool,
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Return the model with Q/DQ pairs on activations and INT8 weights in its quantized convolutions.

    A tensor that a quantized node gives is read quantized by everybody; a tensor that a float node gives is read
    quantized by quantized nodes only.

    Args:
        model: The float model; left as it is.
        placement: Which nodes run in INT8 and which tensors are quantized for that.
        params: Scale and zero point of each of these tensors.
        reduced_range: See ``quantize_weight``.
        metadata: Custom metadata of the new model.

    Raises:
        ExportError: If the result is not valid ONNX.
    """
    import onnx
    from onnx import helper, numpy_helper

    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    quantized, tensors = set(placement.nodes), set(placement.tensors)
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
        nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.q"], name=f"{name}.quantize"))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}.q", scale, zero], [f"{name}.dq"], name=f"{name}.dequantize")
        )

    def constant_input(node: onnx.NodeProto, index: int, integers: Any, scales: Any) -> None:
        """Replace a constant input by its integers and a DQ with one scale per output channel."""
        name = node.input[index]
        zeros = np.zeros(len(scales), integers.dtype)
        parts = {f"{name}.q": integers, f"{name}.scale": scales, f"{name}.zero_point": zeros}
        inputs = [constant(part, value) for part, value in parts.items()]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], name=f"{name}.dequantize", axis=0))
        node.input[index] = f"{name}.dq"
        replaced.add(name)

    given = {output for node in model.graph.node if node.name in quantized for output in node.output}
    for item in model.graph.input:
        if item.name in tensors:
            pair(item.name)
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        inside = node.name in quantized
        for index, name in enumerate(original.input):
            if name in tensors and (inside or name in given):
                node.input[index] = f"{name}.dq"
        if inside and node.op_type == "Conv":
            weight = original.input[1]
            integers, scales = quantize_weight(constants[weight], reduced_range=reduced_range)
            constant_input(node, 1, integers, scales)
            if len(original.input) > 2:
                product = np.float64(params[original.input[0]].scale) * scales.astype(np.float64)
                whole = np.round(constants[original.input[2]].astype(np.float64) / product)
                limit = 2.0**31 - 1
                constant_input(node, 2, np.clip(whole, -limit, limit).astype(np.int32), product.astype(np.float32))
        nodes.append(node)
        for name in original.output:
            if name in tensors:
                pair(name)
    kept = [item for item in model.graph.initializer if item.name not in replaced]
    kept += [numpy_helper.from_array(np.asarray(value), name) for name, value in added.items()]
    graph = helper.make_graph(nodes, model.graph.name, list(model.graph.input), list(model.graph.output), kept)
    result = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    helper.set_model_props(result, dict(metadata))
    try:
        result = onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the INT8 graph is not valid ONNX: {error}") from error
    return result
