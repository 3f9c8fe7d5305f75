"""Area attention in three forms that TensorRT can run as one kernel, for any batch.

- ``native``: MatMul, Softmax, MatMul on (batch x area, heads, tokens, 32), the pattern that TensorRT fuses by itself.
- ``onnx``: the operator ``Attention`` of opset 23 in their place.
- ``plugin``: the project's own operator, which reads what one convolution gives for q, k and v together; nothing is
  transposed.

The scale of the softmax is in the weights of q already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import ExportError, InputError
from .batching import FREE
from .graph_edit import GraphEdit, Writer

if TYPE_CHECKING:
    import onnx

__all__ = ["PLUGIN", "PLUGIN_DOMAIN", "Attention", "write_attention"]

Attention = Literal["native", "onnx", "plugin"]
PLUGIN, PLUGIN_DOMAIN = "AreaAttention", "yolo12edge"

_SOFTMAX = ".attn.softmax"
_PARTS = ("q", "k", "v")
# What lies between the three convolutions and the map that they give.
_REPLACED = (
    *(f".{part}{step}" for part in _PARTS for step in ("", ".areas", ".transposed")),
    *(".logits", ".softmax", ".softmax.transposed", ".mixed", ".mixed.areas", ".mixed.map"),
)


@dataclass(frozen=True, slots=True)
class _Block:
    """One attention: (1, heads x dim, height, width), whose tokens are cut into ``area`` runs."""

    path: str
    heads: int
    dim: int
    area: int
    tokens: int  # of one run
    height: int
    width: int

    @property
    def channels(self) -> int:
        return self.heads * self.dim


def write_attention(graph: GraphEdit, form: Attention, batch: int, float_names: frozenset[str]) -> frozenset[str]:
    """Rewrite all attention of a detector.

    Args:
        graph: A detector for one image, float or with Q/DQ pairs on its convolutions; changed in place.
        form: How.
        batch: Number of images, or ``batching.FREE``.
        float_names: Nodes of ``graph`` that are to compute in float32.

    Returns:
        ``float_names`` and the new nodes that stand for some of them.

    Raises:
        ExportError: If this is not a graph that this project has exported.
        InputError: If the plugin, which computes in float16, is to stand for a node that stays float32.
    """
    blocks = [_block(graph, node.name.removesuffix(".softmax")) for node in graph.nodes if node.name.endswith(_SOFTMAX)]
    if not blocks:
        raise ExportError("the ONNX graph has no area attention", expected="what `yolo12edge export` wrote")
    replaced = {block.path + name for block in blocks for name in _REPLACED}
    places = {f"{block.path}.mixed.map": block for block in blocks}
    floats = set(float_names)
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node.name not in replaced:
            nodes.append(node)
            continue
        if node.name not in places:
            continue
        block, w = places[node.name], Writer(graph)
        if form == "plugin":
            _refuse_float(block, float_names)
            _plugin(w, block)
        else:
            (_native if form == "native" else _operator)(w, block, batch)
            floats.update(_stand_ins(block, float_names))
        nodes += w.nodes
    graph.nodes = nodes
    if form == "plugin":
        for block in blocks:
            _join_convolutions(graph, block)
    return frozenset(floats)


def _block(graph: GraphEdit, path: str) -> _Block:
    whole = graph.constants.get(f"{path}.mixed.map.shape")
    areas, single = graph.constants.get(f"{path}.q.areas.shape"), graph.constants.get(f"{path}.q.shape")
    if whole is None or len(whole) != 4 or (areas is None and single is None):
        raise ExportError(
            f"the attention {path} is not as this project writes it", remedy="export the checkpoint again"
        )
    if areas is not None:
        heads, dim, area, tokens = areas.tolist()
    else:
        assert single is not None
        heads, area, dim, tokens = single.tolist()
    return _Block(path, heads, dim, area, tokens, int(whole[2]), int(whole[3]))


def _runs(w: Writer, block: _Block, part: str, batch: int, *, tokens_first: bool) -> str:
    """Write (batch, channels, height, width) as (batch x area, heads, tokens, dim), or with tokens last."""
    source, path = f"{block.path}.{part}.conv", f"{block.path}.{part}"
    if block.area == 1:
        if not tokens_first:
            return w.reshape(source, (batch, block.heads, block.dim, block.tokens), path)
        split = w.reshape(source, (batch, block.heads, block.dim, block.tokens), f"{path}.heads")
        return w.node("Transpose", [split], path, perm=[0, 1, 3, 2])
    split = w.reshape(source, (batch, block.heads, block.dim, block.area, block.tokens), f"{path}.areas")
    order = [0, 3, 1, 4, 2] if tokens_first else [0, 3, 1, 2, 4]
    apart = w.node("Transpose", [split], f"{path}.heads", perm=order)
    last = (block.tokens, block.dim) if tokens_first else (block.dim, block.tokens)
    return w.reshape(apart, (_times(batch, block.area), block.heads, *last), path)


def _map(w: Writer, block: _Block, mixed: str, batch: int) -> None:
    """Write (batch x area, heads, tokens, dim) as the map (batch, channels, height, width)."""
    path, order = f"{block.path}.mixed", [0, 1, 3, 2]
    if block.area != 1:
        shape = (batch, block.area, block.heads, block.tokens, block.dim)
        mixed, order = w.reshape(mixed, shape, f"{path}.areas"), [0, 2, 4, 1, 3]
    apart = w.node("Transpose", [mixed], f"{path}.heads", perm=order)
    w.reshape(apart, (batch, block.channels, block.height, block.width), f"{path}.map")


def _native(w: Writer, block: _Block, batch: int) -> None:
    path = block.path
    queries = _runs(w, block, "q", batch, tokens_first=True)
    keys = _runs(w, block, "k", batch, tokens_first=False)
    weights = w.node("Softmax", [w.node("MatMul", [queries, keys], f"{path}.logits")], f"{path}.softmax", axis=-1)
    values = _runs(w, block, "v", batch, tokens_first=True)
    _map(w, block, w.node("MatMul", [weights, values], f"{path}.mixed"), batch)


def _operator(w: Writer, block: _Block, batch: int) -> None:
    parts = [_runs(w, block, part, batch, tokens_first=True) for part in _PARTS]
    _map(w, block, w.node("Attention", parts, f"{block.path}.attention", scale=1.0), batch)


def _plugin(w: Writer, block: _Block) -> None:
    w.node(
        PLUGIN,
        [f"{block.path}.qkv.conv"],
        f"{block.path}.mixed.map",
        domain=PLUGIN_DOMAIN,
        plugin_namespace=PLUGIN_DOMAIN,
        plugin_version="1",
        heads=block.heads,
        area=block.area,
    )


def _join_convolutions(graph: GraphEdit, block: _Block) -> None:
    """Make one convolution of those of q, k and v; v, which others read too, is sliced from it."""
    convs = {node.name: node for node in graph.nodes if node.op_type == "Conv"}
    parts = [convs[f"{block.path}.{part}.conv"] for part in _PARTS]
    if len({node.input[0] for node in parts}) != 1:
        raise ExportError(f"q, k and v of {block.path} do not read the same tensor", remedy="export the model again")
    producers, path = graph.producers(), f"{block.path}.qkv.conv"
    first = parts[0]
    weights = [node.input[1] for node in parts]
    scaled = [producers[name] for name in weights if name in producers]  # each behind a DQ
    if scaled and len(scaled) != len(parts):
        raise ExportError(f"only some of q, k and v of {block.path} are quantized", remedy="quantize the model again")
    w = Writer(graph)

    def joined(names: Sequence[str], name: str) -> str:
        values = np.concatenate([graph.constants[name] for name in names])
        return w.constant(name, values, values.dtype)

    if scaled:
        suffixes = ("q", "scale", "zero_point")
        inputs = [
            joined([node.input[index] for node in scaled], f"{path}.weight.{suffix}")
            for index, suffix in enumerate(suffixes)
        ]
        weight = w.node("DequantizeLinear", inputs, f"{path}.weight.dq", axis=0)
    else:
        weight = joined(weights, f"{path}.weight")
    bias = joined([node.input[2] for node in parts], f"{path}.bias")
    w.node("Conv", [first.input[0], weight, bias], path)
    w.nodes[-1].attribute.extend(first.attribute)
    ends = [
        w.constant(f"{block.path}.v.{name}", [value], np.int64)
        for name, value in (("start", 2 * block.channels), ("end", 3 * block.channels), ("axis", 1))
    ]
    w.node("Slice", [path, *ends], parts[2].output[0])
    gone = {node.name for node in (*parts, *scaled)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node is first:
            nodes += w.nodes
        elif node.name not in gone:
            nodes.append(node)
    graph.nodes = nodes


def _stand_ins(block: _Block, float_names: frozenset[str]) -> set[str]:
    """Return the new nodes that do the work of nodes that stay float32."""
    path = block.path
    found: set[str] = set()
    for part in (*_PARTS, "mixed"):
        if float_names & {f"{path}.{part}", f"{path}.{part}.transposed"}:
            found |= {f"{path}.{part}{step}" for step in ("", ".areas", ".heads")}
    if float_names & {f"{path}.logits", f"{path}.softmax", f"{path}.mixed"}:
        found.add(f"{path}.attention")
    if f"{path}.mixed" in found:
        found.add(f"{path}.mixed.map")
    return found


def _refuse_float(block: _Block, float_names: frozenset[str]) -> None:
    inside = {block.path + name for name in _REPLACED} | {f"{block.path}.{part}.conv" for part in _PARTS}
    if kept := sorted(inside & float_names):
        raise InputError(
            f"{kept[0]} must stay float32, and the attention plugin computes in float16",
            remedy="choose attention='native'",
        )


def _times(batch: int, area: int) -> int:
    return FREE if batch == FREE else batch * area
