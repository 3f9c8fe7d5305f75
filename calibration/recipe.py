"""``Recipe``: all choices that make one INT8 model out of one float model and its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .placement import Attention, Target
from .ranges import Method

__all__ = ["Recipe", "Rounding"]

Rounding = Literal["nearest", "gptq", "adaround"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to quantize.

    Attributes:
        target: Where the result is to run.
        method: How activation ranges are solved.
        attention: See ``placement.place``.
        join_concats: See ``placement.place``.
        float_groups: Groups of nodes that stay float.
        rounding: How weights are rounded: each to the nearest, or together, so that the output of their layer changes
            least (see ``adaround``); the latter two need ``Quantizer.round_weight`` first.
        learned: Whether ranges and weight steps are those that training has learned, see ``LearnedRanges``.
        nncf: Whether NNCF quantizes by its own defaults instead, with a pass of its own; for OpenVINO alone.
    """

    target: Target
    method: Method = "mse"
    attention: Attention = "float"
    join_concats: bool = False
    float_groups: frozenset[str] = frozenset()
    rounding: Rounding = "nearest"
    nncf: bool = False
    learned: bool = False

    @property
    def reduced_range(self) -> bool:
        """Whether weights keep to 7 bits, because the target may add products in 16 bits."""
        return self.target in ("ort-x86", "openvino")

    @property
    def name(self) -> str:
        """For people, such as ``mse ranges, int8 attention``."""
        if self.nncf:
            return "NNCF, preset MIXED"
        parts = ["learned ranges" if self.learned else f"{self.method} ranges"]
        if self.attention == "int8":
            parts.append("int8 attention")
        if self.join_concats:
            parts.append("joined concats")
        return ", ".join(parts)
