"""What ``--data`` means: labels that fit a model, to score it with, and images to calibrate it on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..calibration.images import CalibrationImages
    from ..checkpoint import CheckpointMeta
    from ..data.dataset import Dataset, Sample
    from ..manifest import Manifest, Task

__all__ = [
    "ExportData",
    "described_by",
    "read_export_data",
    "read_scored",
    "refuse_other_classes",
    "refuse_other_keypoints",
]

_HELD_BACK = 128  # images of a folder that are not calibrated on but compared on, at most a fifth of them
_ENOUGH = 64  # images; with fewer, all are needed to calibrate


@dataclass(frozen=True, slots=True)
class ExportData:
    """What was read.

    Attributes:
        calibration: Images to calibrate on; None without ``--data``.
        scored: Labelled images to score on, none of which is calibrated on; empty without labels.
        pictures: Without labels, images to compare INT8 with float on; not calibrated on, where there are enough.
        dataset: Where both are from; None for a folder of images.
    """

    calibration: CalibrationImages | None = None
    scored: tuple[Sample, ...] = ()
    pictures: tuple[Path, ...] = ()
    dataset: Dataset | None = None

    @property
    def dataset_name(self) -> str:
        """Name of the dataset for reports; empty without one."""
        if self.dataset is None:
            return ""
        path = self.dataset.path
        return path.name if path.is_dir() else path.parent.name


def described_by(source: Path) -> Manifest | CheckpointMeta:
    """Return what an artifact or a checkpoint says of its model.

    Raises:
        Yolo12EdgeError: If it is neither.
    """
    from ..artifact import read_manifest
    from ..checkpoint import read_metadata

    return read_manifest(source) if source.is_dir() else read_metadata(source)


def refuse_other_keypoints(model: Manifest | CheckpointMeta, dataset: Dataset, *, remedy: str) -> None:
    """Refuse labels whose keypoints are not those of the model.

    Raises:
        DatasetError: If there are more or fewer, or of other dimensions.
    """
    from ..errors import DatasetError

    own, theirs = model.keypoints, dataset.keypoints
    if own is not None and theirs is not None and (own.count, own.dimensions) != (theirs.count, theirs.dimensions):
        raise DatasetError(
            f"the objects of {dataset.path} have {theirs.count} points of {theirs.dimensions} values",
            expected=f"those of the model: {own.count} of {own.dimensions}",
            remedy=remedy,
        )


def refuse_other_classes(model: Manifest | CheckpointMeta, dataset: Dataset, *, remedy: str) -> None:
    """Refuse labels whose classes are not those of the model.

    Raises:
        DatasetError: If the names or their order differ.
    """
    from ..errors import DatasetError

    own, theirs = model.class_names, dataset.class_names
    if list(own) == list(theirs):
        return
    if len(own) != len(theirs):
        fact = f"the model knows {len(own)} classes and {dataset.path} has {len(theirs)}"
    else:
        index = next(i for i, (a, b) in enumerate(zip(own, theirs, strict=True)) if a != b)
        fact = f"class {index} is {own[index]!r} for the model and {theirs[index]!r} in {dataset.path}"
    raise DatasetError(
        fact,
        expected=f"the same names in the same order; the model's are {', '.join(own[:20])}{', …' * (len(own) > 20)}",
        remedy=f"{remedy}, or correct `names:`",
    )


def read_scored(data: Path, split: str, model: Manifest) -> tuple[Dataset, list[Sample]]:
    """Read the split of a dataset that a model is scored with.

    Raises:
        DatasetError: If the dataset is not usable, the split has no labels, or they are not those of the model.
    """
    from ..data.dataset import read_dataset
    from ..errors import DatasetError

    dataset = read_dataset(data, task=model.task)
    samples = dataset.samples(split)
    if not samples:
        raise DatasetError(
            f"the split {split!r} of {data} has no picture for the model's task {model.task}",
            expected="a dataset of that task",
        )
    if not any(len(sample) for sample in samples):
        raise DatasetError(
            f"the split {split!r} of {data} has {len(samples)} images and no label",
            expected="labels to compare with",
            remedy="check the split and where its labels lie",
        )
    for refuse in (refuse_other_classes, refuse_other_keypoints):
        refuse(model, dataset, remedy="evaluate on the dataset that the model was trained for")
    return dataset, samples


def read_export_data(
    data: Path | None, *, needed: bool, task: Task = "detect", count: int | None = None, seed: int = 0
) -> ExportData:
    """Read a data.yaml or a folder with one, a dataset of classes, or a folder of images.

    Args:
        data: What the user gave.
        task: Of the model: what the labels are read as.
        needed: Whether there must be images to calibrate on.
        count: How many of them at most; None takes the default.
        seed: The same seed chooses the same images.

    Raises:
        InputError: If images are needed and none were given, or none were found.
        DatasetError: If the dataset is not usable.
    """
    from ..calibration.images import MAX_IMAGES, choose_images, images_of_folder
    from ..data.dataset import read_dataset
    from ..errors import InputError
    from ..imaging.images import list_images

    if data is None:
        if needed:
            raise InputError(
                "INT8 needs real images to calibrate on, and none were given",
                expected="a dataset or a folder of images like those that the model will see",
                remedy="add --data data.yaml or --data FOLDER",
            )
        return ExportData()
    count = MAX_IMAGES if count is None else count
    if data.is_dir() and not (data / "data.yaml").is_file() and (task != "classify" or list_images(data)):
        everything = images_of_folder(data, count=sys.maxsize, seed=seed)
        held_back = min(len(everything.paths) // 5, _HELD_BACK) if len(everything.paths) >= _ENOUGH else 0
        chosen = everything.first(min(count, len(everything.paths) - held_back))
        return ExportData(chosen, pictures=everything.paths[len(everything.paths) - held_back :])
    dataset = read_dataset(data, task=task)
    scored = dataset.samples("val") if "val" in dataset.splits else []
    unseen = [sample.image for sample in scored]
    chosen = choose_images(dataset, count=count, seed=seed, exclude=unseen)
    if not any(len(sample) for sample in scored):  # images without labels say nothing about accuracy
        return ExportData(chosen, pictures=tuple(unseen[:_HELD_BACK]), dataset=dataset)
    return ExportData(chosen, tuple(scored), dataset=dataset)
