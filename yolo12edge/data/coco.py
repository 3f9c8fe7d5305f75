"""COCO's JSON: images, boxes in pixels and categories in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from ..errors import DatasetError
from .labels import OVERSHOOT, Labels, Problem, fit_box

__all__ = ["CocoFile", "read_coco"]

_MAX_BYTES = 4 << 30


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(msgspec.Struct):
    id: int
    name: str


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int
    id: int | str | None = None
    bbox: list[float] | None = None
    iscrowd: bool | int | None = None


class _Content(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A COCO annotation file.

    Attributes:
        path: Where it is.
        class_names: Names of the categories in order of their ids, which is their class index here.
        category_ids: Ids of the categories in the same order.
        image_ids: Id of each image by file name.
        sizes: Width and height of each image by file name, where the file says them.
        objects: By file name: (annotation's name, class index or -1, COCO's bbox) of what is not a crowd.
        unplaced: Problems of annotations that belong to no image of the file.
    """

    path: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: dict[str, int | str]
    sizes: dict[str, tuple[int, int] | None]
    objects: dict[str, list[tuple[str, int, list[float]]]]
    unplaced: tuple[Problem, ...]

    def image_paths(self, folder: Path) -> tuple[Path, ...]:
        """Return the images, in the file's order, as files of a folder."""
        return tuple(folder / name for name in self.sizes)

    def labels_of(self, images: Sequence[Path], *, folder: Path) -> list[Labels]:
        """Return the objects of images.

        Args:
            images: Images of this file, as ``image_paths`` gives them.
            folder: The folder that was given there.

        Raises:
            DatasetError: If an image is not in the file.
        """
        names = {folder / name: name for name in self.sizes}
        unknown = next((image for image in images if image not in names), None)
        if unknown is not None:
            raise DatasetError(f"{unknown} is not an image of {self.path}")
        return [self._labels(image, names[image]) for image in images]

    def _labels(self, image: Path, name: str) -> Labels:
        objects = self.objects.get(name, [])
        if not objects:
            return Labels.build(())
        size = self.sizes[name] or _size_of(image)
        if size is None:
            message = f"the file does not say the size of {name}, nor can it be read from the image"
            return Labels.build((), [Problem("error", self.path, None, message)])
        width, height = size
        problems: list[Problem] = []
        found: dict[tuple[int, tuple[float, ...]], str] = {}
        for title, class_id, (x, y, w, h) in objects:
            place = f"{title} of {name}"
            if class_id < 0:
                problems.append(Problem("error", self.path, None, f"{place}: its category is not in `categories`"))
                continue
            if w <= 0 or h <= 0:  # the official files hold a few of these
                problems.append(Problem("warning", self.path, None, f"{place}: the box has no area; it is left out"))
                continue
            try:
                box, overshoot = fit_box(
                    (x + w / 2) / width,
                    (y + h / 2) / height,
                    w / width,
                    h / height,
                    tolerance=max(OVERSHOOT, 1 / min(width, height)),  # tools round to pixels
                )
            except ValueError as error:
                problems.append(Problem("error", self.path, None, f"{place}: {error}"))
                continue
            if overshoot > OVERSHOOT:
                message = f"{place}: the box reaches {overshoot:.5f} out of the image; it is clipped"
                problems.append(Problem("warning", self.path, None, message))
            first = found.setdefault((class_id, box), title)
            if first != title:
                message = f"{place}: the same object as {first}; it is counted once"
                problems.append(Problem("warning", self.path, None, message))
        return Labels.build(found, problems)


def read_coco(path: Path) -> CocoFile:
    """Read a COCO annotation file; it is kept as long as the file does not change.

    Raises:
        DatasetError: If it is missing, not JSON, not COCO's form, or contradicts itself.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"cannot read the COCO file {path}: {error.strerror}") from error
    if status.st_size > _MAX_BYTES:
        raise DatasetError(f"{path} has {status.st_size} bytes", expected=f"at most {_MAX_BYTES >> 30} GiB")
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, modified: int, size: int) -> CocoFile:
    """Read the file; the other arguments are there to read it again when it changes."""
    expected = "COCO's images, annotations and categories"
    try:
        content = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Content)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path} is not a COCO file: {error}", expected=expected) from error
    categories = sorted(content.categories, key=lambda category: category.id)
    index = {category.id: number for number, category in enumerate(categories)}
    names = tuple(category.name for category in categories)
    if not names or len(index) != len(names) or len(set(names)) != len(names) or not all(map(str.strip, names)):
        raise DatasetError(
            f"{path}: its categories are {names!r:.80}", expected="categories of different ids and names"
        )
    by_id = {image.id: image.file_name for image in content.images}
    sizes: dict[str, tuple[int, int] | None] = {}
    for image in content.images:
        if image.file_name in sizes or not image.file_name or "\0" in image.file_name:
            raise DatasetError(f"{path}: an image is named {image.file_name!r:.80}", expected="a name of its own")
        sizes[image.file_name] = (image.width, image.height) if image.width and image.height else None
        if (image.width or 1) < 0 or (image.height or 1) < 0:
            raise DatasetError(f"{path}: {image.file_name} is {image.width} x {image.height}", expected="a size")
    if len(by_id) != len(sizes):
        raise DatasetError(f"{path}: two images have the same id", expected="an id of its own for each image")
    objects: dict[str, list[tuple[str, int, list[float]]]] = {}
    unplaced: list[Problem] = []
    for number, annotation in enumerate(content.annotations):
        if annotation.iscrowd:
            continue
        title = f"annotation {annotation.id if annotation.id is not None else f'at place {number}'}"
        name = by_id.get(annotation.image_id)
        if name is None:
            message = f"{title}: there is no image {annotation.image_id!r:.40}"
            unplaced.append(Problem("error", path, None, message))
        elif annotation.bbox is None or len(annotation.bbox) != 4:
            message = f"{title} of {name}: its bbox is {annotation.bbox!r:.60}, expected x, y, width, height in pixels"
            unplaced.append(Problem("error", path, None, message))
        else:
            class_id = index.get(annotation.category_id, -1)
            objects.setdefault(name, []).append((title, class_id, annotation.bbox))
    image_ids = {image.file_name: image.id for image in content.images}
    return CocoFile(path, names, tuple(index), image_ids, sizes, objects, tuple(unplaced))


def _size_of(image: Path) -> tuple[int, int] | None:
    """Return width and height from the header of an image, None if it cannot be read."""
    from ..imaging.image_header import read_header

    try:
        header = read_header(image.read_bytes())
    except OSError:
        return None
    return (header.hw[1], header.hw[0]) if header is not None and header.hw is not None else None
