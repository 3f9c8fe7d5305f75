"""The text of a ``data.yaml``, checked before anything else is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from ..errors import DatasetError, InputError
from ..keypoints import KeypointSpec
from ..manifest import TASKS, Task
from .labels import decode_text

__all__ = ["Description", "read_description"]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 16
_POINT_KEYS = ("kpt_shape", "kpt_names", "flip_idx", "skeleton")
_KEYS = ("path", "train", "val", "test", "names", "images", "task", "multi_label", "synthetic", *_POINT_KEYS)
_ALIKE = 0.85  # of a key's letters: other keys are for other programs, and are theirs to read
_EMPTY = ("", "~", "null", "Null", "NULL")  # what `test:` without a value may look like


@dataclass(frozen=True, slots=True)
class Description:
    """What a ``data.yaml`` says.

    Attributes:
        root: Root of the dataset as written, relative to the file unless absolute.
        class_names: Names by class index; empty if a COCO file has to say them.
        splits: Sources of each split as written: folders, list files or one COCO file.
        images: Folder of the images of each split, for COCO files.
        task: What the labels are for, if it says so.
        keypoints: The keypoints of an object, if it says so.
        multi_label: Whether a picture may have several classes; of classification.
        synthetic: Folders and list files, as written, of the pictures that were made and not taken.
    """

    root: str
    class_names: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    images: dict[str, str] = field(default_factory=dict)
    task: Task | None = None
    keypoints: KeypointSpec | None = None
    multi_label: bool = False
    synthetic: tuple[str, ...] = ()


def read_description(path: Path) -> Description:
    """Read a ``data.yaml``.

    Raises:
        DatasetError: If it is missing, not YAML, too large or does not say what a dataset must say.
    """
    content = _load_yaml(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path} is not a dataset description", expected="a mapping with names, train and val")
    _refuse_misspelt(content, path)
    splits = {split: given for split in ("train", "val", "test") if (given := _paths(content, split, path))}
    if not splits:
        raise DatasetError(f"{path} names no images", expected="`train:` and `val:` with folders or lists of images")
    root = content.get("path", "")
    if not isinstance(root, str) or "\0" in root:
        raise DatasetError(f"{path}: `path` is {root!r:.80}", expected="one folder")
    root = "" if root in _EMPTY else root
    return Description(
        root,
        _class_names(content, path),
        splits,
        _image_folders(content, splits, path),
        _task(content, path),
        _keypoints(content, path),
        _flag(content, "multi_label", path),
        _paths(content, "synthetic", path),
    )


def _refuse_misspelt(content: dict[str, Any], path: Path) -> None:
    """Refuse a key that is nearly one of ours where ours is not: it would be passed over without a word."""
    for key in content:
        meant = get_close_matches(str(key), _KEYS, n=1, cutoff=_ALIKE)
        if meant and key not in _KEYS and meant[0] not in content:
            raise DatasetError(
                f"{path}: there is a key `{key}`, which nothing reads",
                expected=f"`{meant[0]}`, if that is meant",
                remedy="rename it, or remove it",
            )


def _paths(content: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """Read a path or a list of paths; none where the key is not there or empty."""
    value = content.get(key, "")
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, str) and "\0" not in source for source in sources):
        raise DatasetError(f"{path}: `{key}` is {value!r:.80}", expected="a path or a list of paths")
    return tuple(source for source in sources if source not in _EMPTY)


def _task(content: dict[str, Any], path: Path) -> Task | None:
    task = content.get("task", "")
    if task in _EMPTY:
        return None
    if task not in TASKS:
        raise DatasetError(f"{path}: `task` is {task!r:.80}", expected=f"one of {', '.join(TASKS)}")
    return cast("Task", task)


def _flag(content: dict[str, Any], key: str, path: Path) -> bool:
    value = content.get(key, "")
    if value in _EMPTY or str(value).lower() == "false":
        return False
    if str(value).lower() != "true":
        raise DatasetError(f"{path}: `{key}` is {value!r:.80}", expected="true or false")
    return True


def _keypoints(content: dict[str, Any], path: Path) -> KeypointSpec | None:
    """Read `kpt_shape`, and with it `kpt_names`, `flip_idx` and `skeleton`; points count from 0."""
    import msgspec

    given = {key: value for key, value in content.items() if key in _POINT_KEYS and value not in _EMPTY}
    if not given:
        return None
    shape = given.get("kpt_shape")
    if not isinstance(shape, list) or len(shape) != 2:
        shown = "is missing" if shape is None else f"is {shape!r:.80}"
        raise DatasetError(
            f"{path}: `kpt_shape` {shown}", expected="[number of keypoints, 3], or 2 without a visibility"
        )
    names = given.get("kpt_names", [])
    if isinstance(names, dict) and len(names) == 1:  # names by class, which all have the same
        names = next(iter(names.values()))
    if shape[1] not in ("2", "3", 2, 3):
        raise DatasetError(
            f"{path}: `kpt_shape` is {shape!r:.80}", expected="[number of keypoints, 3], or 2 without a visibility"
        )
    about = {
        "count": shape[0],
        "dimensions": shape[1],
        "names": names,
        "flip": given.get("flip_idx", []),
        "skeleton": given.get("skeleton", []),
    }
    try:
        for key in ("count", "dimensions"):
            about[key] = int(about[key])
        return msgspec.convert(about, KeypointSpec, strict=False).completed()  # numbers are text here
    except InputError as error:
        listed = ", ".join(f"`{key}`" for key in given)
        raise DatasetError(f"{path}: {listed}: {error.fact}", expected=error.expected, remedy=error.remedy) from error
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        listed = ", ".join(f"`{key}`" for key in given)
        raise DatasetError(
            f"{path}: {listed}: {error}", expected="`kpt_shape: [17, 3]`, and lists that fit it"
        ) from error


def _class_names(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    names, count = content.get("names", ""), content.get("nc", "")
    if isinstance(names, dict):
        try:
            by_index = {int(index): name for index, name in names.items()}
        except (ValueError, TypeError):
            by_index = {}
        if sorted(by_index) != list(range(len(names))):
            raise DatasetError(
                f"{path}: the keys of `names` are {list(names)!r:.80}", expected="0, 1, 2 … without a gap"
            )
        names = [by_index[index] for index in range(len(names))]
    elif not isinstance(names, list):
        if names not in _EMPTY:
            raise DatasetError(f"{path}: `names` is {names!r:.80}", expected="a list of names, or a mapping from 0")
        names = []
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise DatasetError(f"{path}: a class has no name", expected="text for each class of `names`")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DatasetError(f"{path}: more than one class is named {', '.join(twice)}", expected="different names")
    if names and count not in _EMPTY and str(count).strip() != str(len(names)):
        raise DatasetError(f"{path}: `nc` is {count!r:.80} but there are {len(names)} names", remedy="remove `nc`")
    return tuple(names)


def _image_folders(content: dict[str, Any], splits: dict[str, tuple[str, ...]], path: Path) -> dict[str, str]:
    folders = content.get("images", {})
    if isinstance(folders, str):
        folders = {} if folders in _EMPTY else dict.fromkeys(splits, folders)
    if not isinstance(folders, dict) or not all(isinstance(v, str) and "\0" not in v for v in folders.values()):
        raise DatasetError(f"{path}: `images` is {folders!r:.80}", expected="a folder, or one folder for each split")
    return {split: folder for split, folder in folders.items() if split in splits}


def _load_yaml(path: Path) -> Any:
    """Load YAML in which every scalar stays text: a class named ``no`` or ``1e3`` keeps its name."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _MAX_BYTES else b""
    except OSError as error:
        raise DatasetError(
            f"cannot read the dataset description {path}: {error.strerror}",
            expected="a data.yaml with names, train and val",
        ) from error
    if size > _MAX_BYTES:
        raise DatasetError(
            f"{path} has {size} bytes and is no dataset description",
            expected=f"a data.yaml of at most {_MAX_BYTES >> 20} MiB, or a folder",
        )
    if path.suffix.lower() == ".json":
        raise DatasetError(
            f"{path} is a JSON file, not a dataset description",
            remedy="write a data.yaml with 'train: FILE.json', 'val: FILE.json' and 'images: FOLDER'",
        )
    return _parse_yaml(decode_text(data), path)


def _parse_yaml(text: str, path: Path) -> Any:
    import yaml

    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # builds text, lists and mappings, nothing else
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark is not None else 1
                raise DatasetError(f"{path}:{line}: a YAML alias", expected="a description without anchors and aliases")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise DatasetError(f"{path} is nested more than {_MAX_DEPTH} deep", expected="a flat description")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise DatasetError(f"{place}: not YAML: {getattr(error, 'problem', None) or error}") from error
