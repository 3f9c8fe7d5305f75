"""The blocks of YOLO12 in their deploy form, written as ONNX nodes that bear the names of their modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ..errors import ExportError
from ..nn.blocks import A2C2f, ABlock, AreaAttention, Bottleneck, C3k, C3k2, Conv
from ..nn.config import HEAD_DIM
from .onnx_writer import GraphWriter

__all__ = [
    "Map",
    "array_of",
    "write_a2c2f_tail",
    "write_add",
    "write_block",
    "write_concat",
    "write_conv",
    "write_conv_block",
    "write_silu",
]

Select = slice | npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Map:
    """A feature map (1, channels, height, width) of the graph."""

    name: str
    channels: int
    height: int
    width: int


def write_block(w: GraphWriter, module: nn.Module, x: Map, path: str) -> Map:
    """Write any block of the backbone or neck."""
    if isinstance(module, Conv):
        return write_conv_block(w, module, x, path)
    if isinstance(module, nn.Sequential):
        for index, child in enumerate(module):
            x = write_block(w, child, x, f"{path}.{index}")
        return x
    if isinstance(module, Bottleneck):
        inner = write_conv_block(w, module.cv1, x, f"{path}.cv1")
        return write_add(w, x, write_conv_block(w, module.cv2, inner, f"{path}.cv2"), f"{path}.add")
    if isinstance(module, C3k):
        deep = write_block(w, module.m, write_conv_block(w, module.cv1, x, f"{path}.cv1"), f"{path}.m")
        straight = write_conv_block(w, module.cv2, x, f"{path}.cv2")
        return write_conv_block(w, module.cv3, write_concat(w, (deep, straight), f"{path}.concat"), f"{path}.cv3")
    if isinstance(module, C3k2):
        # Two convolutions give the two halves: no engine has to split a map then.
        half = module.cv1.conv.out_channels // 2
        parts = []
        for index, rows in enumerate((slice(0, half), slice(half, None))):
            y = write_conv(w, module.cv1.conv, x, f"{path}.cv1.conv.{index}", rows=rows)
            parts.append(write_silu(w, y, f"{path}.cv1.{index}"))
        for index, child in enumerate(module.m):
            parts.append(write_block(w, child, parts[-1], f"{path}.m.{index}"))
        return write_conv_block(w, module.cv2, write_concat(w, parts, f"{path}.concat"), f"{path}.cv2")
    if isinstance(module, ABlock):
        x = write_add(w, x, _attention(w, module.attn, x, f"{path}.attn"), f"{path}.attn.add")
        return write_add(w, x, write_block(w, module.mlp, x, f"{path}.mlp"), f"{path}.mlp.add")
    if isinstance(module, A2C2f):
        return _a2c2f(w, module, x, path)
    raise ExportError(f"{path} is a {type(module).__name__}, which the ONNX export does not know")


def _a2c2f(w: GraphWriter, module: A2C2f, x: Map, path: str) -> Map:
    out = write_a2c2f_tail(w, module, write_conv_block(w, module.cv1, x, f"{path}.cv1"), path)
    if module.gamma is None:
        return out
    gamma = w.constant(f"{path}.gamma", array_of(module.gamma).reshape(1, -1, 1, 1))
    scaled = Map(w.node("Mul", [out.name, gamma], f"{path}.scaled"), out.channels, out.height, out.width)
    return write_add(w, x, scaled, f"{path}.add")


def write_a2c2f_tail(w: GraphWriter, module: A2C2f, first: Map, path: str) -> Map:
    """Write what follows the first convolution of an R-ELAN block, up to its residual."""
    parts = [first]
    for index, child in enumerate(module.m):
        parts.append(write_block(w, child, parts[-1], f"{path}.m.{index}"))
    return write_conv_block(w, module.cv2, write_concat(w, parts, f"{path}.concat"), f"{path}.cv2")


def _attention(w: GraphWriter, module: AreaAttention, x: Map, path: str) -> Map:
    """Area attention on channel-major maps.

    q, k and v come from convolutions of their own, so that nothing is split, and every product keeps tokens last:
    what is left to transpose, the engine's matrix product does while it packs.
    """
    heads, area, tokens = module.heads, module.area, x.height * x.width
    run = tokens // area
    if module.joint_qkv:  # rows are ordered q, k, v within each head
        rows = np.arange(3 * x.channels).reshape(heads, 3, HEAD_DIM).transpose(1, 0, 2).reshape(3, -1)
        q, k, v = (
            write_conv(w, module.qkv.conv, x, f"{path}.{part}.conv", rows=chosen)
            for part, chosen in zip("qkv", rows, strict=True)
        )
    else:
        q = write_conv(w, module.qk.conv, x, f"{path}.q.conv", rows=slice(0, x.channels))
        k = write_conv(w, module.qk.conv, x, f"{path}.k.conv", rows=slice(x.channels, None))
        v = write_conv(w, module.v.conv, x, f"{path}.v.conv")

    def runs(part: Map, name: str) -> str:  # (1, C, H, W) -> (heads, area, 32, run)
        if area == 1:
            return w.reshape(part.name, (heads, 1, HEAD_DIM, run), f"{path}.{name}")
        split = w.reshape(part.name, (heads, HEAD_DIM, area, run), f"{path}.{name}.areas")
        return w.node("Transpose", [split], f"{path}.{name}", perm=(0, 2, 1, 3))

    queries = w.node("Transpose", [runs(q, "q")], f"{path}.q.transposed", perm=(0, 1, 3, 2))
    logits = w.node("MatMul", [queries, runs(k, "k")], f"{path}.logits")
    weights = w.node("Softmax", [logits], f"{path}.softmax", axis=-1)
    weights = w.node("Transpose", [weights], f"{path}.softmax.transposed", perm=(0, 1, 3, 2))
    mixed = w.node("MatMul", [runs(v, "v"), weights], f"{path}.mixed")  # (heads, area, 32, run)
    if area != 1:
        mixed = w.node("Transpose", [mixed], f"{path}.mixed.areas", perm=(0, 2, 1, 3))
    back = Map(w.reshape(mixed, (1, x.channels, x.height, x.width), f"{path}.mixed.map"), x.channels, x.height, x.width)
    out = write_add(w, back, write_conv(w, module.pe.conv, v, f"{path}.pe.conv"), f"{path}.pe.add")
    return write_conv(w, module.proj.conv, out, f"{path}.proj.conv")


def write_conv_block(w: GraphWriter, module: Conv, x: Map, path: str) -> Map:
    """Write a convolution and the SiLU behind it, if there is one."""
    out = write_conv(w, module.conv, x, f"{path}.conv")
    return write_silu(w, out, path) if isinstance(module.act, nn.SiLU) else out


def write_silu(w: GraphWriter, x: Map, path: str) -> Map:
    """Write ``x * sigmoid(x)``, which engines know as SiLU."""
    gate = w.node("Sigmoid", [x.name], f"{path}.sigmoid")
    return Map(w.node("Mul", [x.name, gate], f"{path}.silu"), x.channels, x.height, x.width)


def write_conv(
    w: GraphWriter,
    conv: nn.Conv2d,
    x: Map,
    path: str,
    *,
    rows: Select = slice(None),
    columns: slice = slice(None),
    biased: bool = True,
) -> Map:
    """Write a convolution, or the part of it that gives some output channels or reads some input channels."""
    if conv.bias is None:
        raise ExportError(f"{path} has no bias: the model is not in its deploy form")
    weight, bias = array_of(conv.weight)[rows, columns], array_of(conv.bias)[rows]
    kernel, stride, pad = conv.kernel_size[0], conv.stride[0], conv.kernel_size[0] // 2
    inputs = [x.name, w.constant(f"{path}.weight", weight)]
    if biased:
        inputs.append(w.constant(f"{path}.bias", bias))
    name = w.node(
        "Conv",
        inputs,
        path,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[pad] * 4,
        group=conv.groups,
        dilations=[1, 1],
    )
    return Map(name, len(weight), -(-x.height // stride), -(-x.width // stride))


def write_concat(w: GraphWriter, parts: Sequence[Map], path: str) -> Map:
    """Write maps of one size, one behind the other."""
    name = w.node("Concat", [part.name for part in parts], path, axis=1)
    return Map(name, sum(part.channels for part in parts), parts[0].height, parts[0].width)


def write_add(w: GraphWriter, a: Map, b: Map, path: str) -> Map:
    """Write the sum of two maps."""
    return Map(w.node("Add", [a.name, b.name], path), a.channels, a.height, a.width)


def array_of(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor as float32 array."""
    array: npt.NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return array
