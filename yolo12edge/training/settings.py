"""Settings of a run from a YAML file: any field of ``TrainConfig``, strictly."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

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
    known = [field.name for field in fields(TrainConfig)]
    kinds = get_type_hints(TrainConfig)
    settings = {}
    for key, value in given.items():
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            raise InputError(
                f"{path} sets {key!r}, which a run does not have",
                remedy=f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}",
            )
        if (key == "augment" and isinstance(value, str)) or (key == "batch" and value == "auto"):
            settings[key] = value
            continue
        try:
            # YAML takes 1e-3, which has no dot, for text.
            settings[key] = from_plain(value, kinds[key], strict=not isinstance(value, str))
        except msgspec.ValidationError as error:
            raise InputError(f"{path}: {key}: {error}") from error
    return settings
