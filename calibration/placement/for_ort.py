"""What ONNX Runtime runs in INT8 on a CPU.

| operator of the body                        | INT8 | because |
| ------------------------------------------- | ---- | ------- |
| Conv, Sigmoid, Mul, Add, Concat, Resize …   | yes  | a node is integer only if all its inputs and outputs are quantized, and there is no fused SiLU: what lies between two convolutions is quantized too, or each would leave and re-enter INT8 |
| stem: stages with < 16 channels             | no   | the tiles of integer kernels run mostly empty there |
| Softmax, products of attention              | no   | ``attention="int8"`` lets the second product read 8-bit values |
| head's last convolutions and what follows   | no   | they cost most of the accuracy for a small share of the time |

Measured at 320 px on one AVX-512 thread without VNNI, scale n: float 20.9 ms, convolutions alone in INT8 30.7 ms, the
whole body 23.2 ms, the same with a float stem 21.2 ms; at 640 px on one thread with VNNI: float 40.1 ms, this table 28.5.
Activations are uint8 on x86, whose integer convolutions want them, and int8 on ARM.
"""  # noqa: E501 - a table

from __future__ import annotations

from ..graph import Graph, group_of, groups_of, stage_of
from .common import Attention, Placement

__all__ = ["place"]

_OPERATORS = frozenset({"Conv", "Sigmoid", "Mul", "Add", "Concat", "Resize", "MaxPool", "DepthToSpace"})
_NARROW = 16  # channels


def place(graph: Graph, *, signed: bool, attention: Attention, float_groups: frozenset[str]) -> Placement:
    """Return the placement for ONNX Runtime; see the table above."""
    stem = _stem_stages(graph)
    nodes: set[str] = set()
    tensors: dict[str, None] = {}
    given: set[str] = set()
    unit: set[str] = set()
    copies: list[tuple[str, ...]] = []
    for node in graph.nodes:
        stage, activations = stage_of(node.name), graph.activations(node)
        if (
            node.op_type not in _OPERATORS
            or not graph.is_body(node)
            or stage is None
            or stage < stem
            or group_of(node.name) in float_groups
            or (node.op_type == "Mul" and len(activations) < 2)  # by a constant
        ):
            if attention == "int8" and node.op_type == "Softmax" and group_of(node.name) not in float_groups:
                tensors.update(dict.fromkeys(node.output))
                given.update(node.output)
                unit.update(node.output)
            continue
        nodes.add(node.name)
        given.update(node.output)
        tensors.update(dict.fromkeys([*activations, *node.output]))
        if node.op_type == "Sigmoid":
            unit.update(node.output)
        if node.op_type in ("Resize", "MaxPool", "DepthToSpace"):  # they copy values
            copies.append((activations[0], node.output[0]))
    reads = {}
    for name in tensors:
        # What a quantized node gives is read quantized by everybody; the rest by quantized nodes only.
        readers = {node.name for node in graph.consumers.get(name, ()) if name in given or node.name in nodes}
        reads[name] = frozenset(readers)
    weights = tuple(node.name for node in graph.nodes if node.op_type == "Conv" and node.name in nodes)
    return Placement(signed, weights, reads, tuple(copies), frozenset(unit), integer_bias=True)


def _stem_stages(graph: Graph) -> int:
    """Return how many leading stages are too narrow for INT8: up to the last with a dense convolution below 16."""
    stem = 0
    for node in graph.nodes:
        stage = stage_of(node.name)
        if node.op_type != "Conv" or stage is None or stage >= 6:  # narrow layers of the head are their own matter
            continue
        out, per_group = graph.constants[node.input[1]].shape[:2]
        if groups_of(node) == 1 and min(out, per_group) < _NARROW:
            stem = stage + 1
    return stem
