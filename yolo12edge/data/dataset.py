"""Datasets: which images each split has and what is in them, from a ``data.yaml`` or a folder of class folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..keypoints import KeypointSpec
from ..manifest import Task
from .class_tables import (
    ClassTable,
    NamedClasses,
    has_class_folders,
    join_sources,
    read_class_folders,
    read_class_table,
)
from .description import Description, read_description
from .form_segment import Rings
from .forms import FORMS
from .label_form import LabelForm
from .labels import Labels, Problem, decode_text, lines_of, read_labels

__all__ = ["CocoSource", "Dataset", "Sample", "dataset_digest", "label_path", "read_dataset"]

_MAX_LIST_BYTES = 256 << 20
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image and its objects.

    Attributes:
        image: Path of the image.
        class_id: int64 (n,), index into the class names of the dataset.
        boxes: float32 (n, 4), left, top, right, bottom as shares of the image's sides, in [0, 1]; all of the image for
            a class of the image.
        polygons: Of each object its rings, float32 (m, 2), in [0, 1]; None unless the task is segment.
        keypoints: float32 (n, K, 3), x, y, visibility 0, 1 or 2; None unless the task is pose.
        corners: float32 (n, 4, 2) of oriented boxes, which may lie out of the image; None unless the task is obb.
    """

    image: Path
    class_id: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    polygons: tuple[Rings, ...] | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    corners: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.class_id)


@dataclass(frozen=True, slots=True)
class CocoSource:
    """Where a split that is annotated by a COCO file is.

    Attributes:
        annotations: The JSON file.
        images: The folder that its file names are relative to.
    """

    annotations: Path
    images: Path


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset that was read from its description; the labels are read when asked for.

    Attributes:
        path: The ``data.yaml``, or the folder of class folders.
        class_names: Names by class index.
        splits: Images of each split that the description names, in a fixed order.
        coco: The COCO file of each split that has one.
        listed: For an image that was named in a list file or table: that file and the line.
        task: What the labels are for.
        keypoints: The keypoints of an object; None unless the task is pose.
        multi_label: Whether a picture may have several classes; only if the task is classify.
        classes: The classes of the pictures of each split if the task is classify. A split that is neither here nor in
            ``coco`` has label files.
        synthetic: The pictures of any split that were made and not taken.
    """

    path: Path
    class_names: tuple[str, ...]
    splits: dict[str, tuple[Path, ...]]
    coco: Mapping[str, CocoSource] = field(default_factory=dict)
    listed: Mapping[Path, tuple[Path, int]] = field(default_factory=dict)
    task: Task = "detect"
    keypoints: KeypointSpec | None = None
    multi_label: bool = False
    classes: Mapping[str, ClassTable] = field(default_factory=dict)
    synthetic: frozenset[Path] = frozenset()

    @property
    def form(self) -> LabelForm:
        """How the labels are written and what is learnt from them."""
        return FORMS[self.task]

    def images(self, split: str) -> tuple[Path, ...]:
        """Return the images of a split.

        Raises:
            DatasetError: If the dataset has no such split.
        """
        if split not in self.splits:
            raise DatasetError(
                f"{self.path} has no split {split!r}",
                expected=f"one of {', '.join(self.splits)}",
                remedy=f"add a line '{split}: images/{split}' to it",
            )
        return self.splits[split]

    def labels(self, split: str) -> list[Labels]:
        """Return what each image of a split is labelled with, problems included, in the order of ``images``."""
        images = self.images(split)
        if split in self.classes:
            return self.classes[split].labels_of(images)
        if split in self.coco:
            from .coco import read_coco

            source = self.coco[split]
            file = read_coco(source.annotations, form=self.form)
            return file.labels_of(images, folder=source.images, form=self.form, keypoints=self.keypoints)
        return [
            read_labels(label_path(image), num_classes=len(self.class_names), form=self.form, keypoints=self.keypoints)
            for image in images
        ]

    def samples(self, split: str) -> list[Sample]:
        """Return the images of a split with their objects.

        Raises:
            DatasetError: If the split is not there or a label is wrong; the message names file and line.
        """
        entries = self.labels(split)
        for problem in (*self.unplaced(split), *(problem for labels in entries for problem in labels.problems)):
            if problem.severity == "error":
                named = " or ".join(problem.tasks)
                other = f"if the task is {named}, say so by --task or by `task:` in data.yaml; else " if named else ""
                raise DatasetError(str(problem), remedy=f"{other}repair the label, or remove it")
        images = self.images(split)
        return [
            Sample(image, entry.class_id, entry.boxes, entry.polygons, entry.keypoints, entry.corners)
            for image, entry in zip(images, entries, strict=True)
        ]

    def unplaced(self, split: str) -> tuple[Problem, ...]:
        """Return the problems of annotations of a split that belong to none of its images."""
        if split in self.classes:
            return self.classes[split].unplaced
        if split not in self.coco:
            return ()
        from .coco import read_coco

        return read_coco(self.coco[split].annotations, form=self.form).unplaced


def label_path(image: Path) -> Path:
    """Return where the label file of an image is.

    The last folder named ``images`` becomes ``labels``; without one the label is beside the image.
    """
    return _label_folder(image.parent) / f"{image.stem}.txt"


@lru_cache(maxsize=4096)
def _label_folder(folder: Path) -> Path:
    parts = folder.parts
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":
            return Path(*parts[:place], "labels", *parts[place + 1 :])
    return folder


def read_dataset(path: Path | str, *, task: Task | None = None) -> Dataset:
    """Read a dataset's description and find its images.

    The file is YAML with ``names`` (a list, or a mapping from 0) and ``train``, ``val``, ``test``, each
    a folder, a ``.txt`` list of images, a list of those, or a COCO ``.json``. ``path`` is the root that
    these are relative to, itself relative to the file; the file's own folder if it is left out. ``task`` says what the
    labels are for: detect if it is left out, or pose where there is ``kpt_shape``. ``synthetic`` says which pictures
    were made and not taken: folders or lists, too.

    Pictures to classify need no description: a folder ``train`` and a folder ``val`` that hold a folder a class are a
    dataset, and so are the tables ``train.csv`` and ``val.csv``. A description may name either, too.

    Args:
        path: The ``data.yaml``, or a folder that holds one, or the folder of the folders or tables of classes.
        task: What the labels are for, whatever the description says.

    Raises:
        DatasetError: If the description is not usable. Wrong images and labels are not looked for
            here: see ``check_dataset``.
    """
    path = Path(path)
    try:
        if path.is_dir() and not (path / "data.yaml").exists():
            splits = _class_splits(path)
            if splits:
                return _classified(Description("", (), splits, task=task), path.absolute(), path.absolute())
        return _read_dataset((path / "data.yaml" if path.is_dir() else path).absolute(), task)
    except OSError as error:  # no permission, a name that is too long, a disk that fails
        raise DatasetError(f"cannot read the dataset {path}: {error}") from error


def _class_splits(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the sources of a dataset without a description: tables or folders of class folders."""
    splits: dict[str, tuple[str, ...]] = {}
    for split in _SPLITS:
        if (folder / f"{split}.csv").is_file():
            splits[split] = (f"{split}.csv",)
        elif has_class_folders(folder / split):
            splits[split] = (split,)
    return splits


