"""``Collection``: pictures with their objects in memory, between one label format and another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...keypoints import KeypointSpec
from ...manifest import Task
from ..dataset import Dataset, Sample

__all__ = ["Collection", "collection_of"]


@dataclass(frozen=True, slots=True)
class Collection:
    """Labelled pictures, whatever format they were read from.

    Attributes:
        class_names: Names by class index.
        splits: The pictures of each split.
        task: What the labels are for.
        keypoints: Which keypoints an object has; None unless the task is pose.
        multi_label: Whether a picture may have several classes; only if the task is classify.
        notes: What a reader should know of how it was read.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[Sample]]
    task: Task = "detect"
    keypoints: KeypointSpec | None = None
    multi_label: bool = False
    notes: tuple[str, ...] = ()


def collection_of(dataset: Dataset) -> Collection:
    """Read all labels of a dataset.

    Raises:
        DatasetError: If one is wrong; the message names file and line.
    """
    return Collection(
        dataset.class_names,
        {split: dataset.samples(split) for split in dataset.splits},
        dataset.task,
        dataset.keypoints,
        dataset.multi_label,
    )
