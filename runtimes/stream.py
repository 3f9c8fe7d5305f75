"""``Stream``: detections of frame after frame, while the next ones are on their way."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from time import time_ns
from types import TracebackType
from typing import Any

import numpy.typing as npt

from .. import background
from ..detections import Detections
from ..errors import BackendError
from ..frame import Frame

__all__ = ["Stream"]

_Submit = Callable[[Frame], "Future[Detections]"]
_CLOSE_S = 2.0


class Stream(Iterator[tuple[Frame, Detections]]):
    """An iterator of ``(Frame, Detections)``, made by ``Runtime.stream``; for one thread, ``close`` for any.

    Frames are read in a thread of its own. The source itself is the caller's to close, after the stream.

    Args:
        submit: Hands a frame to the runtime.
        frames: Where frames come from.
        newest: Whether to drop frames that a newer one has overtaken.
        depth: How many frames are on their way or wait for who iterates.
    """

    def __init__(
        self, submit: _Submit, frames: Iterator[npt.NDArray[Any] | Frame], *, newest: bool, depth: int
    ) -> None:
        self._feed = _Feed(submit, _as_frames(frames), depth)
        self._feed.start((self._feed.read, self._feed.hand_in_newest) if newest else (self._feed.hand_in_all,))

    @property
    def dropped(self) -> int:
        """Frames that were read and not looked at, or whose result nobody took."""
        return self._feed.dropped

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> tuple[Frame, Detections]:
        """Wait for the next frame's detections.

        Raises:
            BackendError: In a forked child, or if the Runtime was closed.
            Exception: What went wrong with this frame, or at the end with the source.
        """
        return self._feed.take()

    def close(self) -> None:
        """End the iteration; what was read and not taken counts as dropped. May be called twice.

        A read that is going on is waited for, 2 seconds at most.
        """
        self._feed.stop()
        self._feed.join(_CLOSE_S)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        feed = getattr(self, "_feed", None)  # not there if __init__ failed
        if feed is not None:
            feed.stop()


class _Feed:
    """What the threads of a stream share; they know nothing of the ``Stream``, so that it can be forgotten."""

    def __init__(self, submit: _Submit, frames: Iterator[Frame], depth: int) -> None:
        self.dropped = 0
        self._submit, self._frames, self._depth = submit, frames, depth
        self._process = os.getpid()
        self._changed = threading.Condition()  # its lock may be taken again by the thread that holds it
        self._results: deque[tuple[Frame, Future[Detections]]] = deque()
        self._waiting: Frame | None = None  # read, and not handed in; the newest
        self._read_end: BaseException | bool = False
        self._end: BaseException | bool = False
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def start(self, works: Iterable[Callable[[], None]]) -> None:
        """Start the threads."""
        for work in works:
            thread = background.start("yolo12edge-stream", work, stop=self.stop, within_s=_CLOSE_S)
            self._threads.append(thread)

    def hand_in_all(self) -> None:
        """Read frame after frame, each when there is room for it."""
        end: BaseException | bool = True
        try:
            while self._wait(self._has_room):
                frame = next(self._frames, None)
                if frame is None or not self._hand_in(frame):
                    break
        except BaseException as error:  # travels to who iterates
            end = error
        self._finish(end)

    def read(self) -> None:
        """Read frames as fast as they come, and keep the newest."""
        end: BaseException | bool = True
        try:
            for frame in self._frames:
                with self._changed:
                    if self._stopped or self._end:
                        self.dropped += 1
                        break
                    if self._waiting is not None:
                        self.dropped += 1
                    self._waiting = frame
                    self._changed.notify_all()
        except BaseException as error:  # travels to who iterates
            end = error
        with self._changed:
            self._read_end = end
            self._changed.notify_all()

    def hand_in_newest(self) -> None:
        """Hand in the newest frame whenever there is room for one."""
        end: BaseException | bool = True
        try:
            while self._wait(lambda: self._has_room() and bool(self._waiting is not None or self._read_end)):
                with self._changed:
                    frame, self._waiting = self._waiting, None
                if frame is None:
                    end = self._read_end
                    break
                if not self._hand_in(frame):
                    break
        except BaseException as error:  # travels to who iterates
            end = error
        self._finish(end)

    def take(self) -> tuple[Frame, Detections]:
        """Return the next result; the caller's ``__next__``."""
        if os.getpid() != self._process:
            raise BackendError("this Stream belongs to another process", remedy="open a Runtime after the fork")
        with self._changed:
            while not (self._results or self._end or self._stopped):
                self._changed.wait()
            if not self._results:
                end, self._end = self._end, True  # the end stays the end
                if isinstance(end, BaseException) and not self._stopped:
                    raise end
                raise StopIteration
            item = self._results[0]  # it stays there until it is taken: nothing is lost if waiting is interrupted
        frame, future = item
        error = future.exception()
        with self._changed:
            if not self._results or self._results[0] is not item:  # closed meanwhile, and counted
                raise StopIteration
            self._results.popleft()
            self._changed.notify_all()
        if error is not None:
            raise error
        return frame, future.result()

    def stop(self) -> None:
        """Ask the threads to end; count what nobody will take."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._stopped = True
            self._discard()
            self._changed.notify_all()

    def join(self, within_s: float) -> None:
        """Wait for the threads."""
        if os.getpid() == self._process:
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join(within_s)

    def _wait(self, ready: Callable[[], bool]) -> bool:
        """Wait until something is so; False if the stream was stopped."""
        with self._changed:
            while not (self._stopped or ready()):
                self._changed.wait()
            return not self._stopped

    def _has_room(self) -> bool:
        return len(self._results) < self._depth

    def _hand_in(self, frame: Frame) -> bool:
        """Hand a frame to the runtime; False if the stream was stopped."""
        try:
            if self._stopped:
                raise _Stopped
            item = frame, self._submit(frame)
            with self._changed:
                if self._stopped:
                    raise _Stopped
                self._results.append(item)
                self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self.dropped += 1
            if isinstance(error, _Stopped):
                return False
            raise
        return True

    def _finish(self, end: BaseException | bool) -> None:
        with self._changed:
            self._end = end
            if self._waiting is not None:
                self.dropped, self._waiting = self.dropped + 1, None
            self._changed.notify_all()

    def _discard(self) -> None:
        self.dropped += len(self._results)
        self._results.clear()
        if self._waiting is not None:
            self.dropped, self._waiting = self.dropped + 1, None


class _Stopped(Exception):
    """The stream was closed while a frame was on its way in."""


def _as_frames(items: Iterator[npt.NDArray[Any] | Frame]) -> Iterator[Frame]:
    for index, item in enumerate(items):
        yield item if isinstance(item, Frame) else Frame(item, index, time_ns())
