"""Writing a collection as COCO JSON, a file a split, with a ``data.yaml`` beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...errors import DatasetError
from ...keypoints import KeypointSpec
from ...manifest import Task
from ..dataset import Sample
from ..polygons import ring_area
from .collection import Collection
from .placing import Placer
from .subsets import description_text

__all__ = ["write_coco"]

_DIGITS = 3  # of a pixel


def write_coco(collection: Collection, folder: Path, placer: Placer) -> list[str]:
    """Write ``annotations/SPLIT.json`` and ``images/SPLIT``.

    Args:
        collection: What to write.
        folder: Where; it has to be there.
        placer: Puts the pictures there.

    Returns:
        What was lost.

    Raises:
        DatasetError: If the classes are of whole pictures, or a picture cannot be read.
    """
    from ...imaging.images import read_image

    if collection.task not in _SHAPES:
        raise DatasetError(
            f"COCO's files have no place for the labels of the task {collection.task}", remedy="use --to yolo"
        )
    (folder / "annotations").mkdir()
    about = _SHAPES[collection.task]
    for split, samples in collection.splits.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, sample in enumerate(samples, start=1):
            height, width = read_image(sample.image).shape[:2]
            image = placer.put(sample.image, folder / "images" / split)
            images.append({"id": number, "file_name": image.name, "width": width, "height": height})
            size = np.array((width, height), np.float64)
            for index, class_id in enumerate(sample.class_id.tolist()):
                left, top, right, bottom = (sample.boxes[index].reshape(2, 2) * size).ravel().tolist()
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": class_id + 1,  # COCO counts from 1
                    "bbox": [round(value, _DIGITS) for value in (left, top, right - left, bottom - top)],
                    "area": round((right - left) * (bottom - top), _DIGITS),
                    "iscrowd": 0,
                }
                annotations.append(annotation | about(sample, index, size))
        content = {"images": images, "categories": _categories(collection), "annotations": annotations}
        (folder / "annotations" / f"{split}.json").write_bytes(msgspec.json.encode(content))
    sources: dict[str, Any] = {split: f"annotations/{split}.json" for split in collection.splits}
    sources["images"] = {split: f"images/{split}" for split in collection.splits}
    text = description_text(collection.class_names, sources, task=collection.task, keypoints=collection.keypoints)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return list(_lost(collection.task, collection.keypoints))


def _lost(task: Task, keypoints: KeypointSpec | None) -> tuple[str, ...]:
    if task == "obb":
        return ("COCO has no oriented boxes: their corners are polygons, which this program reads back as such",)
    if keypoints is not None and keypoints.flip:
        return ("COCO has no mirror images of keypoints: `flip_idx` is in data.yaml alone",)
    return ()


def _categories(collection: Collection) -> list[dict[str, Any]]:
    more: dict[str, Any] = {}
    if collection.keypoints is not None:
        spec = collection.keypoints
        more["keypoints"] = spec.names or [f"point {number}" for number in range(1, spec.count + 1)]
        more["skeleton"] = [[a + 1, b + 1] for a, b in spec.skeleton]
    return [{"id": number, "name": name, **more} for number, name in enumerate(collection.class_names, start=1)]


def _flat(points: npt.NDArray[Any], size: npt.NDArray[np.float64]) -> list[float]:
    return [float(value) for value in (points * size).round(_DIGITS).ravel()]


def _nothing(sample: Sample, index: int, size: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {}


def _polygons(sample: Sample, index: int, size: npt.NDArray[np.float64]) -> dict[str, Any]:
    assert sample.polygons is not None
    rings = sample.polygons[index]
    area = sum(ring_area(ring * size) for ring in rings)
    return {"segmentation": [_flat(ring, size) for ring in rings], "area": round(area, _DIGITS)}


def _keypoints(sample: Sample, index: int, size: npt.NDArray[np.float64]) -> dict[str, Any]:
    assert sample.keypoints is not None
    points = sample.keypoints[index] * np.append(size, 1)
    return {
        "keypoints": [round(value, _DIGITS) for value in points.ravel().tolist()],
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }


def _corners(sample: Sample, index: int, size: npt.NDArray[np.float64]) -> dict[str, Any]:
    assert sample.corners is not None
    corners = sample.corners[index]
    return {"segmentation": [_flat(corners, size)], "area": round(ring_area(corners * size), _DIGITS)}


_SHAPES: dict[Task, Callable[[Sample, int, npt.NDArray[np.float64]], dict[str, Any]]] = {
    "detect": _nothing,
    "segment": _polygons,
    "pose": _keypoints,
    "obb": _corners,
}
