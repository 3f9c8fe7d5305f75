"""YOLO12's deploy form, block by block, as an ONNX graph.

The graph is written from the modules and not traced: this gives nodes the names of the modules they come from
(``model.6.m.0.1.attn.proj.conv``; quantization relies on them), nothing but static shapes, the tensor layouts that
engines run fastest (measured on ONNX Runtime, one AVX-512 thread, scale n, 320 px: 20.3 ms, against 27.2 ms for the
graph that ``torch.onnx.export`` gives), and the same bytes every time. The price is a second description of
``forward``, which is why an export is compared with PyTorch before it counts as done.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from ..errors import ExportError
from ..nn import DeployModel
from ..nn.blocks import A2C2f
from .onnx_blocks import Map, write_a2c2f_tail, write_add, write_block, write_concat, write_conv, write_silu
from .onnx_heads import write_head
from .onnx_writer import GraphWriter

__all__ = ["write_network"]

_BACKBONE = range(9)  # layers


def write_network(writer: GraphWriter, deploy: DeployModel, *, images: str, height: int, width: int) -> None:
    """Write a network whose outputs are named after the roles of its task.

    Args:
        writer: Where to.
        deploy: The network in its deploy form.
        images: Name of the input (1, 3, height, width).
        height: Multiple of 32.
        width: Multiple of 32.
    """
    network = deploy.network
    backbone = _backbone(writer, network.model, Map(images, 3, height, width))
    features = backbone[-1:] if len(network.model) == len(_BACKBONE) + 1 else _neck(writer, network.model, *backbone)
    write_head(writer, network, features)


def _backbone(writer: GraphWriter, layer: nn.ModuleList, x: Map) -> tuple[Map, Map, Map]:
    """Write layers 0 to 8; return the maps at strides 8, 16 and 32."""
    maps = []
    for index in _BACKBONE:
        x = write_block(writer, layer[index], x, f"model.{index}")
        maps.append(x)
    return maps[4], maps[6], maps[8]


def _neck(writer: GraphWriter, layer: nn.ModuleList, p3: Map, p4: Map, p5: Map) -> tuple[Map, Map, Map]:
    """Write layers 9 to 20; return their maps at strides 8, 16 and 32."""

    def run(index: int, x: Map) -> Map:
        return write_block(writer, layer[index], x, f"model.{index}")

    def merge(index: int, parts: Sequence[Map]) -> Map:
        return write_concat(writer, parts, f"model.{index}.concat")

    up4 = _upsample_merge(writer, layer[11], p5, p4, "model.11", upsample="model.9")
    out3 = _upsample_merge(writer, layer[14], up4, p3, "model.14", upsample="model.12")
    out4 = run(17, merge(16, (run(15, out3), up4)))
    out5 = run(20, merge(19, (run(18, out4), p5)))
    return out3, out4, out5


def _upsample_merge(w: GraphWriter, module: nn.Module, low: Map, high: Map, path: str, *, upsample: str) -> Map:
    """Write ``module(concat(upsample(low), high))``.

    The block begins with a 1x1 convolution, which commutes with nearest upsampling and distributes over the
    concatenation: applied before, it costs a quarter on the low map, upsampling moves fewer channels and nothing is
    concatenated.
    """
    if not isinstance(module, A2C2f):
        raise ExportError(f"{path} is a {type(module).__name__}, where the ONNX export knows an A2C2f only")
    first = f"{path}.cv1"
    projected = write_conv(w, module.cv1.conv, low, f"{first}.conv.low", columns=slice(0, low.channels), biased=False)
    scales = w.constant(f"{upsample}.scales", np.array([1, 1, 2, 2], np.float32))
    up = w.node(
        "Resize",
        [projected.name, "", scales],
        upsample,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    direct = write_conv(w, module.cv1.conv, high, f"{first}.conv", columns=slice(low.channels, None))
    total = write_add(w, direct, Map(up, direct.channels, direct.height, direct.width), f"{first}.add")
    return write_a2c2f_tail(w, module, write_silu(w, total, first), path)
