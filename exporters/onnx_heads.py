"""The heads of YOLO12 as ONNX nodes: one function a task, over what the dense heads share.

All that follows a head's last convolutions is written for one image in shapes that begin with 1 (but for the box
distances, which ``batching`` writes anew), so that a batch needs no other graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from ..errors import ExportError
from ..manifest import Task
from ..nn import YOLO12
from ..nn.config import REG_MAX
from ..nn.heads import Classify, Detect, Head, Obb, Pose, Segment, anchor_grid
from .onnx_blocks import Map, array_of, write_block, write_conv, write_conv_block
from .onnx_writer import GraphWriter

__all__ = ["write_head"]


def write_head(w: GraphWriter, network: YOLO12, features: Sequence[Map]) -> None:
    """Write the head of a network; each output bears the name of its role.

    Args:
        w: Where to.
        network: In its deploy form.
        features: What the head reads: P3, P4 and P5 of the neck, or the last map of the backbone (classify).
    """
    _WRITERS[network.config.task](w, network.head, features, f"model.{len(network.model) - 1}")


@dataclass(frozen=True, slots=True)
class _Dense:
    """What dense heads share.

    Attributes:
        path: Of the head.
        count: Candidates, A.
        offset: Tensor (4, 1, A): from a candidate's centre to left, top, right and bottom, in pixels.
        extra: Raw values of the branch ``cv4`` at each stride, each (1, rows, candidates).
        centres: (2, A), x and y of the candidates in pixels.
        strides: (A,), in pixels.
    """

    path: str
    count: int
    offset: str
    extra: tuple[str, ...]
    centres: npt.NDArray[np.float32]
    strides: npt.NDArray[np.float32]


def _dense(w: GraphWriter, head: Detect, features: Sequence[Map], path: str) -> _Dense:
    """Write the branches of a dense head, ``scores`` (1, classes, A) and the distances of the sides."""
    flat: dict[str, list[str]] = {"cv2": [], "cv3": [], **({"cv4": []} if hasattr(head, "cv4") else {})}
    for index, x in enumerate(features):
        for branch, rows in flat.items():
            y, where = x, f"{path}.{branch}.{index}"
            *blocks, last = getattr(head, branch)[index]
            for position, block in enumerate(blocks):
                y = write_block(w, block, y, f"{where}.{position}")
            y = write_conv(w, last, y, f"{where}.{len(blocks)}")
            rows.append(w.reshape(y.name, (1, y.channels, y.height * y.width), f"{where}.flat"))
    anchors, strides = anchor_grid([(x.height, x.width) for x in features])
    count = len(strides)
    w.node("Sigmoid", [w.node("Concat", flat["cv3"], f"{path}.cls", axis=2)], "scores")

    # Expected distance of each side: softmax over its bins and their mean, in the order that keeps candidates last.
    logits = w.reshape(w.node("Concat", flat["cv2"], f"{path}.box", axis=2), (4, REG_MAX, count), f"{path}.dfl.logits")
    top = w.node("ReduceMax", [logits], f"{path}.dfl.max", axes=[1], keepdims=1)
    weights = w.node("Exp", [w.node("Sub", [logits, top], f"{path}.dfl.shifted")], f"{path}.dfl.exp")
    # Left and top lie on the negative side: the sign goes into the bins.
    bins, ones = array_of(head.bins), np.ones(REG_MAX, np.float32)
    sums = np.stack([np.stack((sign * bins, ones)) for sign in (-1, -1, 1, 1)])  # (4, 2, 16)
    both = w.node("MatMul", [w.constant(f"{path}.dfl.bins", sums), weights], f"{path}.dfl.sums")  # (4, 2, A)
    mean, total = w.nodes("Split", [both], f"{path}.dfl.split", [f"{path}.dfl.weighted", f"{path}.dfl.total"], axis=1)
    distance = w.node("Div", [mean, total], f"{path}.dfl")  # (4, 1, A), in cells
    offset = w.node("Mul", [distance, w.constant(f"{path}.strides", array_of(strides))], f"{path}.offset")
    centres = np.ascontiguousarray((array_of(anchors) * array_of(strides)[:, None]).T)
    return _Dense(path, count, offset, tuple(flat.get("cv4", ())), centres, array_of(strides))


def _boxes(w: GraphWriter, dense: _Dense) -> None:
    """Write ``boxes`` (1, 4, A)."""
    path, count = dense.path, dense.count
    corners = w.reshape(dense.offset, (2, 2, count), f"{path}.corners")  # left top, right bottom
    moved = w.node("Add", [corners, w.constant(f"{path}.centres", dense.centres)], f"{path}.xyxy")
    w.reshape(moved, (1, 4, count), "boxes")


def _detect(w: GraphWriter, head: Head, features: Sequence[Map], path: str) -> None:
    """Write ``boxes`` and ``scores``."""
    assert isinstance(head, Detect)
    _boxes(w, _dense(w, head, features, path))


def _segment(w: GraphWriter, head: Head, features: Sequence[Map], path: str) -> None:
    """Write ``boxes``, ``scores``, ``coefficients`` and ``prototypes``."""
    assert isinstance(head, Segment)
    dense = _dense(w, head, features, path)
    _boxes(w, dense)
    w.node("Concat", dense.extra, "coefficients", axis=2)
    where = f"{path}.proto"
    low = write_conv_block(w, head.proto.cv1, features[0], f"{where}.cv1")
    high = write_conv_block(
        w, head.proto.cv2, _double(w, head.proto.upsample, low, f"{where}.upsample"), f"{where}.cv2"
    )
    last = write_conv(w, head.proto.cv3.conv, high, f"{where}.cv3.conv")
    w.node("Mul", [last.name, w.node("Sigmoid", [last.name], f"{where}.cv3.sigmoid")], "prototypes")


def _double(w: GraphWriter, up: nn.ConvTranspose2d, x: Map, path: str) -> Map:
    """Write a transposed 2x2 convolution of stride 2 as a 1x1 convolution and a move of pixels.

    It gives the same sums, and engines have integer kernels for it.
    """
    if up.kernel_size != (2, 2) or up.stride != (2, 2) or up.bias is None:
        raise ExportError(f"{path} is {up}", expected="a transposed 2x2 convolution of stride 2 with a bias")
    channels = up.out_channels
    pointwise = nn.Conv2d(up.in_channels, 4 * channels, 1)
    pointwise.weight.data = up.weight.detach().permute(1, 2, 3, 0).reshape(4 * channels, up.in_channels, 1, 1)
    pointwise.bias = nn.Parameter(up.bias.detach().repeat_interleave(4))
    inner = write_conv(w, pointwise, x, path)
    name = w.node("DepthToSpace", [inner.name], f"{path}.pixels", blocksize=2, mode="CRD")
    return Map(name, channels, 2 * x.height, 2 * x.width)


def _parts(
    w: GraphWriter, x: str, sizes: tuple[int, int], path: str, names: tuple[str, str], *, axis: int
) -> Sequence[str]:
    """Write the division of a tensor in two; the sizes are an input, which every operator set from 13 on reads."""
    lengths = w.constant(f"{path}.sizes", np.array(sizes, np.int64))
    return w.nodes("Split", [x, lengths], f"{path}.split", [f"{path}.{name}" for name in names], axis=axis)


def _pose(w: GraphWriter, head: Head, features: Sequence[Map], path: str) -> None:
    """Write ``boxes``, ``scores`` and ``keypoints`` (1, K * D, A)."""
    assert isinstance(head, Pose)
    dense = _dense(w, head, features, path)
    _boxes(w, dense)
    dimensions = head.dimensions
    last = head.cv4[0][-1]  # type: ignore[index]
    points = last.out_channels // dimensions
    raw = w.node("Concat", dense.extra, f"{path}.cv4", axis=2)
    each = w.reshape(raw, (1, points, dimensions, dense.count), f"{path}.points")
    place = each
    if dimensions == 3:
        place, logit = _parts(w, each, (2, 1), f"{path}.points", ("raw", "logit"), axis=2)
    scaled = w.node("Mul", [place, w.constant(f"{path}.points.scale", 2 * dense.strides)], f"{path}.points.scaled")
    corner = dense.centres - dense.strides / 2
    found = w.node("Add", [scaled, w.constant(f"{path}.points.origin", corner)], f"{path}.points.xy")
    if dimensions == 3:
        seen = w.node("Sigmoid", [logit], f"{path}.points.visible")
        found = w.node("Concat", [found, seen], f"{path}.points.all", axis=2)
    w.reshape(found, (1, points * dimensions, dense.count), "keypoints")


def _obb(w: GraphWriter, head: Head, features: Sequence[Map], path: str) -> None:
    """Write ``rotated_boxes``, ``angles`` and ``scores``: the sides are those of the box before it is turned."""
    assert isinstance(head, Obb)
    dense = _dense(w, head, features, path)
    turn = w.node("Sigmoid", [w.node("Concat", dense.extra, f"{path}.cv4", axis=2)], f"{path}.turn")
    shifted = w.node("Sub", [turn, w.constant(f"{path}.quarter", np.array(0.25, np.float32))], f"{path}.turn.shifted")
    angle = w.node("Mul", [shifted, w.constant(f"{path}.pi", np.array(math.pi, np.float32))], "angles")
    sides = w.reshape(dense.offset, (1, 4, dense.count), f"{path}.sides")
    lower, upper = _parts(w, sides, (2, 2), f"{path}.sides", ("left_top", "right_bottom"), axis=1)
    size = w.node("Sub", [upper, lower], f"{path}.size")
    double = w.node("Add", [lower, upper], f"{path}.middle.double")
    middle = w.node("Mul", [double, w.constant(f"{path}.half", np.array(0.5, np.float32))], f"{path}.middle")
    x, y = _parts(w, middle, (1, 1), f"{path}.middle", ("x", "y"), axis=1)
    cos, sin = (w.node(op, [angle], f"{path}.{op.lower()}") for op in ("Cos", "Sin"))

    def product(a: str, b: str, name: str) -> str:
        return w.node("Mul", [a, b], f"{path}.turned.{name}")

    across = w.node("Sub", [product(x, cos, "x.cos"), product(y, sin, "y.sin")], f"{path}.turned.x")
    down = w.node("Add", [product(x, sin, "x.sin"), product(y, cos, "y.cos")], f"{path}.turned.y")
    turned = w.node("Concat", [across, down], f"{path}.turned", axis=1)
    centre = w.node("Add", [turned, w.constant(f"{path}.centres", dense.centres[None])], f"{path}.centre")
    w.node("Concat", [centre, size], "rotated_boxes", axis=1)


def _classify(w: GraphWriter, head: Head, features: Sequence[Map], path: str) -> None:
    """Write ``probabilities`` (1, classes)."""
    assert isinstance(head, Classify)
    wide = write_conv_block(w, head.conv, features[-1], f"{path}.conv")
    mean = w.node("GlobalAveragePool", [wide.name], f"{path}.mean")
    linear = nn.Conv2d(head.linear.in_features, head.linear.out_features, 1)
    linear.weight.data, linear.bias = head.linear.weight.detach()[:, :, None, None], head.linear.bias
    logits = write_conv(w, linear, Map(mean, wide.channels, 1, 1), f"{path}.linear")
    flat = w.reshape(logits.name, (1, logits.channels), f"{path}.flat")
    if head.multi_label:
        w.node("Sigmoid", [flat], "probabilities")
    else:
        w.node("Softmax", [flat], "probabilities", axis=1)


_WRITERS: dict[Task, Callable[[GraphWriter, Head, Sequence[Map], str], None]] = {
    "detect": _detect,
    "segment": _segment,
    "pose": _pose,
    "obb": _obb,
    "classify": _classify,
}
