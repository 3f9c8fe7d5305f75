"""The network for one image → the same for a batch: the reshapes that name the first dimension, and the box decoding.

Where boxes are decoded from bins, that is written anew, in the operators that GPU engines have kernels for: ``Softmax``
over the bins in place of the exponentials and sums that are fastest on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ExportError
from .graph_edit import GraphEdit, Writer

if TYPE_CHECKING:
    import onnx

__all__ = ["FREE", "batch_network", "set_shape"]

FREE = -1
"""First dimension of a reshape where the batch is not fixed."""
_NAME = "batch"
_DECODING = (".dfl", ".offset", ".corners", ".xyxy", ".sides")
_UNDECODED = "probabilities"  # the output of models without boxes


def batch_network(graph: GraphEdit, batch: int) -> None:
    """Rewrite all but the attention (``attention_forms`` does that) for a batch.

    Args:
        graph: A network for one image, whose attention is for a batch already; changed in place.
        batch: Number of images, or ``FREE``.

    Raises:
        ExportError: If this is not a graph that this project has exported.
    """
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        path = node.name.rpartition(".dfl")[0]
        if node.name.endswith(".dfl.logits"):
            nodes += _decoding(graph, node.input[0], path, batch)
            continue
        if _is_decoding(node.name):
            continue
        if node.op_type == "Reshape" and graph.constants[node.input[1]][0] == 1:
            shape = graph.constants[node.input[1]].copy()
            shape[0] = batch
            graph.constants[node.input[1]] = shape
        nodes.append(node)
    if len(nodes) == len(graph.nodes) and _UNDECODED not in {item.name for item in graph.outputs}:
        raise ExportError(
            "the ONNX graph has no box decoding of this project", expected="what `yolo12edge export` wrote"
        )
    graph.nodes = nodes
    for item in (*graph.inputs, *graph.outputs):
        set_shape(item, (batch, *(dim.dim_value for dim in item.type.tensor_type.shape.dim[1:])))


def set_shape(item: onnx.ValueInfoProto, shape: Sequence[int], element: int | None = None) -> None:
    """Give an input or output of the graph another shape, whose first number may be ``FREE``.

    Args:
        item: The input or output.
        shape: The shape.
        element: The type of its elements, if that changes.
    """
    from onnx import helper

    kind = item.type.tensor_type.elem_type if element is None else element
    first = _NAME if shape[0] == FREE else shape[0]
    item.CopyFrom(helper.make_tensor_value_info(item.name, kind, [first, *shape[1:]]))


def _is_decoding(name: str) -> bool:
    return name == "boxes" or ".dfl." in name or name.endswith(_DECODING)


def _decoding(graph: GraphEdit, logits: str, path: str, batch: int) -> list[onnx.NodeProto]:
    """Write what gives ``boxes``, or the ``sides`` of boxes that are turned later, from the logits.

    Either is (batch, 4, candidates), the logits are (batch, 4 x bins, candidates).
    """
    bins = graph.constants[f"{path}.dfl.bins"][:, :1]  # (4, 1, bins); those of left and top are negative
    count = len(graph.constants[f"{path}.strides"])
    w = Writer(graph)
    split = w.reshape(logits, (batch, 4, bins.shape[2], count), f"{path}.dfl.logits")
    weights = w.node("Softmax", [split], f"{path}.dfl.softmax", axis=2)
    distance = w.node("MatMul", [w.constant(f"{path}.dfl.sides", bins[None], np.float32), weights], f"{path}.dfl")
    flat = w.reshape(distance, (batch, 4, count), f"{path}.dfl.flat")  # in cells
    if "boxes" not in {item.name for item in graph.outputs}:
        w.node("Mul", [flat, f"{path}.strides"], f"{path}.sides")
        return w.nodes
    offset, centres = w.node("Mul", [flat, f"{path}.strides"], f"{path}.offset"), graph.constants[f"{path}.centres"]
    w.node("Add", [offset, w.constant(f"{path}.corners", np.tile(centres, (2, 1))[None], np.float32)], "boxes")
    return w.nodes
