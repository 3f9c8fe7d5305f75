"""``Workers``: a few threads that do work from a bounded queue, and say when the last of it is done."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from .. import background
from ..errors import BackendError

__all__ = ["Workers", "closed_error"]

_Result = TypeVar("_Result")

_END_S = 10.0  # how long the end of a program waits for what an engine is doing
_log = logging.getLogger(__name__)


class Workers:
    """Threads that start with the first work.

    Results are handed out by these threads, so callbacks of futures run in them. What a callback raises is logged.

    Args:
        count: How many threads.
        size: How much work may wait; ``submit`` waits while it is more.
        finish: Called once, after ``close``, when all work is done.
    """

    def __init__(self, count: int, *, size: int, finish: Callable[[], None]) -> None:
        self._count, self._size, self._finish = count, size, finish
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._closing = False

    def inside(self) -> bool:
        """Return whether this is one of the threads: who waits for other work there may wait for itself."""
        return threading.current_thread() in self._threads

    def submit(self, work: Callable[[], _Result]) -> Future[_Result]:
        """Hand in work; waits while the queue is full, but not in a callback, which would wait for itself.

        Raises:
            BackendError: If it is closed.
        """
        future: Future[_Result] = Future()
        inside = self.inside()
        with self._changed:
            while len(self._waiting) >= self._size and not self._closing and not inside:
                self._changed.wait()
            if self._closing:
                raise closed_error()
            if not self._threads:
                self._running = self._count
                self._threads = [
                    background.start("yolo12edge-runtime", self._run, stop=self._abandon, within_s=_END_S)
                    for _ in range(self._count)
                ]
            self._waiting.append((future, work))
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Take no more work, and wait for what there is; in a callback, do not wait. May be called again."""
        with self._changed:
            was_closing, self._closing = self._closing, True
            threads = list(self._threads)
            self._changed.notify_all()
        if not threads:
            if not was_closing:
                self._finish()
        elif not self.inside():
            for thread in threads:
                thread.join()

    def _abandon(self) -> None:
        """Drop what waits: the program ends."""
        with self._changed:
            self._closing = True
            while self._waiting:
                self._waiting.popleft()[0].cancel()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    self._running -= 1
                    last = not self._running
                    break
                future, work = self._waiting.popleft()
                self._changed.notify_all()
            _do(future, work)
            del future, work  # or the frame would live until the next one comes
        if last:
            self._finish()


def _do(future: Future[_Result], work: Callable[[], _Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result, error = work(), None
    except BaseException as raised:
        result, error = None, raised
    try:
        if error is not None:
            future.set_exception(error)
        else:
            assert result is not None
            future.set_result(result)
    except BaseException:  # such as SystemExit in a callback: it must not end the thread
        _log.exception("a callback of a result failed")


def closed_error() -> BackendError:
    """Return what a closed Runtime raises."""
    return BackendError("this Runtime is closed", remedy="open a new one, or call it inside its 'with' block")
