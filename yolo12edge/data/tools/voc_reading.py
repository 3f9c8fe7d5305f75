"""Reading Pascal VOC: an XML file an image, with boxes in pixels that count from 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DatasetError, InputError
from ..dataset import Sample
from ..label_form import CocoObject, NoAreaError
from ..labels import Labels, decode_text, lines_of
from .collection import Collection
from .xml_tree import Element, read_xml

__all__ = ["is_voc", "read_voc"]

_SPLITS = ("train", "val", "test")
_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_MOST_SHOWN = 10
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class _Annotated:
    """An annotation file: its image, width and height, and (name, xmin, ymin, xmax, ymax as written, difficult)."""

    path: Path
    image: Path
    size: tuple[int, int]
    objects: tuple[tuple[str, tuple[float, ...], bool], ...]


def is_voc(folder: Path) -> bool:
    """Tell whether a folder holds annotations of VOC's form: ``Annotations``, or XML files beside the images."""
    if not folder.is_dir() or (folder / "data.yaml").exists():
        return False
    return any(next(place.glob("*.xml"), None) is not None for place in _places(folder))


def _places(folder: Path) -> Iterator[Path]:
    yield folder / "Annotations"
    yield folder
    yield from (folder / name for name in _FOLDERS)


def read_voc(folder: Path) -> Collection:
    """Read a folder of Pascal VOC.

    Known are ``Annotations`` with ``JPEGImages`` (or ``images``) and the lists ``ImageSets/Main/train.txt``,
    ``val.txt`` and ``test.txt`` (without lists all is ``train``), and XML files beside their images, in the folder or
    in its folders ``train``, ``valid`` or ``val``, and ``test``. Classes are the names that occur, sorted.

    VOC counts pixels from 1, and the last pixel belongs to the box. Where a corner is 0 anywhere in the folder, all of
    it was written by a tool that counts from 0, and corners are taken as they are.

    Raises:
        DatasetError: If an annotation is wrong; the message names the first files.
    """
    problems: list[str] = []
    found: dict[str, list[_Annotated]] = {}
    for split, paths in _annotations(folder).items():
        for path in paths:
            try:
                found.setdefault(split, []).append(_read(path, folder))
            except DatasetError as error:
                problems.append(str(error))
    names = sorted({name for several in found.values() for one in several for name, _, _ in one.objects})
    everything = [entry for several in found.values() for one in several for entry in one.objects]
    if not problems and not names:
        raise DatasetError(f"{folder} has no object in its annotations", expected="a folder of Pascal VOC")
    from_zero = any(min(corners[:2]) < 1 for _, corners, _ in everything)
    index = {name: number for number, name in enumerate(names)}
    splits: dict[str, list[Sample]] = {}
    flat = 0
    for split, several in found.items():
        splits[split] = []
        for one in several:
            labels, thin = _labels(one, index, 0 if from_zero else 1, problems)
            flat += thin
            splits[split].append(Sample(one.image, labels.class_id, labels.boxes))
    if problems:
        more = f"\n  … and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
        shown = "".join(f"\n  {problem}" for problem in problems[:_MOST_SHOWN])
        raise DatasetError(
            f"{folder} has {len(problems)} wrong annotations:{shown}{more}", remedy="repair or remove them"
        )
    notes = []
    if from_zero:
        notes.append("some corners are 0: they are read as counted from 0, not from 1 as VOC does")
    if flat:
        notes.append(f"{flat} objects have no area and are left out")
    if difficult := sum(hard for _, _, hard in everything):
        notes.append(f"{difficult} objects are marked as difficult; they are objects like the others here")
    return Collection(tuple(names), splits, notes=tuple(notes))


def _annotations(folder: Path) -> dict[str, list[Path]]:
    """Return the annotation files of each split."""
    place = folder / "Annotations"
    if place.is_dir():
        lists = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in _SPLITS}
        listed = {split: _listed(path, place) for split, path in lists.items() if path.is_file()}
        return listed or {"train": sorted(place.glob("*.xml"))}
    found: dict[str, list[Path]] = {}
    for name, split in _FOLDERS.items():
        if paths := sorted((folder / name).glob("*.xml")):
            found.setdefault(split, []).extend(paths)
    return found or {"train": sorted(folder.glob("*.xml"))}


def _listed(path: Path, place: Path) -> list[Path]:
    names = [line.split()[0] for line in lines_of(decode_text(path.read_bytes())) if line.split()]
    wrong = next((name for name in names if name != Path(name).name or "\0" in name), None)
    if wrong is not None:
        raise DatasetError(
            f"{path}: {wrong!r:.60} is not the name of an image", expected="a name a line, without suffix"
        )
    return [place / f"{name}.xml" for name in names]


def _read(path: Path, folder: Path) -> _Annotated:
    root = read_xml(path)
    if root.name != "annotation":
        raise DatasetError(f"{path}: the document is <{root.name}>", expected="<annotation>, as VOC has it")
    image = _image_of(root, path, folder)
    size = tuple(_whole(root.value("size", side)) for side in ("width", "height"))
    if min(size) < 1:
        size = _size_of(image)
    objects = []
    for number, entry in enumerate(root.all("object"), start=1):
        name = entry.value("name")
        try:
            corners = tuple(float(entry.value("bndbox", key)) for key in _CORNERS)
        except ValueError:
            corners = (math.nan,)
        if not name or not all(map(math.isfinite, corners)):
            what = "has no name" if not name else f"has no bndbox of {', '.join(_CORNERS)}"
            raise DatasetError(f"{path}: object {number} {what}")
        objects.append((name, corners, entry.value("difficult") == "1"))
    return _Annotated(path, image, (size[0], size[1]), tuple(objects))


def _image_of(root: Element, path: Path, folder: Path) -> Path:
    """Find the image: by its file name, or the annotation's, in the folders where images are."""
    from ...imaging.images import IMAGE_SUFFIXES

    name = root.value("filename")
    names = [name] if name and name == Path(name).name and "\0" not in name else []
    names += [f"{path.stem}{suffix}" for suffix in (".jpg", *sorted(IMAGE_SUFFIXES))]
    for place in (folder / "JPEGImages", folder / "images", path.parent):
        for candidate in names:
            if (place / candidate).is_file():
                return (place / candidate).absolute()
    raise DatasetError(f"{path}: its image {names[0]!r:.80} is not there", expected=f"in {folder / 'JPEGImages'}")


def _size_of(image: Path) -> tuple[int, int]:
    from ...imaging.images import read_image

    try:
        height, width = read_image(image).shape[:2]
    except InputError as error:
        raise DatasetError(str(error)) from error
    return width, height


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def _labels(one: _Annotated, index: dict[str, int], first: int, problems: list[str]) -> tuple[Labels, int]:
    """Return the objects, and how many have no area."""
    shapes, flat = [], 0
    for number, (name, (left, top, right, bottom), _) in enumerate(one.objects, start=1):
        about = CocoObject(
            (left - first, top - first, right - left + first, bottom - top + first), None, None, one.size
        )
        try:
            shapes.append((index[name], about.box()))
        except NoAreaError:
            flat += 1
        except ValueError as error:
            problems.append(f"{one.path}: object {number}, {name!r:.40}: {error}")
    return Labels.build(shapes), flat
