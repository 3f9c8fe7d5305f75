"""What runs in INT8 on ONNX Runtime: a small table and the reasons for it.

ONNX Runtime turns a node into its integer form only if all its activations, inputs *and* outputs, are quantized, and
it has no fused SiLU: so everything between two convolutions is quantized as well, or each would pay for leaving and
re-entering INT8. Measured on one AVX-512 thread without VNNI, scale n at 320 px, best of 30: float 20.9 ms,
convolutions alone 30.7, all operators of the body 23.2, the same with a float stem 21.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["Placement", "place_for_ort"]

_OPERATORS = frozenset({"Conv", "Sigmoid", "Mul", "Add", "Concat", "Resize"})
# Boxes and scores come out of these; quantized they cost most of the accuracy for a small share of the time.
_HEAD_LAST = re.compile(r"model\.\d+\.cv[23]\.\d+\.2")
_STAGE = re.compile(r"model\.(\d+)(?:\.|$)")
_NARROW = 16  # channels; an INT8 kernel's tiles run mostly empty below this, a float one with channel blocks does not


@dataclass(frozen=True, slots=True)
class Placement:
    """Which nodes run in INT8 and what that asks of the tensors.

    Attributes:
        name: For the manifest.
        nodes: Names of the quantized nodes.
        tensors: Activations that need a scale and a zero point, inputs and outputs of these nodes.
        unit: Those among them that lie in [0, 1] whatever the data: outputs of sigmoids.
        same_as: Tensors that must share the parameters of another one, because their node only copies values.
        float_nodes: Names of the convolutions and matrix products that stay float.
    """

    name: str
    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    unit: frozenset[str]
    same_as: dict[str, str]
    float_nodes: tuple[str, ...]


def place_for_ort(model: onnx.ModelProto) -> Placement:
    """Choose the nodes of an exported YOLO12 that ONNX Runtime is to run in INT8.

    Float stay: the stem (the leading stages up to the last one with a convolution of fewer than 16 channels), the
    products and the softmax of attention, the last convolutions of the head and all that follows them.

    Raises:
        ExportError: If this is not a graph that this project has exported.
    """
    graph = model.graph
    constants = {item.name: tuple(item.dims) for item in graph.initializer}
    stem = _stem_stages([node for node in graph.node if node.op_type == "Conv"], constants)
    decoded: set[str] = set()  # what depends on the head's last convolutions
    nodes: list[str] = []
    tensors: dict[str, None] = {}  # an ordered set
    unit: set[str] = set()
    same_as: dict[str, str] = {}
    float_nodes: list[str] = []
    for node in graph.node:
        activations = [name for name in node.input if name and name not in constants]
        if _HEAD_LAST.fullmatch(node.name) or decoded.intersection(activations):
            decoded.update(node.output)
        stage = _STAGE.match(node.name)
        inside = (
            node.op_type in _OPERATORS
            and stage is not None
            and int(stage[1]) >= stem
            and not decoded.intersection(node.output)
            and not (node.op_type == "Mul" and len(activations) < 2)
        )
        if not inside:
            if node.op_type in ("Conv", "MatMul"):
                float_nodes.append(node.name)
            continue
        nodes.append(node.name)
        tensors.update(dict.fromkeys([*activations, *node.output]))
        if node.op_type == "Sigmoid":
            unit.update(node.output)
        if node.op_type == "Resize":
            same_as[node.output[0]] = activations[0]
    if not decoded or not nodes:
        raise ExportError(
            "the ONNX graph has no layers named as this project names them",
            expected="a model that `yolo12edge export` wrote",
        )
    return Placement("onnxruntime", tuple(nodes), tuple(tensors), frozenset(unit), same_as, tuple(float_nodes))


def _stem_stages(convolutions: list[onnx.NodeProto], shapes: dict[str, tuple[int, ...]]) -> int:
    """Return how many leading stages are too narrow for INT8."""
    stem = 0
    for node in convolutions:
        stage = _STAGE.match(node.name)
        out, per_group, *_ = shapes[node.input[1]]
        grouped = any(item.name == "group" and item.i > 1 for item in node.attribute)
        # Narrow layers of the head are its own matter; the stem ends where attention begins at the latest.
        if stage and int(stage[1]) < 6 and not grouped and min(out, per_group) < _NARROW:
            stem = int(stage[1]) + 1
    return stem
