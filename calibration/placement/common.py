"""The words that all placement tables share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import InputError
from ...machine import int8_saturates, is_x86
from ..graph import Graph

__all__ = [
    "TARGETS",
    "Attention",
    "Placement",
    "Target",
    "concat_groups",
    "float_convolutions",
    "runs_here",
    "target_here",
]

Target = Literal["ort-x86", "ort-x86-vnni", "ort-arm", "openvino", "openvino-vnni", "tensorrt", "coreml"]
"""Where an INT8 model is to run. x86 without VNNI adds products in 16 bits, hence wants 7-bit weights."""
TARGETS: tuple[Target, ...] = get_args(Target)
Attention = Literal["float", "int8"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model gets its Q/DQ pairs.

    Attributes:
        signed: int8 activations, symmetric around zero, instead of uint8 with a zero point.
        weights: Names of the nodes whose weights are INT8.
        reads: By tensor, the names of the nodes that read it through a Q/DQ pair; all share one pair.
        same_scale: Tensors that must have one scale and zero point, each in at most one tuple.
        unit: Tensors that lie in [0, 1] whatever the data: outputs of sigmoids and softmaxes.
        integer_bias: Whether biases are int32 behind a DQ; else they stay float.
    """

    signed: bool
    weights: tuple[str, ...]
    reads: dict[str, frozenset[str]]
    same_scale: tuple[tuple[str, ...], ...] = ()
    unit: frozenset[str] = frozenset()
    integer_bias: bool = False


def target_here(format: str) -> Target:
    """Return the target that this machine is, for ``onnx`` or ``openvino`` artifacts.

    Raises:
        InputError: For another format.
    """
    if format == "onnx":
        return ("ort-x86" if int8_saturates() else "ort-x86-vnni") if is_x86() else "ort-arm"
    if format == "openvino":
        return "openvino" if int8_saturates() else "openvino-vnni"
    raise InputError(f"there is no INT8 for format {format!r}", expected="onnx or openvino")


def runs_here(target: Target) -> bool:
    """Return whether this machine computes what the target would: else accuracy is simulated and speed not known."""
    if target == "ort-arm":
        return not is_x86()
    if target in ("ort-x86", "ort-x86-vnni") and not is_x86():
        return False
    return target not in ("tensorrt", "coreml") and not (target.endswith("-vnni") and int8_saturates())


def float_convolutions(graph: Graph, placement: Placement) -> list[str]:
    """Return the names of the convolutions that compute in float."""
    quantized = set(placement.weights)
    return [node.name for node in graph.nodes if node.op_type == "Conv" and node.name not in quantized]


def concat_groups(graph: Graph, reads: dict[str, set[str]], concats: list[str]) -> tuple[tuple[str, ...], ...]:
    """Return the tensors that meet in concatenations, joined where they share one; each in one group.

    Args:
        graph: The model.
        reads: Tensors with a Q/DQ pair; others are left out.
        concats: Names of the concatenations.
    """
    wanted = set(concats)
    groups: list[dict[str, None]] = []
    for node in graph.nodes:
        if node.name not in wanted:
            continue
        joined = dict.fromkeys(name for name in (*graph.activations(node), *node.output) if name in reads)
        for other in [group for group in groups if group.keys() & joined.keys()]:
            groups.remove(other)
            joined = {**other, **joined}
        groups.append(joined)
    return tuple(tuple(group) for group in groups if len(group) > 1)
