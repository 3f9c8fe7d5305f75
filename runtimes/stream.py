"""``Stream``: detections of frame after frame, while the next ones are on their way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import time_ns
from types import TracebackType
from typing import Any

import numpy.typing as npt

from ..detections import Detections
from ..frame import Frame

__all__ = ["Stream"]

_Submit = Callable[[Frame], "Future[Detections]"]


class Stream(Iterator[tuple[Frame, Detections]]):
    """An iterator of ``(Frame, Detections)``, made by ``Runtime.stream``; for one thread, ``close`` for any.

    Frames are read in a thread of its own. Closing does not interrupt a read that is going on: that thread ends with
    it. The source itself is the caller's to close.
    """

    def __init__(
        self, submit: _Submit, frames: Iterable[npt.NDArray[Any] | Frame], *, newest: bool, depth: int
    ) -> None:
        """Start.

        Args:
            submit: Hands a frame to the runtime.
            frames: Where frames come from.
            newest: Whether to drop frames that a newer one has overtaken.
            depth: How many frames are on their way or waiting for who iterates.
        """
        self._feed = _Feed(submit, depth)
        feed, iterator = self._feed, _as_frames(iter(frames))
        if newest:
            mailbox = _Mailbox(feed)
            _start(mailbox.fill, iterator)
            _start(feed.run, mailbox.take)
        else:
            _start(feed.run, lambda: next(iterator, None))

    @property
    def dropped(self) -> int:
        """Frames that were read and not looked at, or whose result nobody took."""
        return self._feed.dropped

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> tuple[Frame, Detections]:
        item = self._feed.results.get()
        if item is None or isinstance(item, BaseException):
            self._feed.results.put(None)  # the end stays the end
            if item is None:
                raise StopIteration
            raise item
        frame, future = item
        self._feed.room.release()
        return frame, future.result()

    def close(self) -> None:
        """End the iteration; what was read and not taken counts as dropped. May be called twice."""
        self._feed.stop()

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

    def __init__(self, submit: _Submit, depth: int) -> None:
        self.submit = submit
        self.room = threading.Semaphore(depth)
        self.results: SimpleQueue[tuple[Frame, Future[Detections]] | BaseException | None] = SimpleQueue()
        self.stopped = threading.Event()
        self.dropped = 0
        self._lock = threading.Lock()

    def run(self, take: Callable[[], Frame | None]) -> None:
        """Hand in frame after frame, each when there is room for it."""
        try:
            while True:
                self.room.acquire()
                frame = None if self.stopped.is_set() else take()
                if frame is None:
                    break
                if self.stopped.is_set():
                    self.drop(1)
                    break
                self.results.put((frame, self.submit(frame)))
        except BaseException as error:  # travels to who iterates
            self.results.put(error)
        else:
            self.results.put(None)
        if self.stopped.is_set():
            self._discard()

    def drop(self, count: int) -> None:
        with self._lock:
            self.dropped += count

    def stop(self) -> None:
        if not self.stopped.is_set():
            self.stopped.set()
            self._discard()
            self.room.release()

    def _discard(self) -> None:
        """Count what nobody will take, and leave the end of the iteration in the queue."""
        with suppress(Empty):
            while True:
                if isinstance(self.results.get_nowait(), tuple):
                    self.drop(1)
        self.results.put(None)


class _Mailbox:
    """One frame, the newest."""

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._end: BaseException | bool = False

    def fill(self, frames: Iterator[Frame]) -> None:
        """Read frames as fast as they come."""
        end: BaseException | bool = True
        try:
            for frame in frames:
                with self._changed:
                    if self._frame is not None:
                        self._feed.drop(1)
                    self._frame = frame
                    self._changed.notify_all()
                if self._feed.stopped.is_set():
                    break
        except BaseException as error:  # travels to who iterates
            end = error
        with self._changed:
            self._end = end
            if self._frame is not None and self._feed.stopped.is_set():
                self._feed.drop(1)
                self._frame = None
            self._changed.notify_all()

    def take(self) -> Frame | None:
        """Wait for a frame; None at the end, where what went wrong is raised."""
        with self._changed:
            while self._frame is None and not self._end and not self._feed.stopped.is_set():
                self._changed.wait(0.1)  # to see that the stream was closed
            frame, self._frame = self._frame, None
            if frame is None and isinstance(self._end, BaseException):
                raise self._end
            return frame


def _as_frames(items: Iterator[npt.NDArray[Any] | Frame]) -> Iterator[Frame]:
    for index, item in enumerate(items):
        yield item if isinstance(item, Frame) else Frame(item, index, time_ns())


def _start(work: Callable[..., None], argument: object) -> None:
    # A daemon: reading a camera that gives no frame must not keep the program from ending.
    threading.Thread(target=work, args=(argument,), name="yolo12edge-stream", daemon=True).start()
