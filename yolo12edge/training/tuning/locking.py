"""``Lock``: one process at a time works on a study; the lock of a process that died is free."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ...errors import InputError

__all__ = ["Lock"]


class Lock:
    """Holds ``NAME.lock`` beside a file until ``close``, or until the process ends in whatever way.

    SQLite's own lock is used: it is the system's, on every system.

    Raises:
        InputError: If another process holds it, or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._held = sqlite3.connect(path.with_name(path.name + ".lock"), timeout=0, isolation_level=None)
            self._held.execute("BEGIN EXCLUSIVE")
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_held"):
                self._held.close()
            busy = "locked" in str(error)
            raise InputError(
                f"{path} is in use by another process" if busy else f"{path} cannot be used: {error}",
                remedy="wait for it, or use another --out" if busy else "use another --out",
            ) from error

    def close(self) -> None:
        """Give it back."""
        with closing(self._held):
            pass
