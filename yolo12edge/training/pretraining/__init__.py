"""Pretraining: what the backbone learns from pictures without labels, and how well its features tell classes apart.

What needs torch and Lightning is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...errors import MissingDependencyError

if TYPE_CHECKING:
    from .backbone import Backbone, load_backbone
    from .config import PretrainConfig
    from .files import PretrainFiles, PretrainRecord
    from .pictures import Pictures, find_pictures
    from .probe import KnnClassifier, Probe, embed, probe_backbone
    from .run import PretrainResult, pretrain, resume

__all__ = [
    "Backbone",
    "KnnClassifier",
    "Pictures",
    "PretrainConfig",
    "PretrainFiles",
    "PretrainRecord",
    "PretrainResult",
    "Probe",
    "embed",
    "find_pictures",
    "load_backbone",
    "pretrain",
    "probe_backbone",
    "resume",
]

_HOME = {
    "Backbone": "backbone",
    "KnnClassifier": "probe",
    "Pictures": "pictures",
    "PretrainConfig": "config",
    "PretrainFiles": "files",
    "PretrainRecord": "files",
    "PretrainResult": "run",
    "Probe": "probe",
    "embed": "probe",
    "find_pictures": "pictures",
    "load_backbone": "backbone",
    "pretrain": "run",
    "probe_backbone": "probe",
    "resume": "run",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{home}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "lightning", "safetensors"):
            raise
        raise MissingDependencyError(error.name, extra="train", purpose="to pretrain") from error