def _read_dataset(path: Path, task: Task | None) -> Dataset:
    description = read_description(path)
    root = (path.parent / description.root).absolute()
    if not root.is_dir():
        raise DatasetError(
            f"{path}: the root of the dataset, {root}, is not a folder",
            remedy="correct `path:`, which is relative to the folder of this file",
        )
    tables = any(source.lower().endswith(".csv") for sources in description.splits.values() for source in sources)
    stated = task or description.task or ("pose" if description.keypoints else None) or ("classify" if tables else None)
    if stated == "classify":
        dataset = _classified(replace(description, task=stated), path, root)
    else:
        dataset = _located(description, stated or "detect", path, root)
    return replace(dataset, synthetic=_synthetic(description, dataset, path, root))


def _synthetic(description: Description, dataset: Dataset, path: Path, root: Path) -> frozenset[Path]:
    """Return which of the pictures are said to be made."""
    if not description.synthetic:
        return frozenset()
    images = {image.resolve(): image for several in dataset.splits.values() for image in several}
    made = {image.resolve(): image for image in _find_images(description.synthetic, root, path, "synthetic", {})}
    strangers = [image for place, image in made.items() if place not in images]
    if strangers or not made:
        what = f"{min(strangers)}, which is in no split" if strangers else "no picture"
        raise DatasetError(f"{path}: `synthetic` names {what}", expected="pictures of the dataset's splits")
    return frozenset(images[place] for place in made)


