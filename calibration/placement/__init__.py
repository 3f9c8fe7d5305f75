"""What runs in INT8: one small table for each target, because each engine has integer kernels for other patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["TARGETS", "Placement", "Target"]

Target = Literal["ort-x86", "ort-x86-vnni", "ort-arm", "openvino", "openvino-vnni", "tensorrt"]
"""Where the INT8 model is to run; ``-vnni`` is for x86 processors that need no 7-bit weights."""
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model gets its Q/DQ pairs.

    Attributes:
        signed: int8 activations, symmetric around zero, instead of uint8 with a zero point.
        weights: Names of the nodes whose weights are INT8.
        reads: By tensor, the names of the nodes that read it through a Q/DQ pair; all share one pair.
        same_scale: Tensors that must have one scale and zero point, each in at most one tuple.
        unit: Tensors that lie in [0, 1] whatever the data: outputs of sigmoids.
        integer_bias: Whether biases are int32 behind a DQ; else they stay float.
    """

    signed: bool
    weights: tuple[str, ...]
    reads: dict[str, frozenset[str]]
    same_scale: tuple[tuple[str, ...], ...] = ()
    unit: frozenset[str] = frozenset()
    integer_bias: bool = False
