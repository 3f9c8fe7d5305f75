"""COCO's results format: the JSON list that COCO's own evaluation and its kin read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..detections import Detections
from ..files import atomic_file
from ..imaging.rotated import corners_of_rotated
from ._classes import by_class

__all__ = ["to_coco_results", "write_coco_results"]


def to_coco_results(
    detections: Detections, *, image_id: int | str, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return one image's detections as COCO's results: ``image_id``, ``category_id``, ``bbox``, ``score``.

    Masks are added as ``segmentation``, in COCO's compressed run-length code; keypoints as ``keypoints``, x, y and
    visibility one after the other; oriented boxes, which COCO does not know, as ``segmentation`` of four corners.

    Args:
        detections: n objects, in pixels of the image.
        image_id: The image's id in the annotation file; ``read_coco(file).image_ids`` has it by file name.
        category_ids: By class index: COCO's ids are not the indices and may have gaps. ``read_coco(file).category_ids``
            has them for a model whose classes are the file's; ``range(len(class_names))`` is for results of your own.

    Returns:
        One dictionary an object; ``bbox`` is left, top, width, height.

    Raises:
        InputError: If a class has no category.
    """
    categories = by_class(detections, category_ids, what="category ids")
    boxes = detections.xyxy.astype(np.float64)
    boxes[:, 2:] = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)  # COCO would not see a box of negative size
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": int(category),
            "bbox": [round(value, 2) for value in box],
            "score": round(score, 5),
        }
        for category, box, score in zip(categories, boxes.tolist(), detections.confidence.tolist(), strict=True)
    ]
    if detections.mask is not None:
        for result, code in zip(results, detections.mask.to_rle(), strict=True):
            result["segmentation"] = {**code, "counts": _compressed(code["counts"])}
    if detections.keypoints is not None:
        for result, points in zip(results, detections.keypoints.tolist(), strict=True):
            result["keypoints"] = [round(value, 3) for point in points for value in point]
    if detections.obb is not None:
        for result, corners in zip(results, corners_of_rotated(detections.obb), strict=True):
            result["segmentation"] = [[round(value, 2) for value in corners.ravel().tolist()]]
    return results


def write_coco_results(path: str | os.PathLike[str], results: Iterable[dict[str, Any]]) -> None:
    """Write the results of all images as one JSON file, whole or not at all.

    Args:
        path: Where to; missing folders are made.
        results: What ``to_coco_results`` gave, of all images in one list.
    """
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(msgspec.json.encode(list(results)))


def _compressed(counts: Sequence[int]) -> str:
    """Return a run-length code as COCO's text: each count less the one before the last, in groups of five bits."""
    text = []
    for index, count in enumerate(counts):
        rest = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = rest & 0x1F
            rest >>= 5
            more = rest != (-1 if bits & 0x10 else 0)
            text.append(chr(48 + (bits | 0x20 if more else bits)))
    return "".join(text)