def _located(description: Description, task: Task, path: Path, root: Path) -> Dataset:
    """Find the images of a dataset whose objects have places."""
    splits: dict[str, tuple[Path, ...]] = {}
    coco: dict[str, CocoSource] = {}
    listed: dict[Path, tuple[Path, int]] = {}
    names, keypoints = description.class_names, description.keypoints
    for split, sources in description.splits.items():
        if any(source.lower().endswith(".json") for source in sources):
            from .coco import read_coco

            if len(sources) != 1:
                raise DatasetError(f"{path}: `{split}` mixes a COCO file with others", expected="one .json alone")
            coco[split] = CocoSource(root / sources[0], root / description.images.get(split, ""))
            annotations = read_coco(coco[split].annotations, form=FORMS[task])
            if names and names != annotations.class_names:
                raise DatasetError(
                    f"{annotations.path} has the categories, in order of their ids, {annotations.class_names!r:.120}",
                    expected=f"the classes of {path} and its other splits, {names!r:.120}",
                )
            names, keypoints = annotations.class_names, keypoints or annotations.keypoints
            splits[split] = annotations.image_paths(coco[split].images)
        else:
            splits[split] = _find_images(sources, root, path, split, listed)
    if not names:
        raise DatasetError(f"{path} does not name the classes", expected="`names:`, a list or a mapping from 0")
    if task == "pose" and keypoints is None:
        raise DatasetError(
            f"{path} does not say which keypoints there are", expected="`kpt_shape: [17, 3]` or the like"
        )
    return Dataset(path, names, splits, coco, listed, task, keypoints if task == "pose" else None)


def _classified(description: Description, path: Path, root: Path) -> Dataset:
    """Find the pictures and classes of a dataset of whole pictures."""
    if description.task not in (None, "classify"):
        raise DatasetError(
            f"{path} holds folders or tables of classes, which say nothing of places in a picture",
            expected=f"a data.yaml for the task {description.task}",
        )
    found = {
        split: join_sources(_named_classes(source, root, path, split) for source in sources)
        for split, sources in description.splits.items()
    }
    first = next(iter(found.values()))
    names = description.class_names or first.found
    if not names:
        why = f"; {first.problems[0]}" if first.problems else ""
        raise DatasetError(
            f"{path}: `{next(iter(found))}` has no classes{why}", expected="a folder or a label for each class"
        )
    several = description.multi_label or any(source.several for source in found.values())
    return Dataset(
        path,
        names,
        {split: source.images for split, source in found.items()},
        listed={image: place for source in found.values() for image, place in source.listed.items()},
        task="classify",
        multi_label=several,
        classes={split: ClassTable(source, names, several) for split, source in found.items()},
    )


def _named_classes(source: str, root: Path, description: Path, split: str) -> NamedClasses:
    place = root / source
    if place.suffix.lower() == ".csv" and place.is_file():
        return read_class_table(place, root, resolve=_resolve)
    if place.is_dir():
        return read_class_folders(place)
    raise DatasetError(
        f"{description}: `{split}: {source}` leads to {place}, which has no classes of pictures",
        expected="a folder that holds a folder for each class, or a .csv table of path,label",
    )


def _find_images(
    sources: Sequence[str], root: Path, description: Path, split: str, listed: dict[Path, tuple[Path, int]]
) -> tuple[Path, ...]:
    """Return the images of folders and list files, without repeats within a folder, in a fixed order."""
    from ..imaging.images import IMAGE_SUFFIXES

    images: list[Path] = []
    for source in sources:
        place = root / source
        if place.is_dir():
            images += sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif place.suffix.lower() == ".txt" and place.is_file():
            for image, line in _read_list(place, root):
                listed.setdefault(image, (place, line))
                images.append(image)
        else:
            raise DatasetError(
                f"{description}: `{split}: {source}` leads to {place}, which is not there",
                expected="a folder of images, a .txt list of images or a COCO .json",
            )
    return tuple(images)


def _read_list(path: Path, root: Path) -> list[tuple[Path, int]]:
    """Read a list of images: each relative to the list's folder, or else to the root of the dataset."""
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise DatasetError(f"{path} is larger than {_MAX_LIST_BYTES >> 20} MiB", expected="one image path per line")
    entries = []
    for number, line in enumerate(lines_of(decode_text(path.read_bytes())), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        if "\0" in name:
            raise DatasetError(f"{path}:{number}: not a path", expected="one image path per line")
        entries.append((_resolve(name, path.parent, root), number))
    return entries


def _resolve(name: str, folder: Path, root: Path) -> Path:
    """Find an image that a file names: relative to the file's folder, or else to the root of the dataset."""
    image = folder / name
    return image if image.exists() or not (root / name).exists() else root / name


def dataset_digest(paths: Sequence[Path]) -> str:
    """Return one sha256 for a list of images: it changes with their contents and order, not with their places.

    Args:
        paths: The images, for instance those that a calibration used.
    """
    import hashlib

    from ..files import sha256_of

    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()
