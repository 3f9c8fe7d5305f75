"""Datasets over the pictures of another one: a description and lists, tables or COCO files; no picture is moved.

Lists name pictures relative to their own folder, so that both datasets can be moved together.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ...errors import DatasetError
from ...keypoints import KeypointSpec
from ...manifest import Task
from ..dataset import Dataset
from .copies import Place

__all__ = ["Choice", "description_text", "relative_name", "write_subset"]

Choice = Mapping[str, Sequence[Place]]
"""The pictures of each new split, by where they are in the old dataset."""


def write_subset(dataset: Dataset, choice: Choice, folder: Path, *, home: Path | None = None) -> Path:
    """Write a dataset of some pictures of another one.

    Args:
        dataset: The other one.
        choice: Which pictures each split has; splits without one are left out.
        folder: Where to write; it has to be there.
        home: Where it will lie, if it is moved afterwards.

    Returns:
        The description that was written, ``data.yaml``.

    Raises:
        DatasetError: If label files and COCO files would have to be mixed, or a name cannot stand in a list.
    """
    home = (home or folder).resolve()
    sources: dict[str, str] = {}
    for split, places in choice.items():
        if not places:
            continue
        write = _writer(dataset, places)
        sources[split] = f"{split}.{write[0]}"
        (folder / sources[split]).write_text(write[1](dataset, places, home), encoding="utf-8")
    made = sorted({place.path for places in choice.values() for place in places if place.path in dataset.synthetic})
    if made:
        sources["synthetic"] = "synthetic.txt"
        (folder / "synthetic.txt").write_text(_lines(made, home), encoding="utf-8")
    text = description_text(
        dataset.class_names, sources, task=dataset.task, keypoints=dataset.keypoints, multi_label=dataset.multi_label
    )
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder / "data.yaml"


def description_text(
    class_names: Sequence[str],
    sources: Mapping[str, Any],
    *,
    task: Task,
    keypoints: KeypointSpec | None = None,
    multi_label: bool = False,
) -> str:
    """Return the text of a ``data.yaml``.

    Args:
        class_names: By class index.
        sources: Of each split, and further keys.
        task: What the labels are for.
        keypoints: Which keypoints an object has, if it has any.
        multi_label: Whether a picture may have several classes.
    """
    content: dict[str, Any] = {"task": task, **sources}
    if multi_label:
        content["multi_label"] = True
    if keypoints is not None:
        named = {"kpt_names": keypoints.names, "flip_idx": keypoints.flip, "skeleton": [*map(list, keypoints.skeleton)]}
        content["kpt_shape"] = [keypoints.count, keypoints.dimensions]
        content |= {key: value for key, value in named.items() if value}
    content["names"] = dict(enumerate(class_names))
    # Nothing refers to anything else: our reader takes no aliases.
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    text: str = yaml.dump(
        content, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
    )
    return text


def relative_name(path: Path, folder: Path) -> str:
    """Return how a file in ``folder`` names a path: relative, or absolute where there is no way from one to the other.

    Args:
        path: Absolute.
        folder: Absolute, without links: ``..`` leaves the folder that is really there.
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def _writer(dataset: Dataset, places: Sequence[Place]) -> tuple[str, Callable[[Dataset, Sequence[Place], Path], str]]:
    """Return suffix and writer of what says which pictures a split has."""
    if dataset.form.whole:
        return "csv", _table
    in_coco = {place.split in dataset.coco for place in places}
    if len(in_coco) > 1:
        raise DatasetError(
            f"{dataset.path}: some splits have a COCO file and others have label files, which one split cannot mix",
            remedy="convert the dataset first: yolo12edge data convert DATA OUT --to yolo",
        )
    return ("json", _coco) if in_coco.pop() else ("txt", lambda _, some, home: _lines([p.path for p in some], home))


def _lines(paths: Sequence[Path], home: Path) -> str:
    return "".join(f"{_listed(path, home)}\n" for path in paths)


def _listed(path: Path, home: Path) -> str:
    name = relative_name(path, home)
    name = f"./{name}" if name.startswith("#") else name
    if name != name.strip() or "\n" in name or "\r" in name:
        raise DatasetError(f"the name of {str(path)!r} cannot stand in a list", remedy="rename the picture")
    return name


def _table(dataset: Dataset, places: Sequence[Place], home: Path) -> str:
    if any("|" in name for name in dataset.class_names):
        raise DatasetError(f"a class of {dataset.path} has a | in its name", remedy="rename the class")
    labels = {split: dataset.labels(split) for split in {place.split for place in places}}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label"))
    for place in places:
        names = (dataset.class_names[i] for i in labels[place.split][place.index].class_id.tolist())
        table.writerow((_listed(place.path, home), "|".join(names)))
    return text.getvalue()


def _coco(dataset: Dataset, places: Sequence[Place], home: Path) -> str:
    """Copy what COCO files say of pictures, word for word but for ids and file names."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    for split in dict.fromkeys(place.split for place in places):
        source = dataset.coco[split]
        content: dict[str, Any] = msgspec.json.decode(source.annotations.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        own = sorted(content["categories"], key=lambda category: category["id"])
        categories = categories or own  # the same names in the same order in all files of a dataset
        ids = {old["id"]: new["id"] for old, new in zip(own, categories, strict=True)}
        entries = {source.images / image["file_name"]: image for image in content["images"]}
        of_image: dict[Any, list[dict[str, Any]]] = {}
        for annotation in content.get("annotations", ()):
            of_image.setdefault(annotation["image_id"], []).append(annotation)
        for place in places:
            if place.split != split:
                continue
            entry = entries[place.path]
            number = len(images) + 1
            images.append({**entry, "id": number, "file_name": relative_name(place.path, home)})
            for annotation in of_image.get(entry["id"], ()):
                category = ids.get(annotation["category_id"], annotation["category_id"])
                moved = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append({**annotation, **moved})
    return msgspec.json.encode({"images": images, "categories": categories, "annotations": annotations}).decode()
