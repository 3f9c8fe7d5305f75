"""What runs in INT8: one small table for each target, because each engine has integer kernels for other patterns."""

from __future__ import annotations

from ..graph import Graph
from .common import TARGETS, Attention, Placement, Target, float_convolutions, runs_here, target_here

__all__ = ["TARGETS", "Attention", "Placement", "Target", "float_convolutions", "place", "runs_here", "target_here"]


def place(
    graph: Graph,
    target: Target,
    *,
    attention: Attention = "float",
    join_concats: bool = False,
    float_groups: frozenset[str] = frozenset(),
) -> Placement:
    """Choose where a model gets its Q/DQ pairs for a target.

    Args:
        graph: The float model.
        target: Where the result is to run.
        attention: Whether the products of attention read 8-bit values too; TensorRT's and Core ML's stay float.
        join_concats: OpenVINO only: one scale for all inputs and the output of a concatenation, so that it moves
            bytes. TensorRT always has that, ONNX Runtime never needs it.
        float_groups: Groups of nodes (``graph.group_of``) that stay float.
    """
    from . import for_coreml, for_openvino, for_ort, for_tensorrt

    if target in ("ort-x86", "ort-x86-vnni", "ort-arm"):
        return for_ort.place(graph, signed=target == "ort-arm", attention=attention, float_groups=float_groups)
    if target == "coreml":
        return for_coreml.place(graph, float_groups=float_groups)
    if target == "tensorrt":
        return for_tensorrt.place(graph, float_groups=float_groups)
    return for_openvino.place(graph, attention=attention, join_concats=join_concats, float_groups=float_groups)
