"""Settings of a run from a YAML file: any field of ``TrainConfig``, strictly."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from ..errors import InputError
from .config import TrainConfig, from_plain

__all__ = ["read_settings"]

_LIMIT = 1 << 20  # bytes


def read_settings(path: Path) -> dict[str, Any]:
    """Read fields of ``TrainConfig``; ``augment`` stays a name or file where it is one, and ``batch`` stays ``auto``.

    Paths are as on a command line.

    Raises:
        InputError: If the file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    try:
        with path.open("rb") as file:
            given = yaml.safe_load(file.read(_LIMIT))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{path} holds no settings", expected="lines such as `epochs: 100`")
    kinds = get_type_hints(TrainConfig)
    _refuse_unknown(f"{path} sets", given, TrainConfig)
    settings = {}
    for key, value in given.items():
        if isinstance(value, dict) and is_dataclass(kinds[key]):
            _refuse_unknown(f"{path}: {key} sets", value, kinds[key])
        if (key == "augment" and isinstance(value, str)) or (key == "batch" and value == "auto"):
            settings[key] = value
            continue
        try:
            # YAML takes 1e-3, which has no dot, for text.
            settings[key] = from_plain(value, kinds[key], strict=not isinstance(value, str))
        except msgspec.ValidationError as error:
            choices = get_args(kinds[key]) if get_origin(kinds[key]) is Literal else ()
            expected = f"one of {', '.join(map(str, choices))}" if choices else ""
            raise InputError(f"{path}: {key}: {error}", expected=expected) from error
    return settings


def _refuse_unknown(what: str, given: dict[Any, Any], kind: Any) -> None:
    """Refuse keys that a dataclass does not have."""
    known = [field.name for field in fields(kind)]
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            raise InputError(
                f"{what} {key!r}, which a run does not have",
                remedy=f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}",
            )
