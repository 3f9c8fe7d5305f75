"""COCO's JSON: images, categories and, in pixels, boxes, polygons and keypoints in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from ..errors import DatasetError, InputError
from ..keypoints import KeypointSpec
from .form_detect import FORM as BOXES
from .label_form import CocoObject, LabelForm, NoAreaError, Shape
from .labels import OVERSHOOT, Labels, Problem

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
    keypoints: list[str] | None = None
    skeleton: list[list[int]] | None = None


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int
    id: int | str | None = None
    bbox: list[float] | None = None
    iscrowd: bool | int | None = None


class _Shaped(_Annotation):
    segmentation: Any = None
    keypoints: list[float] | None = None


class _Content(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: Sequence[_Annotation] = []


class _ShapedContent(_Content):
    annotations: Sequence[_Shaped] = []


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A COCO annotation file.

    Attributes:
        path: Where it is.
        class_names: Names of the categories in order of their ids, which is their class index here.
        category_ids: Ids of the categories in the same order.
        image_ids: Id of each image by file name.
        sizes: Width and height of each image by file name, where the file says them.
        objects: By file name: (annotation's name, class index or -1, the annotation) of what is not a crowd.
        unplaced: Problems of annotations that belong to no image of the file.
        keypoints: Which keypoints the categories have; None if they have none, or not all the same.
    """

    path: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: dict[str, int | str]
    sizes: dict[str, tuple[int, int] | None]
    objects: dict[str, list[tuple[str, int, _Annotation]]]
    unplaced: tuple[Problem, ...]
    keypoints: KeypointSpec | None = None

    def image_paths(self, folder: Path) -> tuple[Path, ...]:
        """Return the images, in the file's order, as files of a folder."""
        return tuple(folder / name for name in self.sizes)

    def labels_of(
        self,
        images: Sequence[Path],
        *,
        folder: Path,
        form: LabelForm = BOXES,
        keypoints: KeypointSpec | None = None,
    ) -> list[Labels]:
        """Return the objects of images.

        Args:
            images: Images of this file, as ``image_paths`` gives them.
            folder: The folder that was given there.
            form: What is wanted of each annotation.
            keypoints: Which keypoints an object has, if they are wanted.

        Raises:
            DatasetError: If an image is not in the file.
        """
        names = {folder / name: name for name in self.sizes}
        unknown = next((image for image in images if image not in names), None)
        if unknown is not None:
            raise DatasetError(f"{unknown} is not an image of {self.path}")
        return [self._labels(image, names[image], form, keypoints) for image in images]

    def _labels(self, image: Path, name: str, form: LabelForm, keypoints: KeypointSpec | None) -> Labels:
        problems: list[Problem] = []
        found: list[tuple[int, Shape]] = []
        titles: dict[tuple[Any, ...], str] = {}
        objects = self.objects.get(name, [])
        size = (self.sizes[name] or _size_of(image)) if objects else None
        if objects and size is None:
            message = f"the file does not say the size of {name}, nor can it be read from the image"
            problems.append(Problem("error", self.path, None, message))
        for title, class_id, annotation in objects if size is not None else ():
            place = f"{title} of {name}"
            if class_id < 0:
                problems.append(Problem("error", self.path, None, f"{place}: its category is not in `categories`"))
                continue
            assert size is not None
            shaped = annotation if isinstance(annotation, _Shaped) else _Shaped(image_id=0, category_id=0)
            about = CocoObject(annotation.bbox, shaped.segmentation, shaped.keypoints, size)
            try:
                shape = form.of_coco(about, keypoints)
            except NoAreaError as error:  # the official files hold a few of these
                problems.append(Problem("warning", self.path, None, f"{place}: {error}; it is left out"))
                continue
            except ValueError as error:
                problems.append(Problem("error", self.path, None, f"{place}: {error}"))
                continue
            if shape.overshoot > OVERSHOOT:
                message = f"{place}: {form.noun} reaches {shape.overshoot:.5f} out of the image; it is clipped"
                problems.append(Problem("warning", self.path, None, message))
            first = titles.setdefault((class_id, shape.key), title)
            if first == title:
                found.append((class_id, shape))
            else:
                message = f"{place}: the same object as {first}; it is counted once"
                problems.append(Problem("warning", self.path, None, message))
        return Labels.build(found, problems, form=form, keypoints=keypoints)


def read_coco(path: Path, *, form: LabelForm = BOXES) -> CocoFile:
    """Read a COCO annotation file; it is kept as long as the file does not change.

    Args:
        path: The JSON file.
        form: What will be wanted of it: polygons and keypoints are kept only for the tasks that have them.

    Raises:
        DatasetError: If it is missing, not JSON, not COCO's form, or contradicts itself.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"cannot read the COCO file {path}: {error.strerror}") from error
    if status.st_size > _MAX_BYTES:
        raise DatasetError(f"{path} has {status.st_size} bytes", expected=f"at most {_MAX_BYTES >> 30} GiB")
    return _read(path, status.st_mtime_ns, status.st_size, form.field is not None)


@lru_cache(maxsize=4)
def _read(path: Path, modified: int, size: int, shaped: bool) -> CocoFile:
    """Read the file; time and size are there to read it again when it changes."""
    expected = "COCO's images, annotations and categories"
    kind: type[_Content] = _ShapedContent if shaped else _Content
    try:
        content = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=kind)
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
    objects: dict[str, list[tuple[str, int, _Annotation]]] = {}
    unplaced: list[Problem] = []
    for number, annotation in enumerate(content.annotations):
        if annotation.iscrowd:
            continue
        title = f"annotation {annotation.id if annotation.id is not None else f'at place {number}'}"
        name = by_id.get(annotation.image_id)
        if name is None:
            message = f"{title}: there is no image {annotation.image_id!r:.40}"
            unplaced.append(Problem("error", path, None, message))
        else:
            class_id = index.get(annotation.category_id, -1)
            objects.setdefault(name, []).append((title, class_id, annotation))
    image_ids = {image.file_name: image.id for image in content.images}
    return CocoFile(path, names, tuple(index), image_ids, sizes, objects, tuple(unplaced), _keypoints(categories, path))


def _keypoints(categories: Sequence[_Category], path: Path) -> KeypointSpec | None:
    """Return the keypoints that all categories have; COCO counts those of the skeleton from 1."""
    first = categories[0]
    if not first.keypoints or any(category.keypoints != first.keypoints for category in categories):
        return None
    pairs = [[point - 1 for point in pair] for pair in first.skeleton or ()]
    try:
        about = {"count": len(first.keypoints), "names": first.keypoints, "skeleton": pairs}
        return msgspec.convert(about, KeypointSpec).completed()
    except (msgspec.ValidationError, InputError) as error:
        raise DatasetError(f"{path}: the keypoints of its categories: {error}") from error


def _size_of(image: Path) -> tuple[int, int] | None:
    """Return width and height from the header of an image, None if it cannot be read."""
    from ..imaging.image_header import read_header

    try:
        header = read_header(image.read_bytes())
    except OSError:
        return None
    return (header.hw[1], header.hw[0]) if header is not None and header.hw is not None else None
