"""ONNX operators in Core ML's language: one small function each, in a table.

Each function gets the node, its inputs (variables of the program, or constants as arrays) and its name in the program,
and returns the variable that it gives, or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["OPERATORS", "Operator", "attributes_of"]

Operator = Callable[["onnx.NodeProto", Sequence[Any], str], Any]


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name, texts as ``str``."""
    from onnx import helper

    values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def _builder() -> Any:
    from coremltools.converters.mil import Builder

    return Builder


def _conv(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    given = attributes_of(node)
    top, left, bottom, right = given["pads"]
    bias = {"bias": inputs[2]} if len(inputs) > 2 else {}
    return _builder().conv(
        x=inputs[0],
        weight=inputs[1],
        **bias,
        strides=given["strides"],
        pad_type="custom",
        pad=[top, bottom, left, right],
        dilations=given["dilations"],
        groups=given["group"],
        name=name,
    )


def _resize(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    given = attributes_of(node)
    how = given["mode"], given["coordinate_transformation_mode"], given["nearest_mode"]
    scales = np.asarray(inputs[2]).tolist()
    if how != ("nearest", "asymmetric", "floor") or scales[:2] != [1, 1] or not all(x.is_integer() for x in scales):
        raise ExportError(
            f"{node.name} resizes by {scales}, {', '.join(how)}", expected="nearest neighbours, by a whole number"
        )
    return _builder().upsample_nearest_neighbor(
        x=inputs[0], scale_factor_height=scales[2], scale_factor_width=scales[3], name=name
    )


def _quantize(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().quantize(input=inputs[0], scale=_scale(node, inputs), output_dtype="int8", name=name)


def _dequantize(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().dequantize(input=inputs[0], scale=_scale(node, inputs), name=name)


def _scale(node: onnx.NodeProto, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
    """Return the one scale of an activation; that zero is 0 was checked for all pairs before."""
    scale = np.asarray(inputs[1], np.float32)
    if scale.size != 1:
        raise ExportError(f"{node.output[0]} has {scale.size} scales", expected="one for an activation")
    return scale.reshape(())


def _matmul(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().matmul(x=inputs[0], y=inputs[1], name=name)


def _reshape(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().reshape(x=inputs[0], shape=np.asarray(inputs[1]).astype(np.int32), name=name)


def _transpose(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().transpose(x=inputs[0], perm=attributes_of(node)["perm"], name=name)


def _softmax(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().softmax(x=inputs[0], axis=attributes_of(node).get("axis", -1), name=name)


def _concat(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().concat(values=list(inputs), axis=attributes_of(node)["axis"], name=name)


def _sigmoid(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().sigmoid(x=inputs[0], name=name)


def _silu(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().silu(x=inputs[0], name=name)


def _mul(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().mul(x=inputs[0], y=inputs[1], name=name)


def _sub(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().sub(x=inputs[0], y=inputs[1], name=name)


def _cos(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().cos(x=inputs[0], name=name)


def _sin(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().sin(x=inputs[0], name=name)


def _split(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    sizes = np.asarray(inputs[1]).astype(np.int32)
    return _builder().split(x=inputs[0], split_sizes=sizes, axis=attributes_of(node)["axis"], name=name)


def _depth_to_space(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    given = attributes_of(node)
    if given.get("mode") != "CRD":
        raise ExportError(f"{node.name} moves pixels in another order", expected="CRD, as PyTorch does")
    return _builder().pixel_shuffle(x=inputs[0], upscale_factor=given["blocksize"], name=name)


def _mean(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().reduce_mean(x=inputs[0], axes=[2, 3], keep_dims=True, name=name)


def _add(node: onnx.NodeProto, inputs: Sequence[Any], name: str) -> Any:
    return _builder().add(x=inputs[0], y=inputs[1], name=name)


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "Concat": _concat,
    "Conv": _conv,
    "Cos": _cos,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "GlobalAveragePool": _mean,
    "MatMul": _matmul,
    "Mul": _mul,
    "QuantizeLinear": _quantize,
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _sigmoid,
    "SiLU": _silu,
    "Sin": _sin,
    "Softmax": _softmax,
    "Split": _split,
    "Sub": _sub,
    "Transpose": _transpose,
}
"""By the name of the operator in ONNX, where ``SiLU`` stands for ``x * Sigmoid(x)``."""
