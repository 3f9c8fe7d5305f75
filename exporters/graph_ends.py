"""What a network does at its two ends on a GPU: it takes pixels as they are, and gives the best candidates only.

Both spare the CPU work and the bus bytes. All of it is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ExportError, InputError
from .batching import set_shape
from .graph_edit import GraphEdit, Writer

if TYPE_CHECKING:
    import onnx

__all__ = ["MOST_CANDIDATES", "WHOLE", "best_candidates", "pixel_input"]

MOST_CANDIDATES = 3840
"""TensorRT's TopK gives no more."""
WHOLE = ("prototypes", "probabilities")
"""Outputs that are of the whole picture, not of candidates."""
_LEAST_SCORE = 1e-6  # NMS leaves out what is not above it: of the pairs of candidate and class, all but one have 0


def pixel_input(graph: GraphEdit, scale: float) -> None:
    """Let the graph take uint8 (batch, height, width, 3), BGR, in place of float32 (batch, 3, height, width), RGB.

    The order of the colours goes into the weights of the first convolution, where it costs nothing.

    Args:
        graph: A network, float or with Q/DQ pairs; changed in place.
        scale: What pixels are multiplied by.

    Raises:
        ExportError: If its input is not read by one convolution alone.
    """
    from onnx import TensorProto

    item = graph.inputs[0]
    images = item.name
    readers, producers = graph.readers(), graph.producers()
    first = readers.get(images, [])
    while len(first) == 1 and first[0].op_type in ("QuantizeLinear", "DequantizeLinear"):
        first = readers.get(first[0].output[0], [])
    if len(first) != 1 or first[0].op_type != "Conv":
        raise ExportError(f"{images} is not read by one convolution alone", expected="a graph that this project wrote")
    weight = first[0].input[1]
    if weight in producers:
        weight = producers[weight].input[0]  # the integers
    graph.constants[weight] = np.ascontiguousarray(graph.constants[weight][:, ::-1])
    w = Writer(graph)
    real = w.node("Cast", [images], f"{images}.float", to=TensorProto.FLOAT)  # TensorRT transposes no uint8
    planes = w.node("Transpose", [real], f"{images}.planes", perm=[0, 3, 1, 2])
    scaled = w.node("Mul", [planes, w.constant(f"{images}.factor", scale, np.float32)], f"{images}.scaled")
    _rename_input(readers[images], images, scaled)
    graph.nodes = [*w.nodes, *graph.nodes]
    batch, _, height, width = _shape(item)
    set_shape(item, (batch, height, width, 3), TensorProto.UINT8)


def best_candidates(graph: GraphEdit, count: int, *, nms_iou: float | None, opset: int) -> int:
    """Let only the candidates with the best scores leave the graph, best first; equal scores rank by position.

    With ``nms_iou``, candidates that overlap a better one of their class by more have their scores set to 0; as in the
    ``Runtime``, a candidate is of its best class.

    Args:
        graph: A network with the output ``scores``; changed in place.
        count: How many; all there are, if those are fewer.
        nms_iou: Where to suppress; None does not. For a detector only.
        opset: Of the graph.

    Returns:
        How many it will give.

    Raises:
        InputError: If these are more than TensorRT can choose.
    """
    outputs = {item.name: item for item in graph.outputs if item.name not in WHOLE}
    batch, classes, all_of_them = _shape(outputs["scores"])
    count = min(count, all_of_them)
    if count > MOST_CANDIDATES:
        raise InputError(f"{count} candidates are asked for", expected=f"at most {MOST_CANDIDATES}, TensorRT's limit")
    for node in graph.nodes:  # the names of the outputs go to what comes last
        for index, name in enumerate(node.input):
            if name in outputs:  # angles turn boxes
                node.input[index] = f"all.{name}"
        if node.output[0] in outputs:
            node.name = node.output[0] = f"all.{node.output[0]}"
    w = Writer(graph)
    rank = _greatest(w, "all.scores", "candidates.rank", opset)  # (batch, all)
    k = w.constant("candidates.count", [count], np.int64)
    best, ranks = _top_k(w, rank, k)
    places = w.node("Unsqueeze", [ranks, w.constant("candidates.axis", [2], np.int64)], "candidates.places")
    chosen = {}
    for name in outputs:
        suppressed = name == "scores" and nms_iou is not None
        rows = w.node("Transpose", [f"all.{name}"], f"{name}.rows", perm=[0, 2, 1])
        chosen[name] = w.node("GatherND", [rows, places], f"{name}.best", batch_dims=1)  # (batch, count, …)
        w.node("Transpose", [chosen[name]], f"{name}.chosen" if suppressed else name, perm=[0, 2, 1])
    if nms_iou is not None:
        _suppress(w, chosen["boxes"], best, classes, count, nms_iou)
    graph.nodes += w.nodes
    for item in outputs.values():
        set_shape(item, (batch, _shape(item)[1], count))
    return count


def _suppress(w: Writer, boxes: str, best: str, classes: int, count: int, iou: float) -> None:
    """Write ``scores`` from ``scores.chosen`` (batch, classes, count), 0 where a candidate is suppressed."""
    from onnx import TensorProto

    label = w.node("ArgMax", ["scores.chosen"], "nms.label", axis=1, keepdims=1)
    ids = w.constant("nms.classes", np.arange(classes).reshape(1, -1, 1), np.int64)
    zero = w.constant("nms.zero", 0.0, np.float32)
    own = w.node("Where", [w.node("Equal", [label, ids], "nms.own"), "scores.chosen", zero], "nms.scores")
    limits = [
        w.constant("nms.most", [count], np.int64),
        w.constant("nms.iou", [iou], np.float32),
        w.constant("nms.least", [_LEAST_SCORE], np.float32),
    ]
    kept = w.node("NonMaxSuppression", [boxes, own, *limits], "nms")  # (kept, 3): image, class, candidate
    columns = w.constant("nms.columns", [0, 2], np.int64)
    where = w.node("Gather", [kept, columns], "nms.kept", axis=1)
    # As many rows as survive: gathering and scattering them brings back a shape that is known.
    survivors = w.node("GatherND", [best, where], "nms.survivors")
    none = w.node("Mul", [best, zero], "nms.none")
    alive = w.node("ScatterND", [none, where, survivors], "nms.alive")  # (batch, count)
    flag = w.node("Cast", [w.node("Greater", [alive, zero], "nms.flag")], "nms.factor", to=TensorProto.FLOAT)
    factor = w.node("Unsqueeze", [flag, w.constant("nms.axis", [1], np.int64)], "nms.factors")
    w.node("Mul", ["scores.chosen", factor], "scores")


def _greatest(w: Writer, scores: str, name: str, opset: int) -> str:
    """Write the greatest score of each candidate; the axis became an input with opset 18."""
    if opset < 18:
        return w.node("ReduceMax", [scores], name, axes=[1], keepdims=0)
    return w.node("ReduceMax", [scores, w.constant(f"{name}.axis", [1], np.int64)], name, keepdims=0)


def _top_k(w: Writer, rank: str, k: str) -> tuple[str, str]:
    values, index = "candidates.score", "candidates.index"
    w.node("TopK", [rank, k], values, axis=1, largest=1, sorted=1)
    w.nodes[-1].output.append(index)
    return values, index


def _shape(item: onnx.ValueInfoProto) -> list[int]:
    """Return a shape, with ``FREE`` where a dimension has a name."""
    return [dim.dim_value or -1 for dim in item.type.tensor_type.shape.dim]


def _rename_input(nodes: Sequence[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
