"""``Video``: the frames of a video file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .address import is_url

__all__ = ["Video", "check_whole", "frame_count_of", "speed_of"]

# These formats keep an index, so that their frame count is exact; others only estimate it.
_COUNTED_SUFFIXES = frozenset((".avi", ".m4v", ".mov", ".mp4"))


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
        self.fps = speed_of(self._capture)
        self.frame_count = frame_count_of(self._capture)

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
        check_whole(str(self.path), read, self.frame_count)

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def speed_of(capture: cv2.VideoCapture) -> float | None:
    """Return the frames per second that an open capture claims; None where that is no sensible number."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= 1000 else None


def frame_count_of(capture: cv2.VideoCapture) -> int | None:
    """Return the number of frames that an open capture claims; None where it has no end, or none is known."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 1e9 else None


def check_whole(name: str, read: int, count: int | None) -> None:
    """Refuse a video that ended without a frame, or clearly before its end.

    Args:
        name: File name or URL without query; its suffix says whether ``count`` is exact.
        read: Frames that were read.
        count: Frames that it says it has.

    Raises:
        InputError: If so.
    """
    if not read and is_url(name):
        raise InputError(
            f"{name} has no frame that can be decoded",
            expected="a server that answers byte ranges (python -m http.server does not), or a file whose index is at "
            "its start",
            remedy="move the index with ffmpeg -i IN.mp4 -c copy -movflags +faststart OUT.mp4, or copy the file here",
        )
    if not read:
        raise InputError(f"{name} has no frame that can be decoded", remedy="convert it to H.264 in .mp4")
    # Edit lists make a whole file a frame or two shorter than its index.
    if count and Path(name).suffix.lower() in _COUNTED_SUFFIXES and count - read > max(2, count // 100):
        raise InputError(
            f"{name} ends after {read} of {count} frames",
            expected="a whole file",
            remedy="copy the file again; what was read is kept",
        )
