"""The frames that a benchmark looks at: real pictures, because noise or zeros leave postprocessing without work."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..data.scenes import render_scene
from ..errors import InputError
from ..imaging.images import read_image
from ..sources import find_media
from .record import SourceFacts

__all__ = ["describe_frames", "image_frames", "scene_frames"]

Frames = list[npt.NDArray[np.uint8]]

_SCENES, _WIDTH, _HEIGHT = 8, 1280, 720
_MAX_IMAGES = 64  # they are held in memory


def scene_frames() -> Frames:
    """Return eight rendered scenes, 1280 x 720; the same on every machine."""
    side = _WIDTH // 2  # drawn at half the size, because drawing is slow
    top, height = (side - _HEIGHT // 2) // 2, _HEIGHT // 2
    squares = (render_scene(seed=0, split="benchmark", index=index, size=side).image for index in range(_SCENES))
    wide = (square[top : top + height] for square in squares)
    return [np.asarray(cv2.resize(image, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8) for image in wide]


def image_frames(sources: Sequence[str | Path]) -> Frames:
    """Read the images that files, folders and patterns name, the first 64.

    Raises:
        InputError: If there is none, or one cannot be read.
    """
    images = [item.path for item in find_media(sources) if item.kind == "image"]
    if not images:
        raise InputError(f"there is no image in {', '.join(map(str, sources))}", expected="images or folders of images")
    return [read_image(path) for path in images[:_MAX_IMAGES]]


def describe_frames(frames: Frames, source: str) -> SourceFacts:
    """Return what the record says of the frames."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(f"{frame.shape}".encode())
        digest.update(frame.tobytes())
    sizes = dict.fromkeys(f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames)
    return SourceFacts(source=source[:500], count=len(frames), sizes=list(sizes), digest=digest.hexdigest())
