"""Runs the Triton kernel in Triton's interpreter: cases as JSON on stdin, errors against float64 as JSON on stdout.

A process of its own, because one that interprets kernels can no longer compile them.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[3]))
warnings.simplefilter("ignore")

import torch  # noqa: E402

from yolo12edge.exporters.area_attention.kernel import area_attention  # noqa: E402
from yolo12edge.exporters.area_attention.tiles import Tile  # noqa: E402


def qkv_map(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    torch.manual_seed(0)
    qkv = torch.randn(shape)
    channels = shape[1] // 3
    if kind == "large":  # logits in the tens of thousands: one key takes all
        qkv[:, : 2 * channels] *= 100
    elif kind == "equal":  # every key weighs the same
        qkv[:, :channels] = 0
    elif kind == "rising":  # each tile of keys has larger logits than the one before
        qkv[:, :channels] = 1
        ramp = torch.arange(shape[2] * shape[3]).reshape(shape[2:]) / 8
        qkv[:, channels : 2 * channels] = (qkv[:, channels : 2 * channels] + ramp) / 32
    elif kind == "negative":  # all logits far below zero
        qkv[:, :channels] = 8
        qkv[:, channels : 2 * channels] -= 20
    return qkv.half()


def expected(qkv: torch.Tensor, heads: int, area: int) -> torch.Tensor:
    images, channels, height, width = qkv.shape
    parts = qkv.double().reshape(images, 3, heads, 32, area, height * width // area)
    q, k, v = parts.permute(1, 0, 4, 2, 5, 3).unbind(0)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out.permute(0, 2, 4, 1, 3).reshape(images, channels // 3, height, width)


def error(case: dict[str, Any]) -> float:
    qkv = qkv_map(case["kind"], (case["images"], case["heads"] * 96, case["height"], case["width"]))
    out = area_attention(qkv, case["heads"], case["area"], tile=Tile(*case["tile"]))
    assert out.dtype == torch.float16
    wanted = expected(qkv, case["heads"], case["area"])
    return float((out.double() - wanted).abs().max() / wanted.abs().max())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([error(case) for case in json.load(sys.stdin)]))
