"""Training: losses, assigner, Lightning module, trainer.

What needs torch and Lightning is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError

if TYPE_CHECKING:
    from .config import TrainConfig
    from .run import EpochRecord, RunFiles
    from .trainer import TrainResult, resume, train

__all__ = ["EpochRecord", "RunFiles", "TrainConfig", "TrainResult", "resume", "train"]

_HOME = {
    "EpochRecord": "run",
    "RunFiles": "run",
    "TrainConfig": "config",
    "TrainResult": "trainer",
    "resume": "trainer",
    "train": "trainer",
}
_PACKAGES = ("torch", "lightning", "safetensors", "faster_coco_eval", "tensorboard")


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{home}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        raise MissingDependencyError(error.name, extra="train", purpose="to train") from error
