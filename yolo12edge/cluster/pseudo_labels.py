"""``write_pseudo_labels``: what a model is sure of becomes labels to train with, never of a picture that is scored."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.dataset import Dataset
from ..data.description import read_description
from ..data.duplicates import PictureIndex, digests_of
from ..data.labels import parse_labels
from ..data.tools.subsets import description_text
from ..errors import InputError
from ..files import atomic_file
from .looking import Seen

__all__ = ["PseudoLabels", "check_new", "without_known", "write_pseudo_labels"]

Lines = Callable[[Seen], list[str]]


@dataclass(slots=True)
class PseudoLabels:
    """What was written.

    Attributes:
        data: The description of the new dataset.
        labelled: Pictures with labels.
        empty: Pictures in which the model is sure of nothing; they are left out, since that is no proof of nothing.
        objects: Labels by class.
        unread: Pictures that cannot be read, and why.
    """

    data: Path
    labelled: int = 0
    empty: int = 0
    objects: Counter[int] = field(default_factory=Counter)
    unread: list[tuple[Path, str]] = field(default_factory=list)


def without_known(
    pictures: Sequence[Path], dataset: Dataset, *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """Separate the pictures that a dataset holds from the others: what is scored is never trained with.

    Args:
        pictures: The pictures.
        dataset: Its splits other than ``train`` are what models are scored with: near copies of them count as well.
            Of ``train``, which has labels already, only what looks exactly the same counts.
        progress: Called with (pictures done, pictures in all).

    Returns:
        The others, and the pairs of a picture that is held and the one of the dataset that it is a copy of, by its
        bytes or by what it shows.
    """
    scored = PictureIndex(image for split, images in dataset.splits.items() if split != "train" for image in images)
    labelled = PictureIndex(dataset.splits.get("train", ()), distance=0)
    others: list[Path] = []
    copies: list[tuple[Path, Path]] = []
    for path, digests in zip(pictures, digests_of(pictures, progress=progress), strict=True):
        original = None if digests is None else scored.find(digests) or labelled.find(digests)
        if original is None:
            others.append(path)
        else:
            copies.append((path, original))
    return others, copies


def check_new(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        InputError: If it does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder", remedy="choose another one: labels are never replaced")


def write_pseudo_labels(
    seen: Iterable[Seen], pictures: Sequence[Path], out: Path, dataset: Dataset, *, lines: Lines
) -> PseudoLabels:
    """Write what was seen as a dataset that holds the labelled pictures of another one as well.

    Args:
        seen: What was seen in the pictures; what it holds is what the model is sure of.
        pictures: The pictures.
        out: A new or empty folder. Pictures are linked into it where the file system can, else copied; those to
            classify stay where they are.
        dataset: What the model was trained with: its task, its names, its pictures to train and to score with.
        lines: Makes the lines of a label file.

    Raises:
        InputError: If the folder holds something, or cannot be written.
    """
    check_new(out)
    result = PseudoLabels(out / "data.yaml")
    whole = dataset.task == "classify"
    rows: list[tuple[int, str, str]] = []
    try:
        for folder in () if whole else ("images", "labels"):
            (out / folder).mkdir(parents=True)
        for entry in seen:
            path, found = pictures[entry.index], entry.detections
            if found is None:
                result.unread.append((path, entry.error))
                continue
            if whole:
                classes = found.class_id.tolist()[: None if dataset.multi_label else 1]
                if classes:
                    names = "|".join(dataset.class_names[index] for index in classes)
                    rows.append((entry.index, str(path.absolute()), names))
            else:
                text = _readable(lines(entry), path, dataset)
                classes = [int(line.split()[0]) for line in text]
                if classes:
                    name = f"{entry.index:06d}-{path.stem}"  # one folder may not hold two of a name
                    (out / "labels" / f"{name}.txt").write_text("".join(text), encoding="ascii")
                    _link(path, out / "images" / f"{name}{path.suffix.lower()}")
            result.labelled += bool(classes)
            result.empty += not classes
            result.objects.update(classes)
        if whole:
            with atomic_file(out / "pseudo.csv") as temporary, temporary.open("w", newline="") as file:
                csv.writer(file).writerows(row[1:] for row in sorted(rows))
        with atomic_file(result.data) as temporary:
            temporary.write_text(_description(dataset, whole), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the folder {out} cannot be written: {error.strerror}") from error
    return result


def _readable(lines: list[str], path: Path, dataset: Dataset) -> list[str]:
    """Return the lines that a label may hold: an outline of two points or a box far out of the picture is none."""
    read = parse_labels(
        "".join(lines), path, num_classes=len(dataset.class_names), form=dataset.form, keypoints=dataset.keypoints
    )
    wrong = {problem.line for problem in read.problems if problem.severity == "error"}
    return [line for number, line in enumerate(lines, 1) if number not in wrong]


def _link(picture: Path, place: Path) -> None:
    try:
        os.link(picture.resolve(), place)
    except OSError:  # another file system
        shutil.copyfile(picture, place)


def _description(dataset: Dataset, whole: bool) -> str:
    """Return what the new ``data.yaml`` says: the dataset's splits where they are, the new pictures beside its own."""
    made: tuple[str, ...] = ()
    if dataset.path.is_dir():
        root, splits, images = dataset.path, _plain_splits(dataset), {}
    else:
        description = read_description(dataset.path)
        root = (dataset.path.parent / description.root).absolute()
        splits, images, made = description.splits, description.images, description.synthetic
    content: dict[str, Any] = {split: [str(root / source) for source in sources] for split, sources in splits.items()}
    own = content.get("train", [])
    if not any(source.lower().endswith(".json") for source in own):  # COCO goes with nothing else
        content["train"] = [*own, "pseudo.csv" if whole else "images"]
    else:
        content["train"] = ["images"]
    kept = {split: str(root / folder) for split, folder in images.items() if split != "train"}
    if kept:
        content["images"] = kept
    if made:
        content["synthetic"] = [str(root / source) for source in made]
    return description_text(
        dataset.class_names, content, task=dataset.task, keypoints=dataset.keypoints, multi_label=dataset.multi_label
    )


def _plain_splits(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Return the sources of a folder of class folders or tables."""
    return {
        split: (f"{split}.csv" if (dataset.path / f"{split}.csv").is_file() else split,) for split in dataset.splits
    }
