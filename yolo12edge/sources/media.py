"""Images, folders, patterns and video files, as a list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..imaging.images import IMAGE_SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "MediaFile", "find_media", "unique_name"]

VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
"""Suffixes of video files, lower case."""


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
    return [MediaFile(path, _kind(path), unique_name(path.stem, taken)) for path in found.values()]


def unique_name(stem: str, taken: set[str]) -> str:
    """Return the stem, with a number where it is taken, and add it to what is taken.

    Args:
        stem: The name wanted.
        taken: Names in lower case, because some file systems do not tell ``A.jpg`` from ``a.jpg``.
    """
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name


def _expand(source: str) -> list[Path]:
    if not source:  # as a path it would be the working directory
        raise InputError("the source is empty", expected="an image, a folder, a pattern or a video")
    path = Path(source)
    if path.is_dir():
        inside = sorted(item for item in path.iterdir() if _is_media(item))
        if not inside:
            raise InputError(
                f"the folder {path} has no image or video",
                expected=_suffixes(),
                remedy="name the folders that hold them: folders in a folder are not searched",
            )
        return inside
    if path.is_file():  # also where the name has characters that mean something in a pattern
        return [path]
    if path.exists():  # reading a pipe could wait for ever
        raise InputError(f"{path} is neither a file nor a folder", expected="an image, a folder, a pattern or a video")
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
