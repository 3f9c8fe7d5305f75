"""yolo12edge takes YOLO12 detectors from training to the device.

The names below are loaded on first use, so that ``import yolo12edge`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifact import Artifact
    from .detections import Detections
    from .errors import Yolo12EdgeError
    from .frame import Frame
    from .manifest import Manifest
    from .runtimes import Runtime
    from .thresholds import Thresholds

__all__ = ["Artifact", "Detections", "Frame", "Manifest", "Runtime", "Thresholds", "Yolo12EdgeError", "__version__"]
__version__ = "0.1.0"

_HOME = {
    "Artifact": "artifact",
    "Detections": "detections",
    "Frame": "frame",
    "Manifest": "manifest",
    "Runtime": "runtimes",
    "Thresholds": "thresholds",
    "Yolo12EdgeError": "errors",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
