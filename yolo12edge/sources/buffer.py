"""``FrameBuffer``: hands frames from the thread that reads a source to the one that looks at them."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Any, Literal

import numpy.typing as npt

from ..frame import Frame

__all__ = ["Drop", "FrameBuffer"]

Drop = Literal["none", "oldest"]
"""What happens to frames that come faster than they are taken: the reader waits, or only the newest is kept."""

_AHEAD = 2  # frames read ahead with "none": enough to decode one while another is looked at


class FrameBuffer:
    """A queue of frames and errors between two threads; it numbers the frames.

    Args:
        drop: ``"none"``: ``put`` waits for room. ``"oldest"``: a new frame takes the place of one not yet taken.

    Attributes:
        dropped: Frames whose place was taken.
        reconnects: How often the reader found its source again; counted by the reader.
    """

    def __init__(self, drop: Drop) -> None:
        self.dropped = 0
        self.reconnects = 0
        self._drop = drop
        self._items: deque[Frame | BaseException] = deque()
        self._count = 0
        self._over = False  # nothing more will be put
        self._closed = False  # nothing more will be taken
        self._changed = Condition()

    def put(self, image: npt.NDArray[Any], stamp_ns: int, source: str) -> bool:
        """Add the next frame; return False if nobody will take it, because the buffer is closed."""
        with self._changed:
            if self._drop == "oldest":
                if self._items and isinstance(self._items[-1], Frame):
                    self._items.pop()
                    self.dropped += 1
            else:
                self._changed.wait_for(lambda: self._closed or len(self._items) < _AHEAD)
            if self._closed:
                return False
            self._items.append(Frame(image, self._count, stamp_ns, source))
            self._count += 1
            self._changed.notify_all()
            return True

    def fail(self, error: BaseException) -> None:
        """Add an error, which is raised where the next frame would have been; it is never dropped."""
        with self._changed:
            self._items.append(error)
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def take(self, timeout_s: float | None) -> Frame | None:
        """Wait for the next frame; return None when there will be none.

        Args:
            timeout_s: Longest wait in seconds; None has no limit.

        Raises:
            TimeoutError: If nothing came in that time.
            BaseException: What the reader failed with.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._over or self._closed, timeout_s):
                raise TimeoutError
            if self._closed or not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
        if isinstance(item, Frame):
            return item
        raise item

    def close(self) -> None:
        """End it for both sides; frames that were not taken are let go and not counted as dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def closed_within(self, seconds: float) -> bool:
        """Sleep until the buffer is closed or the seconds are over; say whether it is closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, max(seconds, 0))
