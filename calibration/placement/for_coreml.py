"""What Core ML runs in INT8: W8A8 on the Neural Engine of A17 Pro, M4 and later.

| place                                     | Q/DQ | because |
| ----------------------------------------- | ---- | ------- |
| input of a convolution, and its weights   | yes  | that alone makes it integer; the next convolution's Q becomes its output type |
| output of a convolution                   | no   | SiLU fuses only if nothing stands between |
| inputs of concatenations                  | no   | one range for all would cost accuracy; nothing says that it would bring speed |
| residual sums, attention                  | no   | they are computed in half precision in any case |
| first convolution                         | no   | its input is the picture itself, and it is small |
| head's last convolutions and what follows | no   | they cost most of the accuracy for a small share of the time |

Activations are int8 with zero point 0, one scale a tensor; weights have one scale a channel. No speed was measured: that
needs a Mac or an iPhone. What is known of it is Apple's own: https://apple.github.io/coremltools/docs-guides/source/opt-overview.html.
"""  # noqa: E501 - a table

from __future__ import annotations

from ..graph import Graph, group_of
from .common import Placement

__all__ = ["place"]


def place(graph: Graph, *, float_groups: frozenset[str]) -> Placement:
    """Return the placement for Core ML; see the table above."""
    images = {item.name for item in graph.model.graph.input}
    weights: list[str] = []
    reads: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.op_type != "Conv" or not graph.is_body(node) or group_of(node.name) in float_groups:
            continue
        if node.input[0] in images:
            continue
        weights.append(node.name)
        reads.setdefault(node.input[0], set()).add(node.name)
    return Placement(
        signed=True,
        weights=tuple(weights),
        reads={name: frozenset(readers) for name, readers in reads.items()},
    )
