"""Area attention as one Triton kernel that reads what the qkv convolution wrote and never stores a logit.

The algorithm is that of FlashAttention (Dao, Fu, Ermon, Rudra, Ré: "FlashAttention: Fast and Memory-Efficient Exact
Attention with IO-Awareness", NeurIPS 2022): a block keeps its queries and walks over the keys in tiles; the softmax is
taken along the way, and what was summed before is scaled down whenever a larger logit comes up.

This module imports triton: it is imported only where a kernel is compiled or launched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ...errors import InputError
from .shapes import HEAD_CHANNELS, check_shape
from .tiles import DEFAULT_TILE, Tile

if TYPE_CHECKING:
    import torch

__all__ = ["area_attention", "area_attention_kernel"]


@triton.jit  # type: ignore[untyped-decorator]
def area_attention_kernel(  # type: ignore[no-untyped-def]
    qkv,
    run,
    out,
    HEADS: tl.constexpr,
    AREA: tl.constexpr,
    HEAD_CHANNELS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Attend within one run of tokens, for one tile of queries of one head of one image.

    Launched as (tiles of queries, HEADS * AREA, images). All maps are channel-first and contiguous.

    Args:
        qkv: FP16 (images, 3 * HEADS * HEAD_CHANNELS, AREA * run): [Q | K | V], heads one after the other in each, the
            scale of the logits in Q.
        run: Tokens of one area.
        out: FP16 (images, HEADS * HEAD_CHANNELS, AREA * run).
        HEADS: Heads of attention.
        AREA: Runs that the tokens are cut into.
        HEAD_CHANNELS: Channels of a head.
        QUERIES: Queries of a tile.
        KEYS: Keys of a tile.
    """
    head = tl.program_id(1) // AREA
    area = tl.program_id(1) % AREA
    image = tl.program_id(2).to(tl.int64)
    tokens = run * AREA
    channels = tl.arange(0, HEAD_CHANNELS)
    queries = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    keys = tl.arange(0, KEYS)

    map_size = HEADS * HEAD_CHANNELS * tokens
    within = (head * HEAD_CHANNELS + channels)[:, None] * tokens + area * run
    source = qkv + image * 3 * map_size + within
    query_tile = tl.load(source + queries[None, :], mask=queries[None, :] < run, other=0.0)
    query_tile = tl.trans(query_tile)  # (QUERIES, HEAD_CHANNELS)
    key_source = source + map_size + keys[None, :]
    value_source = source + 2 * map_size + keys[None, :]

    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, HEAD_CHANNELS], tl.float32)
    full = run // KEYS * KEYS
    for start in range(0, full, KEYS):
        key_tile = tl.load(key_source + start)
        value_tile = tl.load(value_source + start)
        logits = tl.dot(query_tile, key_tile) * 1.4426950408889634  # of 2: exp2 is what the hardware has
        larger = tl.maximum(largest, tl.max(logits, 1))
        shrink = tl.exp2(largest - larger)
        weights = tl.exp2(logits - larger[:, None])
        total = total * shrink + tl.sum(weights, 1)
        mixed = tl.dot(weights.to(tl.float16), tl.trans(value_tile), mixed * shrink[:, None])
        largest = larger
    if full < run:  # the ragged end, apart: no mask is spent on the tiles before it
        valid = keys[None, :] < run - full
        key_tile = tl.load(key_source + full, mask=valid, other=0.0)
        value_tile = tl.load(value_source + full, mask=valid, other=0.0)
        logits = tl.where(valid, tl.dot(query_tile, key_tile) * 1.4426950408889634, float("-inf"))
        larger = tl.maximum(largest, tl.max(logits, 1))
        shrink = tl.exp2(largest - larger)
        weights = tl.exp2(logits - larger[:, None])
        total = total * shrink + tl.sum(weights, 1)
        mixed = tl.dot(weights.to(tl.float16), tl.trans(value_tile), mixed * shrink[:, None])

    mixed = mixed / total[:, None]
    target = out + image * map_size + within + queries[None, :]
    tl.store(target, tl.trans(mixed).to(tl.float16), mask=queries[None, :] < run)


def area_attention(qkv: torch.Tensor, heads: int, area: int, *, tile: Tile = DEFAULT_TILE) -> torch.Tensor:
    """Return area attention of a qkv map.

    Args:
        qkv: FP16, contiguous, on a CUDA device: (images, 3 * heads * 32, height, width), [Q | K | V] with the scale of
            the logits in Q.
        heads: Heads of attention.
        area: Runs that the tokens, row by row, are cut into; each attends within itself.
        tile: How the work is cut.

    Returns:
        FP16 (images, heads * 32, height, width).

    Raises:
        InputError: If the map does not fit.
    """
    import torch

    check_shape(tuple(qkv.shape), heads=heads, area=area)
    if qkv.dtype != torch.float16 or not qkv.is_contiguous():
        raise InputError(f"the map is {qkv.dtype}, strides {qkv.stride()}", expected="torch.float16, contiguous")
    images, channels, height, width = qkv.shape
    out = qkv.new_empty(images, channels // 3, height, width)
    run = height * width // area
    area_attention_kernel[(triton.cdiv(run, tile.queries), heads * area, images)](
        qkv,
        run,
        out,
        HEADS=heads,
        AREA=area,
        HEAD_CHANNELS=HEAD_CHANNELS,
        QUERIES=tile.queries,
        KEYS=tile.keys,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out
