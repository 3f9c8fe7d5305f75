"""Checkpoints: safetensors weights with JSON metadata, and the safe reading of foreign ``.pt`` files.

Reading metadata needs no torch; what needs it is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from .metadata import FORMAT_VERSION, METADATA_KEY, CheckpointHeader, CheckpointMeta, read_header, read_metadata

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, meta_of
    from .public import import_public

__all__ = [
    "FORMAT_VERSION",
    "METADATA_KEY",
    "Checkpoint",
    "CheckpointHeader",
    "CheckpointMeta",
    "import_public",
    "meta_of",
    "read_header",
    "read_metadata",
]

_HOME = {"Checkpoint": "checkpoint", "meta_of": "checkpoint", "import_public": "public"}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{home}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        purpose = "to read or write the weights of a checkpoint"
        raise MissingDependencyError(error.name, extra="train", purpose=purpose) from error
