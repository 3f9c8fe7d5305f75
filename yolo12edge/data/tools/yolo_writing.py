"""Writing a collection as YOLO label files with a ``data.yaml``; pictures to classify as class folders or tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DatasetError
from ...imaging.boxes import xywh_from_xyxy
from ...keypoints import KeypointSpec
from ...manifest import Task
from ..dataset import Sample
from .collection import Collection
from .placing import Placer
from .subsets import description_text

__all__ = ["joined_rings", "label_text", "write_yolo"]

Values = npt.NDArray[Any]


def write_yolo(collection: Collection, folder: Path, placer: Placer) -> list[str]:
    """Write a dataset of label files, or of class folders or tables if the task is classify.

    Args:
        collection: What to write.
        folder: Where; it has to be there.
        placer: Puts the pictures there.

    Returns:
        What was lost.

    Raises:
        DatasetError: If a class cannot be the name of a folder, or a picture is not there.
    """
    if collection.task == "classify":
        return _write_classes(collection, folder, placer)
    for split, samples in collection.splits.items():
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        for sample in samples:
            image = placer.put(sample.image, folder / "images" / split)
            (labels / f"{image.stem}.txt").write_text(label_text(sample, collection), encoding="utf-8")
    text = description_text(
        collection.class_names,
        {split: f"images/{split}" for split in collection.splits},
        task=collection.task,
        keypoints=collection.keypoints,
    )
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return []


def label_text(sample: Sample, collection: Collection) -> str:
    """Return the label file of a sample."""
    values = _VALUES[collection.task]
    return "".join(
        f"{class_id} {' '.join(_number(value) for value in values(sample, index, collection.keypoints).tolist())}\n"
        for index, class_id in enumerate(sample.class_id.tolist())
    )


def _number(value: float) -> str:
    return f"{value:.7f}".rstrip("0").rstrip(".")


def _box(sample: Sample, index: int, keypoints: KeypointSpec | None) -> Values:
    return np.asarray(xywh_from_xyxy(sample.boxes[index : index + 1].astype(np.float64)).ravel())


def _outline(sample: Sample, index: int, keypoints: KeypointSpec | None) -> Values:
    assert sample.polygons is not None
    return np.asarray(joined_rings(sample.polygons[index]).ravel())


def _pose(sample: Sample, index: int, keypoints: KeypointSpec | None) -> Values:
    assert sample.keypoints is not None
    assert keypoints is not None
    return np.concatenate([_box(sample, index, None), sample.keypoints[index, :, : keypoints.dimensions].ravel()])


def _corners(sample: Sample, index: int, keypoints: KeypointSpec | None) -> Values:
    assert sample.corners is not None
    return np.asarray(sample.corners[index].ravel())


_VALUES: dict[Task, Callable[[Sample, int, KeypointSpec | None], Values]] = {
    "detect": _box,
    "segment": _outline,
    "pose": _pose,
    "obb": _corners,
}


def joined_rings(rings: Sequence[Values]) -> Values:
    """Return one ring, (m, 2), that encloses what several do: they are joined by cuts of no width.

    Each further ring is entered from the nearest point of what there is, gone round, and left the same way.
    """
    joined: Values = np.asarray(rings[0])
    for ring in rings[1:]:
        distances = np.square(joined[:, None] - ring[None]).sum(axis=2)
        leave, enter = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.roll(ring, -int(enter), axis=0)
        joined = np.concatenate([joined[: leave + 1], around, around[:1], joined[leave:]])
    return joined


def _write_classes(collection: Collection, folder: Path, placer: Placer) -> list[str]:
    wrong = [name for name in collection.class_names if name != Path(name).name or name.startswith(".") or "|" in name]
    if wrong:
        raise DatasetError(f"the class {wrong[0]!r:.80} cannot be the name of a folder", remedy="rename the class")
    names = collection.class_names
    sources = {}
    for split, samples in collection.splits.items():
        if not collection.multi_label:
            sources[split] = split
            for name in names:
                (folder / split / name).mkdir(parents=True)
            for sample in samples:
                placer.put(sample.image, folder / split / names[int(sample.class_id[0])])
            continue
        sources[split] = f"{split}.csv"
        with (folder / sources[split]).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("path", "label"))
            for sample in samples:
                image = placer.put(sample.image, folder / split)
                table.writerow((f"{split}/{image.name}", "|".join(names[i] for i in sample.class_id.tolist())))
    text = description_text(names, sources, task="classify", multi_label=collection.multi_label)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return []
