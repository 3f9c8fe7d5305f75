"""What TensorRT runs in INT8: explicit Q/DQ, strongly typed.

| place                                     | Q/DQ | because |
| ----------------------------------------- | ---- | ------- |
| input of a convolution, and its weights   | yes  | TensorRT fuses Conv and SiLU, and the next Q becomes its output type |
| output of a convolution, bias             | no   | a Q there splits the fusion; the parser refuses an int32 bias |
| residual sum                              | skip | Q/DQ on the branch that skips, never between a convolution and the sum |
| concatenation                             | yes  | one scale for all inputs and the output, or reformats remain |
| attention                                 | no   | the float products and softmax become one fused kernel |
| narrow or unusual convolutions            | no   | there are no fast integer kernels (the rules of NVIDIA's Model Optimizer) |
| head's last convolutions and what follows | no   | they cost most of the accuracy for a small share of the time |

All activations are int8 with zero point 0: TensorRT knows no other.
"""  # noqa: E501 - a table

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph import Graph, group_of, groups_of
from .common import Placement, concat_groups

if TYPE_CHECKING:
    import onnx

__all__ = ["place"]

_NARROW = 16  # channels


def place(graph: Graph, *, float_groups: frozenset[str]) -> Placement:
    """Return the placement for TensorRT; see the table above."""
    body = [node for node in graph.nodes if graph.is_body(node) and group_of(node.name) not in float_groups]
    weights: list[str] = []
    reads: dict[str, set[str]] = {}
    for node in body:
        if node.op_type == "Conv" and _has_kernel(graph, node):
            weights.append(node.name)
            reads.setdefault(node.input[0], set()).add(node.name)
    concats = []
    for node in body:
        if node.op_type == "Concat" and node.output[0] in reads:
            concats.append(node.name)
            for name in node.input:
                reads.setdefault(name, set()).add(node.name)
        if node.op_type == "Add" and (skip := _skip_branch(graph, node)) is not None and skip in reads:
            reads[skip].add(node.name)
    return Placement(
        signed=True,
        weights=tuple(weights),
        reads={name: frozenset(readers) for name, readers in reads.items()},
        same_scale=concat_groups(graph, reads, concats),
    )


def _skip_branch(graph: Graph, add: onnx.NodeProto) -> str | None:
    """Return the input of a residual sum that the other input was computed from, or None for another sum."""
    first, second = (str(name) for name in add.input)
    for skip, branch in ((first, second), (second, first)):
        seen, stack = set(), [branch]
        while stack:
            name = stack.pop()
            if name == skip:
                return skip
            node = graph.producer.get(name)
            if node is None or node.name in seen or group_of(node.name) != group_of(add.name):
                continue  # residuals stay within their block
            seen.add(node.name)
            stack += graph.activations(node)
    return None


def _has_kernel(graph: Graph, conv: onnx.NodeProto) -> bool:
    """Return whether TensorRT has a fast integer kernel for a convolution of this shape."""
    out, per_group, height, width = graph.constants[conv.input[1]].shape
    groups = groups_of(conv)
    if groups > 1:
        return bool(out % 8 == 0 and min(height, width) >= 3)
    narrow, wide = sorted((out, per_group))
    if narrow >= _NARROW:
        return True
    is_first = conv.input[0] in {item.name for item in graph.model.graph.input}
    return bool(height == width and (out % 8 == 0 or per_group % 8 == 0) and (is_first or wide >= _NARROW))
