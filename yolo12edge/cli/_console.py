"""What all commands print through: messages, results, progress.

Messages and progress go to stderr, results to stdout, so that ``--json`` output can be piped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Steps", "console", "free_folder", "out", "plain", "progress"]

console = Console(stderr=True, highlight=False)
"""Messages, warnings and progress."""

out = Console(highlight=False)
"""Results: tables, JSON."""

_SPARSE_SECONDS = 10.0


class _RateColumn(ProgressColumn):
    """Steps per second, or seconds per step where that reads better."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate as text; a dash before the first step."""
        return Text(_rate(task.finished_speed or task.speed, self.unit), style="cyan")


def _rate(speed: float | None, unit: str) -> str:
    if not speed:
        return "-"
    return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit.removesuffix('s')}"


class Steps:
    """Handle that a long step reports to; see :func:`progress`.

    Attributes:
        done: Steps done so far.
        total: Steps in all, or None where that is not known.
    """

    def __init__(self, description: str, total: int | None, unit: str, bar: Progress | None) -> None:
        self.description = description
        self.done = 0
        self.total = total
        self._unit = unit
        self._note = ""
        self._bar = bar
        self._task = bar.add_task(description, total=total, note="") if bar else None
        self._begin = self._printed = time.monotonic()
        self._shown = -1

    def advance(self, count: int = 1, *, note: str | None = None) -> None:
        """Count steps as done.

        Args:
            count: How many more are done.
            note: Short text behind the numbers, such as a loss; None keeps the one before.
        """
        self.update(self.done + count, note=note)

    def update(self, done: int, total: int | None = None, *, note: str | None = None) -> None:
        """Set how many steps are done; has the form of a ``callback(done, total)``.

        Args:
            done: Steps done so far.
            total: Steps in all, where that has changed or become known.
            note: As in :meth:`advance`.
        """
        self.done = done
        self.total = self.total if total is None else total
        if self._bar is not None and self._task is not None:
            self._note = self._note if note is None else note
            self._bar.update(self._task, completed=done, total=self.total, note=self._note)
            return
        now = time.monotonic()
        if now - self._printed >= _SPARSE_SECONDS:
            self._printed = now
            self._line(now, note)

    def _line(self, now: float, note: str | None = None) -> None:
        self._shown = self.done
        seconds = max(now - self._begin, 1e-9)
        of = f" of {self.total}" if self.total is not None else ""
        rate = _rate(self.done / seconds, self._unit) if self._unit else ""
        left = f", {(self.total - self.done) * seconds / self.done:.0f} s left" if self.total and self.done else ""
        finished = self.total is not None and self.done >= self.total
        done = f"{self.done}{of}" if self._unit else f"{100 * self.done // (self.total or 100)} %"
        time_text = f", {seconds:.0f} s" if finished else left
        console.print(
            f"{self.description}: {done} ({f'{rate}{time_text}'.removeprefix(', ') or '-'})"
            + (f" {note}" if note else ""),
            markup=False,
            soft_wrap=True,
        )

    def _close(self) -> None:
        if self._bar is None and self._shown != self.done:
            self._line(time.monotonic())


@contextmanager
def progress(description: str, total: int | None = None, *, unit: str = "it") -> Iterator[Steps]:
    """Show a progress bar with m of n, rate and time left; plain sparse lines off a terminal.

    Args:
        description: What is being done, such as ``Calibrating``.
        total: Steps in all; None where that is not known.
        unit: What one step is, for the rate: ``images`` gives "12.3 images/s". Empty where steps are parts of a
            whole that say nothing themselves: per cent are shown then, and no rate.

    Yields:
        The handle to report to: ``steps.advance()`` or ``steps.update(done, total)``.
    """
    if not console.is_terminal:
        steps = Steps(description, total, unit, None)
        yield steps
        steps._close()
        return
    columns = (
        TextColumn("[bold]{task.description}", markup=True),
        BarColumn(bar_width=None),
        *((MofNCompleteColumn(), _RateColumn(unit)) if unit else (TaskProgressColumn(),)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        yield Steps(description, total, unit, bar)


def plain(value: object, style: str = "") -> Text:
    """Return text without markup; what cannot be printed, such as a terminal's escape codes, is spelled out."""
    visible = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(value))
    return Text(visible, style=style)


def free_folder(wanted: Path) -> Path:
    """Return the folder, or the first of ``NAME-2``, ``NAME-3``, … that is not there yet."""
    folder, number = wanted, 2
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder
