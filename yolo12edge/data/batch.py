"""``Batch``: pictures of one size with the objects of all of them, and their change to another size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["Batch", "Item", "collate", "resized"]


class Item(NamedTuple):
    """One picture.

    Attributes:
        image: uint8 (3, H, W), RGB.
        class_id: int64 (n,).
        boxes: float32 (n, 4), left, top, right, bottom in network pixels.
        masks: int16 (H / 4, W / 4); segment only, as the next two are of their tasks only. See ``Batch``.
        keypoints: float32 (n, K, 3).
        obb: float32 (n, 5).
    """

    image: Tensor
    class_id: Tensor
    boxes: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    obb: Tensor | None = None


class Batch(NamedTuple):
    """Pictures of one size and the objects of all of them.

    Attributes:
        images: uint8 (B, 3, H, W), RGB.
        image_index: int64 (n,), which of the B images an object is in; ascending.
        class_id: int64 (n,).
        boxes: float32 (n, 4), left, top, right, bottom in pixels of the network's input. Of oriented boxes their
            upright hulls; of classify the whole picture, once for each of its classes.
        masks: int16 (B, H / 4, W / 4): 0 is background, k the k-th object of that image, from 1; small objects lie on
            top of large ones, and may hide them; segment only.
        keypoints: float32 (n, K, 3), x, y in pixels and visibility 0, 1 or 2; pose only.
        obb: float32 (n, 5), centre x, centre y, width, height in pixels, angle in radians; obb only.
    """

    images: Tensor
    image_index: Tensor
    class_id: Tensor
    boxes: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    obb: Tensor | None = None


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one image size into a ``Batch``."""
    counts = torch.tensor([len(item.class_id) for item in items])
    return Batch(
        torch.stack([item.image for item in items]),
        torch.repeat_interleave(torch.arange(len(items)), counts),
        torch.cat([item.class_id for item in items]),
        torch.cat([item.boxes for item in items]),
        _joined(torch.stack, [item.masks for item in items]),
        _joined(torch.cat, [item.keypoints for item in items]),
        _joined(torch.cat, [item.obb for item in items]),
    )


def _joined(join: Callable[[list[Tensor]], Tensor], parts: Sequence[Tensor | None]) -> Tensor | None:
    """Join what all items have; None where they have none."""
    given = [part for part in parts if part is not None]
    return join(given) if given else None


def resized(batch: Batch, side: int) -> Batch:
    """Return the batch with pictures of another side.

    Args:
        batch: Square pictures.
        side: In pixels, a multiple of 4, because masks have a quarter of it.
    """
    factor = side / batch.images.shape[-1]
    if factor == 1:
        return batch
    images = interpolate(batch.images.float(), (side, side), mode="bilinear", antialias=factor < 1)
    masks, keypoints, obb = batch.masks, batch.keypoints, batch.obb
    if masks is not None:
        masks = interpolate(masks[:, None].float(), (side // 4, side // 4), mode="nearest-exact")[:, 0].to(masks.dtype)
    if keypoints is not None:
        keypoints = keypoints * keypoints.new_tensor([factor, factor, 1])
    if obb is not None:
        obb = obb * obb.new_tensor([factor, factor, factor, factor, 1])
    return batch._replace(
        images=images.round_().to(torch.uint8),
        boxes=batch.boxes * factor,
        masks=masks,
        keypoints=keypoints,
        obb=obb,
    )
