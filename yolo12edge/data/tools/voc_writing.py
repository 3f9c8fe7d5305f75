"""Writing a collection as Pascal VOC: an XML file an image, whole pixels that count from 1, and lists of the splits."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from ...errors import DatasetError
from ...manifest import Task
from ..dataset import Sample
from .collection import Collection
from .placing import Placer

__all__ = ["write_voc"]

_LOST: dict[Task, str] = {
    "segment": "VOC's annotations have no polygons: only the boxes around them are written",
    "pose": "VOC's annotations have no keypoints: only the boxes are written",
    "obb": "VOC's annotations have no oriented boxes: only the upright boxes around them are written",
}


def write_voc(collection: Collection, folder: Path, placer: Placer) -> list[str]:
    """Write ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``.

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

    if collection.task == "classify":
        raise DatasetError(
            "VOC's annotations have no place for the labels of the task classify", remedy="use --to yolo"
        )
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for split, samples in collection.splits.items():
        stems = []
        for sample in samples:
            image = placer.put(sample.image, folder / "JPEGImages")
            text = _annotation(sample, image, read_image(sample.image).shape, collection.class_names)
            (folder / "Annotations" / f"{image.stem}.xml").write_text(text, encoding="utf-8")
            stems.append(f"{image.stem}\n")
        (lists / f"{split}.txt").write_text("".join(stems), encoding="utf-8")
    lost = ["VOC has whole pixels: boxes are rounded", "VOC has no order of classes: they are read back by name"]
    return [_LOST[collection.task], *lost] if collection.task in _LOST else lost


def _annotation(sample: Sample, image: Path, shape: tuple[int, ...], class_names: tuple[str, ...]) -> str:
    height, width = shape[:2]
    objects = []
    for class_id, box in zip(sample.class_id.tolist(), sample.boxes.astype(np.float64), strict=True):
        left, top, right, bottom = (round(v) for v in (box.reshape(2, 2) * (width, height)).ravel().tolist())
        left, top = min(left, width - 1), min(top, height - 1)
        corners = {"xmin": left + 1, "ymin": top + 1, "xmax": max(right, left + 1), "ymax": max(bottom, top + 1)}
        bounds = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
        name = escape(class_names[class_id])
        objects.append(
            f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
            f"\t\t<difficult>0</difficult>\n\t\t<bndbox>{bounds}</bndbox>\n\t</object>\n"
        )
    return (
        f"<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{escape(image.name)}</filename>\n"
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n\t<segmented>0</segmented>\n"
        f"{''.join(objects)}</annotation>\n"
    )
