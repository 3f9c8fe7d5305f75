"""``open_source``: frames of a file, folder, pattern, camera or network stream, one after the other."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Event
from types import TracebackType
from typing import Any, get_args

import cv2

from .. import background
from ..errors import InputError
from ..frame import Frame
from ..imaging.images import read_image
from .address import is_stream, masked
from .buffer import Drop, FrameBuffer
from .media import MediaFile, find_media
from .stream import connect, read_stream
from .video import Video, frame_count_of, speed_of

__all__ = ["Source", "open_source"]

_GRACE_S = 5.0  # for what no time limit of OpenCV covers, such as looking up a host's name
_JOIN_S = 1.0  # what closing waits for the reading thread; a frame that is on its way takes less


class Source:
    """An open source, made by ``open_source``: iterate over it, once, for its frames.

    A thread reads ahead while the caller works. ``close`` may come from any thread and ends the iteration at once;
    a source that is no longer referenced closes itself. A source belongs to the process that opened it.

    Attributes:
        name: What it reads, without passwords.
        live: Whether it is a camera or a stream without end, which cannot be read twice.
        fps: Frames per second that it claims; None where it does not say, or there are several files.
    """

    def __init__(
        self,
        name: str,
        buffer: FrameBuffer,
        read: Callable[[], None],
        *,
        live: bool,
        fps: float | None,
        patience_s: float | None,
        ends_within_s: float,
    ) -> None:
        self.name = name
        self.live = live
        self.fps = fps
        self._buffer = buffer
        self._patience_s = patience_s
        self._process = os.getpid()
        # The thread knows the buffer and not the Source, so that one that is forgotten can be collected.
        self._thread = background.start(
            f"source {name}", partial(_run, read, buffer, name), stop=buffer.close, within_s=ends_within_s
        )

    @property
    def dropped(self) -> int:
        """Frames that were read but not given out, because newer ones came: the gaps in ``Frame.index``."""
        return self._buffer.dropped

    @property
    def reconnects(self) -> int:
        """How often the stream was lost and delivered frames again."""
        return self._buffer.reconnects

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        """Return the next frame.

        Raises:
            InputError: If a file cannot be read, whereafter the next call goes on with the file after it; or if a
                stream was lost and not found again, which is the end; or in another process than opened it.
        """
        if os.getpid() != self._process:  # the reading thread is in the other
            raise InputError(f"{self.name} was opened in another process", remedy="open it in the one that reads it")
        try:
            frame = self._buffer.take(self._patience_s)
        except TimeoutError:
            self._let_go()
            raise InputError(
                f"{self.name} hangs: it neither delivers nor fails", remedy="look at the camera or its driver"
            ) from None
        if frame is None:
            raise StopIteration
        return frame

    def close(self) -> None:
        """Stop reading; whoever iterates is at the end. May be called twice, and from any thread.

        Frames that were read ahead are let go. The file or camera is free when this returns, unless the reading thread
        waits for a frame that does not come; then it is free when that has taken ``timeout_s``.
        """
        self._let_go()
        if os.getpid() == self._process:
            self._thread.join(_JOIN_S)

    def _let_go(self) -> None:
        if os.getpid() == self._process:  # elsewhere its lock may be held by a thread that is not there
            self._buffer.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):  # else the constructor failed
            self._let_go()


def open_source(
    source: str | os.PathLike[str], *, drop: Drop | None = None, timeout_s: float = 10.0, reconnect_s: float = 60.0
) -> Source:
    """Open an image, video, folder, pattern, camera or network stream.

    Args:
        source: A file; a folder (its images and videos, sorted by name, not those of folders in it); a pattern such
            as ``shots/**/*.jpg``; a camera such as ``/dev/video0``; or a URL: ``rtsp://``, ``rtmp://``, ``http://``,
            ``udp://`` and others that FFmpeg reads.
        drop: ``"none"``: every frame is given out, and reading waits for the caller. ``"oldest"``: the newest frame
            is given out and older ones are dropped, so that it is never older than it must be; a video file then
            plays at its own speed, as a camera would. None is ``"oldest"`` for what is live and ``"none"`` for files.
        timeout_s: Seconds that connecting to a stream, and each of its frames, may take.
        reconnect_s: Seconds without a frame after which a lost stream is given up; until then it is connected to
            again and again. 0 ends with the first loss, ``math.inf`` never gives up.

    Returns:
        The source; use it in a ``with`` block or close it.

    Raises:
        InputError: If there is nothing to read, a stream does not answer in time, or an option is out of range.
    """
    if drop is not None and drop not in get_args(Drop):
        raise InputError(f"drop is {drop!r}", expected=" or ".join(map(repr, get_args(Drop))))
    if not (0 < timeout_s < math.inf):
        raise InputError(f"timeout_s is {timeout_s}", expected="seconds, more than 0")
    if not reconnect_s >= 0:
        raise InputError(f"reconnect_s is {reconnect_s}", expected="seconds, 0 or more")
    text = os.fspath(source)
    if is_stream(text):
        return _open_stream(text, drop, timeout_s, reconnect_s)
    return _open_files(text, find_media([text]), drop or "none")


def _open_stream(address: str, drop: Drop | None, timeout_s: float, reconnect_s: float) -> Source:
    capture = _within(timeout_s + _GRACE_S, lambda: connect(address, timeout_s), masked(address))
    # Web servers also deliver video files, which say how long they are.
    count = frame_count_of(capture) if address.lower().startswith(("http", "ftp")) else None
    buffer = FrameBuffer(drop or ("none" if count else "oldest"))

    def read() -> None:
        read_stream(address, capture, buffer, timeout_s=timeout_s, reconnect_s=reconnect_s, frame_count=count)

    patience_s = None if math.isinf(reconnect_s) else reconnect_s + 2 * timeout_s + 2 * _GRACE_S
    return Source(
        masked(address),
        buffer,
        read,
        live=count is None,
        fps=speed_of(capture),
        patience_s=patience_s,
        ends_within_s=timeout_s + _GRACE_S,
    )


def _within(seconds: float, work: Callable[[], cv2.VideoCapture], name: str) -> cv2.VideoCapture:
    """Return what the work returns, or refuse to wait longer; it runs in a thread, and what it opens late is closed."""
    done: list[Any] = []
    finished = Event()

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # travels to the caller
            done.append(error)
        finished.set()

    background.start(f"connecting to {name}", run, stop=lambda: None, within_s=seconds)
    if not finished.wait(seconds):
        raise InputError(
            f"{name} did not answer within {seconds:g} s", remedy="look at the network and its name server"
        )
    if isinstance(done[0], BaseException):
        raise done[0]
    capture: cv2.VideoCapture = done[0]
    return capture


def _open_files(name: str, media: Sequence[MediaFile], drop: Drop) -> Source:
    only = media[0] if len(media) == 1 else None
    fps = None
    if only is not None and only.kind == "video":
        with Video(only.path) as video:  # what cannot be opened shows at once
            fps = video.fps
    if drop == "oldest" and any(item.kind == "image" for item in media):
        raise InputError(f"{name} has images, which have no speed", remedy="leave out drop='oldest'")
    buffer = FrameBuffer(drop)

    def read() -> None:
        for item in media:
            try:
                if not _read_file(item, buffer, paced=drop == "oldest"):
                    return
            except InputError as error:
                buffer.fail(error)

    return Source(name, buffer, read, live=False, fps=fps, patience_s=None, ends_within_s=_GRACE_S)


def _read_file(item: MediaFile, buffer: FrameBuffer, *, paced: bool) -> bool:
    """Put the frames of a file into the buffer; return False if that is closed."""
    if item.kind == "image":
        return buffer.put(read_image(item.path), time.time_ns(), str(item.path))
    with Video(item.path) as video:
        if paced and video.fps is None:
            raise InputError(f"{item.path} does not say its speed", remedy="leave out drop='oldest'")
        begin = time.monotonic()
        for number, image in enumerate(video):
            if paced and video.fps and buffer.closed_within(begin + number / video.fps - time.monotonic()):
                return False
            if not buffer.put(image, time.time_ns(), str(item.path)):
                return False
    return True


def _run(read: Callable[[], None], buffer: FrameBuffer, name: str) -> None:
    try:
        read()
    except cv2.error as error:
        buffer.fail(InputError(f"{name} cannot be read further: {error.err}"))
    except BaseException as error:  # travels to whoever iterates
        buffer.fail(error)
    finally:
        buffer.finish()
