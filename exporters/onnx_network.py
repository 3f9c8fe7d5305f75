"""YOLO12's deploy form, block by block, as an ONNX graph.

The graph is written from the modules and not traced: this gives nodes the names of the modules they come from
(``model.6.m.0.1.attn.proj.conv``; quantization relies on them), nothing but static shapes, the tensor layouts that
engines run fastest (measured on ONNX Runtime, one AVX-512 thread, scale n, 320 px: 20.3 ms, against 27.2 ms for the
graph that ``torch.onnx.export`` gives), and the same bytes every time. The price is a second description of
``forward``, which is why an export is compared with PyTorch before it counts as done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ..errors import ExportError
from ..nn import DeployModel
from ..nn.blocks import A2C2f, ABlock, AreaAttention, Bottleneck, C3k, C3k2, Conv
from ..nn.config import HEAD_DIM, REG_MAX
from ..nn.heads import Detect, anchor_grid
from .onnx_writer import GraphWriter

__all__ = ["write_detector"]

_Select = slice | npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Map:
    """A feature map (1, channels, height, width) of the graph."""

    name: str
    channels: int
    height: int
    width: int


def write_detector(writer: GraphWriter, deploy: DeployModel, *, images: str, height: int, width: int) -> None:
    """Write a detector whose outputs are named ``boxes`` (1, 4, A) and ``scores`` (1, classes, A).

    Args:
        writer: Where to.
        deploy: The network in its deploy form.
        images: Name of the input (1, 3, height, width).
        height: Multiple of 32.
        width: Multiple of 32.
    """
    x = _Map(images, 3, height, width)
    layer = deploy.network.model

    def run(index: int, x: _Map) -> _Map:
        return _block(writer, layer[index], x, f"model.{index}")

    def merge(index: int, parts: Sequence[_Map]) -> _Map:
        return _concat(writer, parts, f"model.{index}.concat")

    for index in range(5):
        x = run(index, x)
    p3 = x
    p4 = run(6, run(5, p3))
    p5 = run(8, run(7, p4))
    up4 = _upsample_merge(writer, layer[11], p5, p4, "model.11", upsample="model.9")
    out3 = _upsample_merge(writer, layer[14], up4, p3, "model.14", upsample="model.12")
    out4 = run(17, merge(16, (run(15, out3), up4)))
    out5 = run(20, merge(19, (run(18, out4), p5)))
    head = deploy.network.head
    if type(head) is not Detect:
        raise ExportError(f"the ONNX export does not know the head {type(head).__name__}")
    _detect(writer, head, (out3, out4, out5), "model.21")


def _block(w: GraphWriter, module: nn.Module, x: _Map, path: str) -> _Map:
    """Write any block of the backbone or neck."""
    if isinstance(module, Conv):
        return _conv_block(w, module, x, path)
    if isinstance(module, nn.Sequential):
        for index, child in enumerate(module):
            x = _block(w, child, x, f"{path}.{index}")
        return x
    if isinstance(module, Bottleneck):
        inner = _conv_block(w, module.cv1, x, f"{path}.cv1")
        return _add(w, x, _conv_block(w, module.cv2, inner, f"{path}.cv2"), f"{path}.add")
    if isinstance(module, C3k):
        deep = _block(w, module.m, _conv_block(w, module.cv1, x, f"{path}.cv1"), f"{path}.m")
        straight = _conv_block(w, module.cv2, x, f"{path}.cv2")
        return _conv_block(w, module.cv3, _concat(w, (deep, straight), f"{path}.concat"), f"{path}.cv3")
    if isinstance(module, C3k2):
        # Two convolutions give the two halves: no engine has to split a map then.
        half = module.cv1.conv.out_channels // 2
        parts = []
        for index, rows in enumerate((slice(0, half), slice(half, None))):
            y = _conv(w, module.cv1.conv, x, f"{path}.cv1.conv.{index}", rows=rows)
            parts.append(_silu(w, y, f"{path}.cv1.{index}"))
        for index, child in enumerate(module.m):
            parts.append(_block(w, child, parts[-1], f"{path}.m.{index}"))
        return _conv_block(w, module.cv2, _concat(w, parts, f"{path}.concat"), f"{path}.cv2")
    if isinstance(module, ABlock):
        x = _add(w, x, _attention(w, module.attn, x, f"{path}.attn"), f"{path}.attn.add")
        return _add(w, x, _block(w, module.mlp, x, f"{path}.mlp"), f"{path}.mlp.add")
    if isinstance(module, A2C2f):
        return _a2c2f(w, module, x, path)
    raise ExportError(f"{path} is a {type(module).__name__}, which the ONNX export does not know")


def _upsample_merge(w: GraphWriter, module: nn.Module, low: _Map, high: _Map, path: str, *, upsample: str) -> _Map:
    """Write ``module(concat(upsample(low), high))``.

    The block begins with a 1x1 convolution, which commutes with nearest upsampling and distributes over the
    concatenation: applied before, it costs a quarter on the low map, upsampling moves fewer channels and nothing is
    concatenated.
    """
    if not isinstance(module, A2C2f):
        raise ExportError(f"{path} is a {type(module).__name__}, where the ONNX export knows an A2C2f only")
    first = f"{path}.cv1"
    projected = _conv(w, module.cv1.conv, low, f"{first}.conv.low", columns=slice(0, low.channels), biased=False)
    scales = w.constant(f"{upsample}.scales", np.array([1, 1, 2, 2], np.float32))
    up = w.node(
        "Resize",
        [projected.name, "", scales],
        upsample,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    direct = _conv(w, module.cv1.conv, high, f"{first}.conv", columns=slice(low.channels, None))
    total = _add(w, direct, _Map(up, direct.channels, direct.height, direct.width), f"{first}.add")
    return _a2c2f_tail(w, module, _silu(w, total, first), path)


def _a2c2f(w: GraphWriter, module: A2C2f, x: _Map, path: str) -> _Map:
    out = _a2c2f_tail(w, module, _conv_block(w, module.cv1, x, f"{path}.cv1"), path)
    if module.gamma is None:
        return out
    gamma = w.constant(f"{path}.gamma", _array(module.gamma).reshape(1, -1, 1, 1))
    scaled = _Map(w.node("Mul", [out.name, gamma], f"{path}.scaled"), out.channels, out.height, out.width)
    return _add(w, x, scaled, f"{path}.add")


def _a2c2f_tail(w: GraphWriter, module: A2C2f, first: _Map, path: str) -> _Map:
    """Write what follows the first convolution of an R-ELAN block, up to its residual."""
    parts = [first]
    for index, child in enumerate(module.m):
        parts.append(_block(w, child, parts[-1], f"{path}.m.{index}"))
    return _conv_block(w, module.cv2, _concat(w, parts, f"{path}.concat"), f"{path}.cv2")


def _attention(w: GraphWriter, module: AreaAttention, x: _Map, path: str) -> _Map:
    """Area attention on channel-major maps.

    q, k and v come from convolutions of their own, so that nothing is split, and every product keeps tokens last:
    what is left to transpose, the engine's matrix product does while it packs.
    """
    heads, area, tokens = module.heads, module.area, x.height * x.width
    run = tokens // area
    if module.joint_qkv:  # rows are ordered q, k, v within each head
        rows = np.arange(3 * x.channels).reshape(heads, 3, HEAD_DIM).transpose(1, 0, 2).reshape(3, -1)
        q, k, v = (
            _conv(w, module.qkv.conv, x, f"{path}.{part}.conv", rows=chosen)
            for part, chosen in zip("qkv", rows, strict=True)
        )
    else:
        q = _conv(w, module.qk.conv, x, f"{path}.q.conv", rows=slice(0, x.channels))
        k = _conv(w, module.qk.conv, x, f"{path}.k.conv", rows=slice(x.channels, None))
        v = _conv(w, module.v.conv, x, f"{path}.v.conv")

    def runs(part: _Map, name: str) -> str:  # (1, C, H, W) -> (heads, area, 32, run)
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
    back = _Map(
        w.reshape(mixed, (1, x.channels, x.height, x.width), f"{path}.mixed.map"), x.channels, x.height, x.width
    )
    out = _add(w, back, _conv(w, module.pe.conv, v, f"{path}.pe.conv"), f"{path}.pe.add")
    return _conv(w, module.proj.conv, out, f"{path}.proj.conv")


def _detect(w: GraphWriter, head: Detect, features: Sequence[_Map], path: str) -> None:
    boxes: list[str] = []
    scores: list[str] = []
    for index, x in enumerate(features):
        for branch, rows in (("cv2", boxes), ("cv3", scores)):
            y, where = x, f"{path}.{branch}.{index}"
            *blocks, last = getattr(head, branch)[index]
            for position, block in enumerate(blocks):
                y = _block(w, block, y, f"{where}.{position}")
            y = _conv(w, last, y, f"{where}.{len(blocks)}")
            rows.append(w.reshape(y.name, (1, y.channels, y.height * y.width), f"{where}.flat"))
    anchors, strides = anchor_grid([(x.height, x.width) for x in features])
    count = len(strides)
    w.node("Sigmoid", [w.node("Concat", scores, f"{path}.cls", axis=2)], "scores")

    # Expected distance of each side: softmax over its bins and their mean, in the order that keeps candidates last.
    logits = w.reshape(w.node("Concat", boxes, f"{path}.box", axis=2), (4, REG_MAX, count), f"{path}.dfl.logits")
    top = w.node("ReduceMax", [logits], f"{path}.dfl.max", axes=[1], keepdims=1)
    weights = w.node("Exp", [w.node("Sub", [logits, top], f"{path}.dfl.shifted")], f"{path}.dfl.exp")
    # Left and top lie on the negative side: the sign goes into the bins.
    bins, ones = _array(head.bins), np.ones(REG_MAX, np.float32)
    sums = np.stack([np.stack((sign * bins, ones)) for sign in (-1, -1, 1, 1)])  # (4, 2, 16)
    both = w.node("MatMul", [w.constant(f"{path}.dfl.bins", sums), weights], f"{path}.dfl.sums")  # (4, 2, A)
    mean, total = w.nodes("Split", [both], f"{path}.dfl.split", [f"{path}.dfl.weighted", f"{path}.dfl.total"], axis=1)
    distance = w.node("Div", [mean, total], f"{path}.dfl")  # (4, 1, A), in cells

    offset = w.node("Mul", [distance, w.constant(f"{path}.strides", _array(strides))], f"{path}.offset")
    corners = w.reshape(offset, (2, 2, count), f"{path}.corners")  # left top, right bottom
    centres = np.ascontiguousarray((_array(anchors) * _array(strides)[:, None]).T)  # (2, A), pixels
    w.reshape(w.node("Add", [corners, w.constant(f"{path}.centres", centres)], f"{path}.xyxy"), (1, 4, count), "boxes")


def _conv_block(w: GraphWriter, module: Conv, x: _Map, path: str) -> _Map:
    out = _conv(w, module.conv, x, f"{path}.conv")
    return _silu(w, out, path) if isinstance(module.act, nn.SiLU) else out


def _silu(w: GraphWriter, x: _Map, path: str) -> _Map:
    gate = w.node("Sigmoid", [x.name], f"{path}.sigmoid")
    return _Map(w.node("Mul", [x.name, gate], f"{path}.silu"), x.channels, x.height, x.width)


def _conv(
    w: GraphWriter,
    conv: nn.Conv2d,
    x: _Map,
    path: str,
    *,
    rows: _Select = slice(None),
    columns: slice = slice(None),
    biased: bool = True,
) -> _Map:
    """Write a convolution, or the part of it that gives some output channels or reads some input channels."""
    if conv.bias is None:
        raise ExportError(f"{path} has no bias: the model is not in its deploy form")
    weight, bias = _array(conv.weight)[rows, columns], _array(conv.bias)[rows]
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
    return _Map(name, len(weight), -(-x.height // stride), -(-x.width // stride))


def _concat(w: GraphWriter, parts: Sequence[_Map], path: str) -> _Map:
    name = w.node("Concat", [part.name for part in parts], path, axis=1)
    return _Map(name, sum(part.channels for part in parts), parts[0].height, parts[0].width)


def _add(w: GraphWriter, a: _Map, b: _Map, path: str) -> _Map:
    return _Map(w.node("Add", [a.name, b.name], path), a.channels, a.height, a.width)


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return array
