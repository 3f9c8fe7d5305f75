"""Classes of whole pictures: a folder a class, or a CSV table of ``path,label``, or ``path,label1|label2``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DatasetError
from .form_classify import FORM, WHOLE
from .labels import Labels, Problem, decode_text, lines_of

__all__ = ["ClassTable", "NamedClasses", "has_class_folders", "read_class_folders", "read_class_table"]

_MAX_BYTES = 256 << 20
_HEADERS = frozenset(("path", "image", "images", "file", "filename", "file_name"))


@dataclass(frozen=True, slots=True)
class NamedClasses:
    """The pictures of a split and what they are said to be, by name; the names are not yet compared with a dataset's.

    Attributes:
        names: Names of the classes of each picture, in the source's order of pictures.
        places: For each picture the file, and the line in it, that a problem of its classes has to name.
        found: All classes of this source, sorted; also those without a picture.
        problems: What is wrong with the source itself.
        listed: For a picture that a table names: the table and the line.
    """

    names: Mapping[Path, tuple[str, ...]]
    places: Mapping[Path, tuple[Path, int | None]]
    found: tuple[str, ...]
    problems: tuple[Problem, ...]
    listed: Mapping[Path, tuple[Path, int]] = field(default_factory=dict)

    @property
    def images(self) -> tuple[Path, ...]:
        """The pictures."""
        return tuple(self.names)

    @property
    def several(self) -> bool:
        """Whether a picture has more than one class."""
        return any(len(names) > 1 for names in self.names.values())


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes of the pictures of a split, as indices of a dataset's names.

    Attributes:
        source: Where they are from.
        class_names: Names by class index.
        multi_label: Whether a picture may have several classes, or none.
    """

    source: NamedClasses
    class_names: tuple[str, ...]
    multi_label: bool

    @property
    def unplaced(self) -> tuple[Problem, ...]:
        """Problems that belong to none of the pictures."""
        return self.source.problems

    def labels_of(self, images: Sequence[Path]) -> list[Labels]:
        """Return the classes of pictures.

        Raises:
            DatasetError: If a picture is not in the source.
        """
        index = {name: number for number, name in enumerate(self.class_names)}
        return [self._labels(image, index) for image in images]

    def _labels(self, image: Path, index: Mapping[str, int]) -> Labels:
        if image not in self.source.names:
            raise DatasetError(f"{image} is not one of the labelled pictures of this split")
        names, (path, line) = self.source.names[image], self.source.places[image]
        problems = [
            Problem(
                "error", path, line, f"{image.name}: {name!r:.60} is none of the classes {_listing(self.class_names)}"
            )
            for name in names
            if name not in index
        ]
        if not names and not self.multi_label:
            problems.append(Problem("error", path, line, f"{image.name} has no class"))
        known = sorted(index[name] for name in names if name in index)
        return Labels.build(((number, WHOLE) for number in known), problems, form=FORM)


def has_class_folders(folder: Path) -> bool:
    """Tell whether a folder holds folders, as one of a split with a folder a class does, and not images and labels."""
    folders = {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()
    return bool(folders) and not folders <= {"images", "labels"}


def read_class_folders(folder: Path) -> NamedClasses:
    """Read a folder that holds a folder of pictures for each class."""
    from ..imaging.images import IMAGE_SUFFIXES

    names: dict[Path, tuple[str, ...]] = {}
    places: dict[Path, tuple[Path, int | None]] = {}
    problems: list[Problem] = []
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for entry in classes:
        images = sorted(p for p in entry.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not images:
            problems.append(
                Problem("error", entry, None, f"the class {entry.name!r} has no picture: its folder is empty")
            )
        names |= dict.fromkeys(images, (entry.name,))
        places |= dict.fromkeys(images, (entry, None))
    loose = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if loose:
        message = f"{len(loose)} pictures lie in no class folder and are left out: {_listing(loose)}"
        problems.append(Problem("warning", folder, None, message))
    return NamedClasses(names, places, tuple(entry.name for entry in classes), tuple(problems))


def read_class_table(path: Path, root: Path, *, resolve: Callable[[str, Path, Path], Path]) -> NamedClasses:
    """Read a CSV table of pictures and their classes.

    Args:
        path: The table. Its first row may name the columns.
        root: Root of the dataset.
        resolve: Finds a picture that a file names, from its name, the file's folder and the root.

    Raises:
        DatasetError: If it is too large or no CSV.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise DatasetError(f"{path} is larger than {_MAX_BYTES >> 20} MiB", expected="one picture a line: path,label")
    reader = csv.reader(lines_of(decode_text(path.read_bytes())))
    names: dict[Path, tuple[str, ...]] = {}
    places: dict[Path, tuple[Path, int | None]] = {}
    listed: dict[Path, tuple[Path, int]] = {}
    problems: list[Problem] = []
    try:
        for row in reader:
            line = reader.line_num
            cells = [cell.strip() for cell in row]
            if not any(cells) or (not listed and not problems and cells[0].lower() in _HEADERS):
                continue
            if len(cells) != 2 or not cells[0] or "\0" in row[0]:
                message = f"{len(cells)} columns, {row!r:.60}; expected 2: path,label (several labels with | between)"
                separator = next((sign for sign in ";\t" if len(cells) == 1 and row[0].count(sign) == 1), None)
                if separator is not None:
                    named = "a semicolon" if separator == ";" else "a tab"
                    message = f"the columns of {row[0]!r:.60} are separated by {named}; expected a comma: path,label"
                problems.append(Problem("error", path, line, message))
                continue
            image = resolve(cells[0], path.parent, root)
            if image in listed:
                problems.append(Problem("error", path, line, f"{cells[0]} is in line {listed[image][1]} already"))
                continue
            labels = [label.strip() for label in cells[1].split("|")] if cells[1] else []
            if not all(labels) or len(set(labels)) != len(labels):
                what = "names a class twice" if all(labels) else "holds an empty label"
                problems.append(Problem("error", path, line, f"{cells[1]!r:.60} {what}"))
                labels = [label for label in dict.fromkeys(labels) if label]
            names[image], places[image], listed[image] = tuple(labels), (path, line), (path, line)
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.line_num}: not CSV: {error}", expected="path,label") from error
    found = sorted({label for labels in names.values() for label in labels})
    return NamedClasses(names, places, tuple(found), tuple(problems), listed)


def join_sources(sources: Iterable[NamedClasses]) -> NamedClasses:
    """Put the sources of one split together."""
    parts = list(sources)
    return NamedClasses(
        {image: names for part in parts for image, names in part.names.items()},
        {image: place for part in parts for image, place in part.places.items()},
        tuple(sorted({name for part in parts for name in part.found})),
        tuple(problem for part in parts for problem in part.problems),
        {image: place for part in parts for image, place in part.listed.items()},
    )


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
