"""What a model file of another tool says of itself, read through an allow-list.

Ultralytics writes text by key: among the ``metadata_props`` of an ONNX file, where containers are Python literals, or
into a ``metadata.yaml`` beside an OpenVINO model. Nothing is evaluated, and keys that are not listed here are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from .errors import ArtifactError

__all__ = ["ForeignMetadata", "metadata_of", "read_metadata_yaml"]

_LIMIT = 1 << 20  # bytes of a metadata.yaml, characters of an entry
_LONGEST = 200  # characters of a text that is only shown
_EXPORT = "export it again with a current version of the tool that made it"


@dataclass(frozen=True, slots=True)
class ForeignMetadata:
    """The entries that count; None or empty where the file does not have one.

    Attributes:
        class_names: Names by class index.
        image_hw: Height and width of the input, pixels.
        stride: Pixels of the input for one cell of the coarsest output grid.
        batch: Images of one inference.
        version: Of Ultralytics, to be shown.
        date: When the file was made, to be shown.
        license: Of the weights, to be shown.
    """

    class_names: tuple[str, ...]
    image_hw: tuple[int, int] | None
    stride: int | None
    batch: int | None
    version: str
    date: str
    license: str | None


def metadata_of(entries: Mapping[str, Any], source: str) -> ForeignMetadata:
    """Check the entries of a file.

    Args:
        entries: Text, or lists and mappings of text, by key.
        source: Where they were read, for messages.

    Raises:
        ArtifactError: If ``names`` is missing, the model is for another task or has its own suppression of overlapping
            boxes, or an entry cannot be understood.
    """
    task = entries.get("task", "detect")
    if task != "detect":
        raise ArtifactError(f"{source} says task {_shown(task)}", expected="'detect', the only task that runs here")
    if str(entries.get("end2end", "False")).lower() != "false":
        raise ArtifactError(
            f"{source} is of an end-to-end model, which suppresses overlapping boxes itself",
            expected="an export that leaves it to the runtime",
            remedy="export the model with end2end=False",
        )
    if _number(entries, "channels", source) not in (None, 3):
        raise ArtifactError(f"{source} says channels {_shown(entries['channels'])}", expected="3, a colour image")
    return ForeignMetadata(
        class_names=_class_names(entries.get("names"), source),
        image_hw=_image_size(entries.get("imgsz"), source),
        stride=_number(entries, "stride", source),
        batch=_number(entries, "batch", source),
        version=_text(entries, "version"),
        date=_text(entries, "date")[:40],
        license=_text(entries, "license") or None,
    )


def read_metadata_yaml(path: Path) -> dict[str, Any]:
    """Read a ``metadata.yaml`` in which every scalar stays text.

    Raises:
        ArtifactError: If it is missing, too large, not a mapping in YAML, or has aliases, which may expand to any size.
    """
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path}: {error.strerror}",
            expected="the file that Ultralytics writes beside an OpenVINO model, with the names of the classes",
            remedy="copy the whole folder of the export",
        ) from error
    if len(data) > _LIMIT:
        raise ArtifactError(f"{path} is larger than {_LIMIT >> 20} MiB", remedy=_EXPORT)
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # builds text, lists and mappings, nothing else
    depth = 0
    try:
        text = data.decode()
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > 16:
                raise ArtifactError(f"{path} has aliases or is nested deeply", remedy=_EXPORT)
        content = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ArtifactError(f"{path} is not YAML, or is damaged", remedy="copy or export it again") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} is not a mapping", expected="entries such as 'task: detect'", remedy=_EXPORT)
    return {key: value for key, value in content.items() if isinstance(key, str)}


def _class_names(value: Any, source: str) -> tuple[str, ...]:
    if value is None:
        raise ArtifactError(
            f"{source} has no entry 'names'", expected="the names of the classes", remedy="export it with yolo12edge"
        )
    pairs = list(value.items()) if isinstance(value, dict) else _dictionary(value, source)
    names = {int(key): name for key, name in pairs if isinstance(key, str) and re.fullmatch(r"[0-9]{1,9}", key)}
    if not names or len(names) != len(pairs) or sorted(names) != list(range(len(names))):
        raise ArtifactError(f"{source} has class numbers other than 0, 1, 2 …", remedy=_EXPORT)
    found = tuple(names[index] for index in range(len(names)))
    if not all(name and _is_text(name) for name in found):
        raise ArtifactError(f"{source} has a class name that is no text of 1 to {_LONGEST} characters", remedy=_EXPORT)
    return found


_STRING = r"'((?:[^'\\\n]|\\.)*)'|\"((?:[^\"\\\n]|\\.)*)\""
_PAIR = re.compile(rf"\s*([0-9]{{1,9}})\s*:\s*(?:{_STRING})\s*(,|(?=\}}))")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


def _dictionary(value: Any, source: str) -> list[tuple[str, str]]:
    """Read what ``repr`` makes of a dict of texts by number, such as ``{0: 'cat', 1: "dog's"}``."""
    problem = ArtifactError(f"{source} has names {_shown(value)}", expected="{0: 'cat', 1: 'dog'}", remedy=_EXPORT)
    text = value.strip() if isinstance(value, str) and len(value) <= _LIMIT else ""
    if not (text.startswith("{") and text.endswith("}")):
        raise problem
    pairs = []
    position = 1
    while match := _PAIR.match(text, position):
        position = match.end()
        try:
            pairs.append((match[1], _ESCAPE.sub(_unescaped, match[2] if match[2] is not None else match[3])))
        except ValueError as error:
            raise problem from error
        if not match[4]:
            break
    if text[position:].strip() != "}":
        raise problem
    return pairs


def _unescaped(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if not digits:
        if match[4] not in _ESCAPED:
            raise ValueError(f"unknown escape {match[0]}")
        return _ESCAPED[match[4]]
    return chr(int(digits, 16))


def _image_size(value: Any, source: str) -> tuple[int, int] | None:
    """Return (height, width) of ``[320, 640]``, a list of the two, or one number for both."""
    if value is None:
        return None
    parts = re.split(r"\s*,\s*", value.strip().strip("[]()").strip()) if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) not in (1, 2) or not all(_is_number(part) for part in parts):
        raise ArtifactError(f"{source} has imgsz {_shown(value)}", expected="height and width", remedy=_EXPORT)
    return int(parts[0]), int(parts[-1])


def _number(entries: Mapping[str, Any], key: str, source: str) -> int | None:
    if key not in entries:
        return None
    value = entries[key]
    if not _is_number(value):
        raise ArtifactError(f"{source} has {key} {_shown(value)}", expected="a positive integer", remedy=_EXPORT)
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,4}", value) is not None


def _text(entries: Mapping[str, Any], key: str) -> str:
    """Return an entry that is only shown; what is no short text is as good as absent."""
    value = entries.get(key)
    return value if _is_text(value) else ""


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a short text of whole characters: escapes in YAML and Python may leave half of a pair."""
    return isinstance(value, str) and len(value) <= _LONGEST and not re.search("[\ud800-\udfff]", value)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return repr("".join(char if char.isprintable() else "?" for char in text[:60]) + ("…" if len(text) > 60 else ""))
