"""What OpenVINO runs in INT8 on a CPU.

| place                                     | Q/DQ | because |
| ----------------------------------------- | ---- | ------- |
| input of a convolution, and its weights   | yes  | that alone makes it integer; SiLU and the next Q become its post-operations |
| output of a convolution                   | no   | SiLU fuses only if nothing stands between |
| inputs of concatenations                  | no   | OpenVINO moves the Q of the output there by itself; ``join_concats`` gives all one scale |
| residual sums, attention                  | no   | as float post-operations they cost next to nothing; ``attention="int8"`` quantizes q, k, v and the softmax |
| head's last convolutions and what follows | no   | they cost most of the accuracy for a small share of the time |

Measured at 640 px, one thread, scale n, time of float over INT8: 1.78 with VNNI, 1.44 with AVX-512 alone, 1.46 with
AVX2 alone; with concatenations joined 1.74, 1.42, 1.44, and int8 attention besides 1.63 to 1.70 (VNNI). Activations are
uint8. Without VNNI, weights must keep to 7 bits: with 8 bits the mean error of the boxes rises from 0.2 to 6.3 px.
"""  # noqa: E501 - a table

from __future__ import annotations

from ..graph import Graph, group_of
from .common import Attention, Placement, concat_groups

__all__ = ["place"]


def place(graph: Graph, *, attention: Attention, join_concats: bool, float_groups: frozenset[str]) -> Placement:
    """Return the placement for OpenVINO; see the table above."""
    weights: list[str] = []
    reads: dict[str, set[str]] = {}
    unit: set[str] = set()
    concats: list[str] = []

    def read(name: str, *readers: str) -> None:
        reads.setdefault(name, set()).update(readers)

    for node in graph.nodes:
        if not graph.is_body(node) or group_of(node.name) in float_groups:
            continue
        if node.op_type == "Conv":
            weights.append(node.name)
            read(node.input[0], node.name)
    for node in graph.nodes:
        if not graph.is_body(node) or group_of(node.name) in float_groups:
            continue
        if join_concats and node.op_type == "Concat" and node.output[0] in reads:
            concats.append(node.name)
            for name in node.input:
                read(name, node.name)
        if attention == "int8" and node.op_type == "Softmax":
            unit.update(node.output)
            read(node.output[0], *(reader.name for reader in graph.consumers[node.output[0]]))
        if attention == "int8" and node.op_type == "Reshape" and graph.producer[node.input[0]].op_type == "Conv":
            read(node.input[0], node.name)  # q, k and v on their way to the products
    return Placement(
        signed=False,
        weights=tuple(weights),
        reads={name: frozenset(readers) for name, readers in reads.items()},
        same_scale=concat_groups(graph, reads, concats),
        unit=frozenset(unit),
    )
