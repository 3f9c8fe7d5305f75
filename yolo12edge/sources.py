"""What to look at: images, folders, patterns and video files, as a list of files and as frames."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .imaging.images import IMAGE_SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "MediaFile", "Video", "find_media"]

VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
"""Suffixes of video files, lower case."""

# These formats keep an index, so that their frame count is exact; others only estimate it.
_COUNTED_SUFFIXES = frozenset((".avi", ".m4v", ".mov", ".mp4"))


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One file to look at.

    Attributes:
        path: The file.
        kind: By its suffix; what is no video counts as an image.
        name: The file's name without suffix, with a number where two files would have the same,
            so that results of one never overwrite those of another.
    """

    path: Path
    kind: Literal["image", "video"]
    name: str


def find_media(sources: Iterable[str | os.PathLike[str]]) -> list[MediaFile]:
    """Find the files that the sources name.

    Args:
        sources: Each an image, a video, a folder (its images and videos, not those of folders in it)
            or a pattern such as ``shots/**/*.jpg``.

    Returns:
        The files in the order of the sources, those of a folder or pattern sorted by name. A file that
        is named twice comes once.

    Raises:
        InputError: If a source does not exist or has no image or video, or there is no source.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        for path in _expand(os.fspath(source)):
            found.setdefault(path.resolve(), path)
    if not found:
        raise InputError("there is nothing to look at", expected="an image, a folder, a pattern or a video")
    taken: set[str] = set()
    return [MediaFile(path, _kind(path), _unique(path.stem, taken)) for path in found.values()]


class Video:
    """An open video file: iterate over it for its frames, each uint8, shape (height, width, 3), BGR.

    Args:
        path: The file.

    Attributes:
        path: The file.
        fps: Frames per second; None where the file does not say.
        frame_count: How many frames the file says it has, which may be an estimate; None where it does not.

    Raises:
        InputError: If the file is missing or cannot be opened as a video.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path} does not exist", expected="a video file")
        self._capture = cv2.VideoCapture(str(self.path))
        if not self._capture.isOpened():
            raise InputError(
                f"{self.path} cannot be opened as a video",
                expected="a whole file in a format that this OpenCV reads",
                remedy="play it, and if that works convert it to H.264 in .mp4",
            )
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if 0 < fps <= 1000 else None
        self.frame_count = int(count) if 0 < count < 1e9 else None

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the frames that are left.

        Raises:
            InputError: At the end, if there was no frame, or a file with an index ended clearly before
                the count that it says.
        """
        read = 0
        while True:
            done, frame = self._capture.read()
            if not done:
                break
            read += 1
            yield np.asarray(frame, np.uint8)
        if not read:
            raise InputError(f"{self.path} has no frame that can be decoded", remedy="convert it to H.264 in .mp4")
        count = self.frame_count
        # Edit lists make a whole file a frame or two shorter than its index.
        if count and self.path.suffix.lower() in _COUNTED_SUFFIXES and count - read > max(2, count // 100):
            raise InputError(
                f"{self.path} ends after {read} of {count} frames",
                expected="a whole file",
                remedy="copy the file again; what was read is kept",
            )

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _expand(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        inside = sorted(item for item in path.iterdir() if _is_media(item))
        if not inside:
            raise InputError(
                f"the folder {path} has no image or video",
                expected=_suffixes(),
                remedy="folders in it are not searched",
            )
        return inside
    if path.exists():  # also where the name has characters that mean something in a pattern
        return [path]
    if glob.has_magic(source):
        matches = sorted(item for item in map(Path, glob.glob(source, recursive=True)) if _is_media(item))  # noqa: PTH207
        if not matches:
            raise InputError(f"no image or video matches {source}", expected=_suffixes())
        return matches
    raise InputError(f"{path} does not exist", expected="an image, a folder, a pattern or a video")


def _is_media(path: Path) -> bool:
    known = path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return known and not path.name.startswith(".") and path.is_file()


def _kind(path: Path) -> Literal["image", "video"]:
    return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"


def _suffixes() -> str:
    return "files ending in " + ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))


def _unique(stem: str, taken: set[str]) -> str:
    name, number = stem, 2
    # Lower case: some file systems do not tell "A.jpg" from "a.jpg".
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name
