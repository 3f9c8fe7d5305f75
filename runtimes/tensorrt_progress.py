"""How far TensorRT is with building an engine, and stopping it.

Its builder reports phases of so many steps, one inside another. They become one number that only grows. No exception
may pass through the library, whose code is C++: it is kept, the build is stopped, and it is raised afterwards.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

__all__ = ["TOTAL", "BuildProgress", "interruptible"]

TOTAL = 1000
"""Parts that the whole build is divided into."""


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Turns phases and steps into ``progress(done, TOTAL)``.

    Attributes:
        failure: What the callback raised, or None.
    """

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._reported = 0
        self._stopped = False
        self.failure: BaseException | None = None

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(steps, 1))

    def step(self, name: str, step: int) -> bool:
        """A step of a phase, counted from 0, is done; return whether to go on."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
                self._report(min(int(TOTAL * self._fraction(name)), TOTAL - 1))
            return not self._stopped

    def finish(self, name: str) -> None:
        """A phase ends, maybe before its last step."""
        with self._lock:
            self._phases.pop(name, None)

    def complete(self) -> None:
        """The engine is there."""
        with self._lock:
            self._report(TOTAL)

    def stop(self) -> None:
        """Let the next step be the last; called by a signal handler, which must not wait."""
        self._stopped = True

    def monitor(self, trt: ModuleType) -> Any:
        """Return the library's ``IProgressMonitor`` for this build; it must live as long."""
        base: Any = trt.IProgressMonitor
        own = self

        class Monitor(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                own.start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return own.step(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                own.finish(phase_name)

        return Monitor()

    def _fraction(self, name: str) -> float:
        """Return how much of the outermost phase is done, as seen from one inside."""
        phase = self._phases[name]
        fraction = phase.done / phase.steps
        for _ in range(len(self._phases)):  # names may be used again: no chain is longer
            parent = None if phase.parent is None else self._phases.get(phase.parent)
            if parent is None:
                break
            fraction = min(parent.done + fraction, parent.steps) / parent.steps
            phase = parent
        return min(fraction, 1.0)

    def _report(self, done: int) -> None:
        if self._progress is None or done <= self._reported or self._stopped:
            return
        self._reported = done
        try:
            self._progress(done, TOTAL)
        except BaseException as failure:
            self.failure, self._stopped = failure, True


@contextmanager
def interruptible(progress: BuildProgress) -> Iterator[None]:
    """Let Ctrl-C stop the build at its next step instead of raising in the middle of the library's code.

    Signals are the main thread's: elsewhere nothing is changed. Nor where the program ignores Ctrl-C, as one does that
    a shell has started in the background.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    received: list[tuple[int, FrameType | None]] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append((number, frame))
        progress.stop()

    before = signal.signal(signal.SIGINT, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if received and callable(before):
        before(*received[-1])
