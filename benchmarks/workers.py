"""Processes that answer each line with the time of one frame, so that rivals can be timed in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["Worker"]


class Worker:
    """A process that times one frame whenever it is asked.

    Args:
        command: What to start; it prints "ready" when it is.

    Raises:
        RuntimeError: If it ends before.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        # The peers' packages must not be looked for among this project's.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"},
        )
        self.detections = 0
        while (line := self._read()) != "ready":
            print(line, file=sys.stderr)

    def frame(self) -> float:
        """Return the time of one frame in milliseconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = json.loads(self._read())
        self.detections = answer["detections"]
        return float(answer["ms"])

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended: {self._process.communicate()[1][-2000:]}")
        return line.strip()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
