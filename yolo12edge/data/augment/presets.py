"""Presets: augmentations by name, and augmentations in files like theirs.

A file maps operations to their settings. Under the name of a task it says what is different for that task; ``null``
takes an operation away. What it says is checked, and errors name the line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ...errors import InputError
from ...manifest import TASKS, Task
from .settings import Augmentation, Op

__all__ = ["default_augmentation", "load_augmentation", "parse_augmentation", "preset_names"]

_MAX_BYTES = 1 << 16
_SUFFIX = ".yaml"
_FIELDS = {field.encode_name: field.type for field in msgspec.structs.fields(Augmentation)}
# Where pictures are classified as a whole, the recipe for ImageNet's 1.28 million is too strong for most datasets.
_DEFAULTS: dict[Task, str] = {"classify": "base"}

Lines = Mapping[tuple[str, ...], int]


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets."""
    files = (resources.files("yolo12edge.data") / "presets").iterdir()
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX)))


def default_augmentation(scale: str, task: Task) -> Augmentation:
    """Return the augmentation of a run that does not choose one: the published recipe of a model scale, n to x."""
    return load_augmentation(_DEFAULTS.get(task, f"official-{scale}"), task=task)


def load_augmentation(name_or_path: str | Path, *, task: Task) -> Augmentation:
    """Read an augmentation.

    Args:
        name_or_path: A preset's name, or a YAML file.
        task: Of the pictures that it is for.

    Raises:
        InputError: If there is no such preset or file, or the file says what cannot be done; the error names the line.
    """
    name = str(name_or_path)
    if name in preset_names():
        return _read((resources.files("yolo12edge.data") / "presets" / (name + _SUFFIX)).read_bytes(), name, task)
    path = Path(name_or_path)
    if not path.is_file():
        close = difflib.get_close_matches(name, preset_names(), 1)
        raise InputError(
            f"there is no augmentation {name}" + (f"; the nearest preset is {close[0]}" if close else ""),
            expected=f"a YAML file, or one of {', '.join(preset_names())}",
        )
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes", expected=f"at most {_MAX_BYTES >> 10} KiB")
    return _read(path.read_bytes(), str(path), task)


def parse_augmentation(
    content: object, *, task: Task, source: str = "augment", lines: Lines | None = None
) -> Augmentation:
    """Make an augmentation of what a file said.

    Args:
        content: Mappings, numbers and lists.
        task: Of the pictures that it is for.
        source: What to call the content in errors.
        lines: Line of each key, by the keys that lead to it.

    Raises:
        InputError: If it says what cannot be done.
    """
    lines = {} if lines is None else lines
    ops = _of_task(_mapping(content, source), source, lines, task)
    made: dict[str, Op] = {}
    for name, (keys, settings) in ops.items():
        (kind,) = (each for each in _FIELDS[name].__args__ if each is not type(None))
        if task in kind.lacking:
            raise InputError(
                f"{_place(source, lines, keys)}{name} is not for {task}: {kind.lacking[task]}", remedy=f"remove {name}"
            )
        made[name.replace("-", "_")] = _op(kind, settings, source, lines, keys)
    try:
        return Augmentation(**made)  # type: ignore[arg-type]  # each is of its field's kind
    except InputError as error:
        raise InputError(f"{source}: {error.fact}", expected=error.expected, remedy=error.remedy) from error


def _of_task(
    content: Mapping[str, Any], source: str, lines: Lines, task: Task
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return what a file says for a task: of each operation the keys that lead to it, and its settings."""
    ops: dict[str, tuple[tuple[str, ...], Any]] = {}
    sections: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [
        ((), {key: value for key, value in content.items() if key not in TASKS})
    ]
    for key in TASKS:
        if key in content:
            section = _mapping(content[key], _place(source, lines, (key,)) + key)
            sections.append(((key,), section))
    for keys, section in sections:
        for name in section:
            _known(name, (*_FIELDS, *(() if keys else TASKS)), "operation", source, lines, (*keys, name))
        if keys in ((), (task,)):
            ops.update({name: ((*keys, name), settings) for name, settings in section.items()})
    return {name: found for name, found in ops.items() if found[1] is not None}


def _op(kind: type[Op], settings: Any, source: str, lines: Lines, keys: tuple[str, ...]) -> Op:
    """Make an operation of its settings."""
    given = _mapping(settings, _place(source, lines, keys) + kind.title())
    allowed = {field.encode_name for field in msgspec.structs.fields(kind)}
    for name in given:
        _known(name, allowed, f"setting of {kind.title()}", source, lines, (*keys, name))
    try:
        return msgspec.convert(given, kind)
    except InputError as error:
        found = re.match(r"[\w-]+\.([\w-]+) is", error.fact)
        place = _place(source, lines, (*keys, found[1]) if found else keys)
        raise InputError(place + error.fact, expected=error.expected) from error
    except msgspec.ValidationError as error:
        found = re.search(r"`\$\.([\w-]+)", str(error))
        name = found[1] if found else ""
        fact = f"{kind.title()}.{name} is {given.get(name)!r:.60}"
        expected = str(error).partition(" - at ")[0].removeprefix("Expected ").replace("`", "")
        raise InputError(_place(source, lines, (*keys, name)) + fact, expected=expected) from error


def _known(name: object, allowed: Any, what: str, source: str, lines: Lines, keys: tuple[str, ...]) -> None:
    if name in allowed:
        return
    close = difflib.get_close_matches(str(name), allowed, 1)
    raise InputError(
        f"{_place(source, lines, keys)}there is no {what} {name!r:.60}"
        + (f"; did you mean {close[0]}?" if close else ""),
        expected=f"one of {', '.join(allowed)}",
    )


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{what} is {value!r:.60}", expected="a mapping, as in `mosaic: {p: 0.5}`")
    return value


def _place(source: str, lines: Lines, keys: tuple[str, ...]) -> str:
    line = lines.get(keys) or lines.get(keys[:-1])
    return f"{source}:{line}: " if line else f"{source}: "


def _read(data: bytes, source: str, task: Task) -> Augmentation:
    import yaml

    lines: dict[tuple[str, ...], int] = {}
    try:
        text = data.decode()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise InputError(f"{source} has a YAML alias", expected="a file without anchors and aliases")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        raise InputError(f"{place}: not YAML: {getattr(error, 'problem', None) or error}") from error

    def visit(node: Any, keys: tuple[str, ...]) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            path = (*keys, str(key.value))
            if path in lines:
                raise InputError(f"{source}:{key.start_mark.line + 1}: {path[-1]} is there twice", remedy="remove one")
            lines[path] = key.start_mark.line + 1
            visit(value, path)

    visit(node, ())
    return parse_augmentation(content, task=task, source=source, lines=lines)
