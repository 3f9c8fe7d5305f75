"""Threads that wait in native code, and are ended before the interpreter is."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from threading import Thread

__all__ = ["start"]

_running: dict[Thread, tuple[Callable[[], None], float]] = {}


def start(name: str, work: Callable[[], None], *, stop: Callable[[], None], within_s: float) -> Thread:
    """Run the work in a thread that does not keep the program alive, and return that.

    Args:
        name: Name of the thread.
        work: What it does.
        stop: Asks it to end, from another thread.
        within_s: How long it may take to end, in seconds; the end of the program waits no longer.
    """

    def run() -> None:
        try:
            work()
        finally:
            _running.pop(thread, None)

    # A daemon: Python waits for other threads before it asks anybody to stop.
    thread = Thread(target=run, name=name, daemon=True)
    _running[thread] = stop, within_s
    thread.start()
    return thread


@atexit.register
def _stop_all() -> None:
    """End the threads: one that comes back from native code while the interpreter ends aborts the whole program."""
    threads = [(thread, *ends) for thread, ends in list(_running.items()) if thread.is_alive()]
    for _, stop, _ in threads:
        stop()
    for thread, _, within_s in threads:
        thread.join(within_s)
