"""Checking a dataset before anything is trained on it: every problem, with its file and line."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DatasetError, InputError
from ..manifest import Task
from .dataset import Dataset, label_path
from .labels import Labels, Problem

__all__ = ["LEAK", "DatasetReport", "Problem", "SplitStatistics", "check_dataset"]

LEAK = "accuracy on an image that was trained on means nothing"
"""What is wrong with an image that is in several splits."""

_SHOWN = 10
_NOT_LABELS = frozenset(("classes.txt", "labels.txt", "notes.txt", "obj.names"))  # annotation tools leave these


@dataclass(frozen=True, slots=True)
class SplitStatistics:
    """What a split holds.

    Attributes:
        images: Number of images.
        background: How many of them have no object.
        boxes: Number of objects of each class, by class index.
        image_sizes: Number of images of each (width, height) in pixels, before any EXIF rotation.
        box_sides: 5 %, 50 % and 95 % quantile of the root of the boxes' areas in pixels; zeros without boxes.
    """

    images: int
    background: int
    boxes: tuple[int, ...]
    image_sizes: dict[tuple[int, int], int]
    box_sides: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """The result of ``check_dataset``.

    Attributes:
        path: Description of the dataset.
        problems: Everything that was found, in the order of splits and images.
        splits: Statistics of each split that was checked.
    """

    path: Path
    problems: tuple[Problem, ...]
    splits: dict[str, SplitStatistics]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What must be repaired before training."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is worth a look; training can go on."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    def raise_for_errors(self) -> None:
        """Do nothing if there is no error.

        Raises:
            DatasetError: With the first errors, one a line, and their number.
        """
        errors = self.errors
        if not errors:
            return
        shown = "".join(f"\n  {problem}" for problem in errors[:_SHOWN])
        more = f"\n  … and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise DatasetError(f"the dataset {self.path} has {count}:{shown}{more}", remedy=self.remedy)

    @property
    def remedy(self) -> str:
        """What to do about the errors: name the task that most labels look like, else repair them."""
        repair = "repair or remove these files and lines"
        likely = Counter(task for problem in self.errors for task in problem.tasks)
        most = max(likely.values(), default=0)
        tasks = [task for task, count in likely.items() if count == most and 2 * most > len(self.errors)]
        if not tasks:
            return repair
        named = " or ".join(tasks)
        say = " or ".join(f"`task: {task}`" for task in tasks)
        return f"if the task is {named}, say so by {say} in data.yaml or by --task; else {repair}"


def check_dataset(
    dataset: Dataset,
    *,
    splits: Sequence[str] = ("train", "val"),
    full: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Look at every image and every label of a dataset.

    Errors are: a split that is missing or empty, an image that is missing, unreadable or cut off, a label line that is
    none of the dataset's task, a class folder without a picture, a split of which no image has a label file, and a
    synthetic picture outside of the training split. Warnings are: a label that reaches out of its image by less than
    0.1 % (it is clipped), an object that is labelled twice (it counts once), an image that is there twice, also where
    one is in the training and the other in the validation split (which makes the measured accuracy too good), label
    files without image or images without label file, classes without an object, and keypoints whose mirror images are
    not known.

    Args:
        dataset: What to check.
        splits: Which splits; each has to be there.
        full: Decode every image instead of reading only its header and its end; many times slower.
        progress: Called with (images done, images in all), from this thread.
    """
    problems: list[Problem] = []
    statistics: dict[str, SplitStatistics] = {}
    wrong: set[str] = set()  # splits whose labels have errors, and so are not all counted
    seen: dict[bytes, tuple[str, Path]] = {}  # digest of an image → split and path where it was first
    total = sum(len(dataset.splits.get(split, ())) for split in splits)
    done = 0
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        for split in splits:
            images = dataset.splits.get(split, ())
            if not images:
                what = "is empty" if split in dataset.splits else "is not there"
                problems.append(Problem("error", dataset.path, None, f"the split `{split}` {what}"))
                continue
            sizes: list[tuple[int, int] | None] = []
            for image, look in zip(images, pool.map(_look_fully if full else _look, images), strict=True):
                sizes.append(look.size)
                problem = look.problem
                if look.digest is not None:
                    twin = seen.get(look.digest)
                    seen.setdefault(look.digest, (split, image))
                    if twin is not None and problem is None:
                        problem = Problem("warning", image, None, _twin_message(image, split, *twin))
                if problem is not None:
                    problems.append(_place(problem, dataset))
                done += 1
                if progress is not None:
                    progress(done, total)
            labels = dataset.labels(split)
            found = _label_problems(dataset, split, images, labels, sizes)
            problems += found
            if any(problem.severity == "error" for problem in found):
                wrong.add(split)
            statistics[split] = _statistics(labels, sizes, len(dataset.class_names))
    problems += _made(dataset, splits)
    problems += _strays(dataset, splits)
    problems += _unused_classes(dataset, statistics, wrong)
    if dataset.keypoints is not None and not dataset.keypoints.flip:
        message = "there is no `flip_idx`, the mirror image of each keypoint: training will not mirror pictures"
        problems.append(Problem("warning", dataset.path, None, message))
    return DatasetReport(dataset.path, tuple(problems), statistics)


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of an image file: (width, height), digest of its bytes, and what is wrong with it."""

    size: tuple[int, int] | None = None
    digest: bytes | None = None
    problem: Problem | None = None


def _look(image: Path) -> _Look:
    from ..imaging.image_header import read_header
    from ..imaging.images import MAX_PIXELS

    try:
        if image.exists() and not image.is_file():  # a list may name a device that never ends
            return _Look(problem=Problem("error", image, None, "the image is not a file"))
        data = image.read_bytes()
    except FileNotFoundError:
        return _Look(problem=Problem("error", image, None, "the image is missing"))
    except OSError as error:
        return _Look(problem=Problem("error", image, None, f"the image cannot be read: {error.strerror}"))
    if not data:
        return _Look(problem=Problem("error", image, None, "the image is empty (0 bytes)"))
    header = read_header(data)
    if header is None or header.hw is None or min(header.hw) < 1 or header.hw[0] * header.hw[1] > MAX_PIXELS:
        return _look_fully(image)  # decoding has the last word, and the better message
    digest = hashlib.sha256(data).digest()
    size = (header.hw[1], header.hw[0])
    if header.problem:
        message = f"the image is damaged: {header.problem}"
        return _Look(size, digest, Problem("error", image, None, message))
    return _Look(size, digest)


def _look_fully(image: Path) -> _Look:
    from ..imaging.images import read_image

    try:
        height, width = read_image(image).shape[:2]
        digest = hashlib.sha256(image.read_bytes()).digest()
    except InputError as error:
        message = "the image is missing" if not image.exists() else error.fact.removeprefix(f"{image} ")
        return _Look(problem=Problem("error", image, None, message))
    except OSError as error:
        return _Look(problem=Problem("error", image, None, f"the image cannot be read: {error.strerror}"))
    return _Look((width, height), digest)


def _twin_message(image: Path, split: str, first_split: str, first: Path) -> str:
    if (image, split) == (first, first_split):
        return f"the image is named more than once in `{split}`"
    if split == first_split:
        return f"the same image as {first}"
    return f"the same image as {first} in `{first_split}`; {LEAK}"


def _place(problem: Problem, dataset: Dataset) -> Problem:
    """Move a problem of an image that a list names to the line of the list, where it can be repaired."""
    if problem.path not in dataset.listed:
        return problem
    path, line = dataset.listed[problem.path]
    return Problem(problem.severity, path, line, f"{problem.path}: {problem.message}")


def _label_problems(
    dataset: Dataset,
    split: str,
    images: Sequence[Path],
    labels: Sequence[Labels],
    sizes: Sequence[tuple[int, int] | None],
) -> list[Problem]:
    problems = [*dataset.unplaced(split), *(problem for entry in labels for problem in entry.problems)]
    if split in dataset.classes:
        return problems
    if split in dataset.coco:
        from .coco import read_coco

        source = dataset.coco[split]
        coco = read_coco(source.annotations, form=dataset.form)
        said = {source.images / name: size for name, size in coco.sizes.items()}
        for image, size in zip(images, sizes, strict=True):
            told = said[image]
            if size is not None and told is not None and sorted(size) != sorted(told):  # either way up is possible
                message = f"{image.name} has {size[0]} x {size[1]} pixels, the file says {told[0]} x {told[1]}"
                problems.append(Problem("error", source.annotations, None, message))
        return problems
    paths = [label_path(image) for image in images]
    missing = [path for path in paths if not path.exists()]
    if len(missing) == len(paths):
        message = f"no image of `{split}` has a label file; the first was looked for at {missing[0]}"
        tasks: tuple[Task, ...] = ()
        folders = sorted({image.parent.name for image in images if image not in dataset.listed})
        if len(folders) > 1:
            message += f"; the images lie in {len(folders)} folders, as those of classes do: {_listing(folders)}"
            tasks = ("classify",)
        problems.append(Problem("error", dataset.path, None, message, tasks))
    elif missing:
        message = f"{len(missing)} of {len(paths)} images of `{split}` have no label file and count as background"
        problems.append(Problem("warning", dataset.path, None, f"{message}: {_some(missing)}"))
    owners = Counter(dict(zip(images, paths, strict=True)).values())
    for path in sorted(path for path, count in owners.items() if count > 1):
        problems.append(Problem("warning", path, None, f"{owners[path]} images share this label file"))
    return problems


def _statistics(labels: Sequence[Labels], sizes: Sequence[tuple[int, int] | None], num_classes: int) -> SplitStatistics:
    counts = np.zeros(num_classes, np.int64)
    sides = [np.zeros(0)]
    for entry, size in zip(labels, sizes, strict=True):
        counts += np.bincount(entry.class_id, minlength=num_classes)
        if size is not None and len(entry.boxes):
            extent = (entry.boxes[:, 2:] - entry.boxes[:, :2]) * np.array(size, np.float32)
            sides.append(np.sqrt(extent.prod(axis=1)))
    side = np.concatenate(sides)
    low, middle, high = np.quantile(side, (0.05, 0.5, 0.95)).tolist() if len(side) else (0.0, 0.0, 0.0)
    return SplitStatistics(
        images=len(labels),
        background=sum(not len(entry.class_id) for entry in labels),
        boxes=tuple(counts.tolist()),
        image_sizes=dict(Counter(size for size in sizes if size is not None)),
        box_sides=(low, middle, high),
    )


def _made(dataset: Dataset, splits: Iterable[str]) -> list[Problem]:
    """Generated pictures in splits that accuracy is measured on."""
    problems = []
    for split in splits:
        made = [image for image in dataset.splits.get(split, ()) if image in dataset.synthetic]
        if made and split != "train":
            message = f"{len(made)} images of `{split}` are synthetic; accuracy on them says little of real ones"
            problems.append(Problem("error", dataset.path, None, f"{message}: {_some(made)}"))
    return problems


def _strays(dataset: Dataset, splits: Iterable[str]) -> list[Problem]:
    """Label files that no image of any split belongs to, in the folders of splits that are folders."""
    if dataset.classes:
        return []
    expected = {label_path(image) for images in dataset.splits.values() for image in images}
    folders = {
        label_path(image).parent
        for split in splits
        if split not in dataset.coco
        for image in dataset.splits.get(split, ())
        if image not in dataset.listed
    }
    lists = {path for path, _ in dataset.listed.values()}
    problems = []
    for folder in sorted(folders):
        if not folder.is_dir():
            continue
        found = (path for path in folder.iterdir() if path.suffix == ".txt" and path.name not in _NOT_LABELS)
        strays = sorted(path for path in found if path not in expected and path not in lists)
        if strays:
            message = f"{len(strays)} label files belong to no image of the dataset: {_some(strays)}"
            problems.append(Problem("warning", folder, None, message))
    return problems


def _unused_classes(dataset: Dataset, statistics: dict[str, SplitStatistics], wrong: set[str]) -> list[Problem]:
    problems = []
    for split, entry in statistics.items():
        if split in wrong:
            continue
        unused = [name for name, count in zip(dataset.class_names, entry.boxes, strict=True) if not count]
        if unused:
            message = f"`{split}` has no object of {_out_of(unused, entry.boxes)}: {_listing(unused)}"
            problems.append(Problem("warning", dataset.path, None, message))
    return problems


def _out_of(some: Sequence[object], every: Sequence[object]) -> str:
    return f"{len(some)} of {len(every)} classes" if len(every) > 1 else "its only class"


def _some(paths: Sequence[Path]) -> str:
    return _listing([path.name for path in paths])


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
