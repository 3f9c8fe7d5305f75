"""Running other programs, with the time and the memory that they took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["CommandError", "Cost", "run_command", "yolo12edge"]

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: Wall time, start of the interpreter included.
        peak_mb: Largest resident memory of the process, in 10^6 bytes; what its own children took is left out.
        code: Exit code.
    """

    seconds: float
    peak_mb: float
    code: int


class CommandError(RuntimeError):
    """A command failed; the message is the end of what it printed."""


def run_command(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, allowed: Sequence[int] = (0,)
) -> Cost:
    """Run a command and wait for its end.

    Args:
        command: Program and arguments.
        env: Environment; None takes this process's own.
        allowed: Exit codes that are not failures; a traceback always is one.

    Raises:
        CommandError: If it cannot be started or ends with another code.
    """
    line = [str(part) for part in command]
    print("$", " ".join(line), file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder, "report"), Path(folder, "log")
        with log.open("wb") as output:
            watcher = [sys.executable, __file__, report, *line]
            subprocess.run(watcher, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env)
        said = log.read_text(encoding="utf-8", errors="replace").strip()
        if not report.is_file():
            raise CommandError(f"the command cannot be started: {said[-3000:]}")
        cost = Cost(**json.loads(report.read_text(encoding="utf-8")))
    if cost.code and (cost.code not in allowed or "Traceback (most recent call last)" in said):
        raise CommandError(f"exit code {cost.code}: {said[-3000:]}")
    return cost


def _watch(report: Path, command: Sequence[str]) -> None:
    """Run a command and write what it took.

    This is done in a small process of its own, because Linux counts into a child's peak what its parent held when it
    was forked.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    report.write_text(json.dumps(asdict(Cost(seconds, usage.ru_maxrss * unit / 1e6, process.returncode))))


def yolo12edge(*arguments: str | Path, allowed: Sequence[int] = (0,)) -> Cost:
    """Run this checkout's command line, in the interpreter that runs this."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "yolo12edge", *arguments]
    return run_command(command, env={**os.environ, "PYTHONPATH": path}, allowed=allowed)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), sys.argv[2:])
