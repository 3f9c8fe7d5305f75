"""Starting a model in a fresh process: how long that takes and how much memory it needs.

This module is also what runs there: ``python -m yolo12edge.benchmark.fresh_process``. The system's cache of files is
left as it is, so these are starts with the files in memory.
"""

from __future__ import annotations

import sys
import time

_BEGIN = time.perf_counter()  # before anything else is imported

import json  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from ..errors import BackendError, Yolo12EdgeError  # noqa: E402

__all__ = ["start_fresh"]

_TIMEOUT_S = 300.0
_MORE_FRAMES = 10
_FIRST, _LAST = "@first ", "@last "


def start_fresh(model: Path, frame: npt.NDArray[np.uint8], *, device: str, threads: int | None) -> dict[str, float]:
    """Open a model in a new Python process, detect in a few frames, and return what it took.

    Args:
        model: What ``Runtime`` opens.
        frame: uint8, shape (height, width, 3), BGR.
        device: As ``Runtime`` takes it.
        threads: As ``Runtime`` takes it.

    Returns:
        ``import_ms``, ``load_ms``, ``first_ms``, ``to_detections_ms``, ``loaded_bytes`` and ``peak_bytes``; the
        latter two are 0 where the system does not tell.

    Raises:
        BackendError: If the process fails or takes more than five minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "frame.npy"
        np.save(picture, frame)
        arguments = json.dumps({"model": str(model), "frame": str(picture), "device": device, "threads": threads})
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            lines, error, first_seen = _follow(process, begin)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()
    if _FIRST not in lines or _LAST not in lines:
        raise BackendError(
            f"a fresh process could not run {model} (exit status {process.returncode}): {error.strip()[-1000:]}"
        )
    return {**json.loads(lines[_FIRST]), **json.loads(lines[_LAST]), "to_detections_ms": 1e3 * first_seen}


def _follow(process: subprocess.Popen[str], begin: float) -> tuple[dict[str, str], str, float]:
    """Read what the process says until it ends; note when it had its first detections."""
    import threading

    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    watchdog = threading.Timer(_TIMEOUT_S, process.kill)
    watchdog.start()
    found: dict[str, str] = {}
    first_seen = 0.0
    try:
        for line in process.stdout:  # engines may print too
            for mark in (_FIRST, _LAST):
                if line.startswith(mark):
                    found[mark] = line.removeprefix(mark)
                    first_seen = first_seen or time.perf_counter() - begin
        process.wait()
        reader.join(5)
    finally:
        watchdog.cancel()
    return found, "".join(errors), first_seen


def _memory() -> tuple[int, int]:
    """Return resident memory now and at most, in bytes; 0 where not known."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return (int(fields["VmRSS"].split()[0]) << 10, int(fields["VmHWM"].split()[0]) << 10)
    except (OSError, KeyError, ValueError):
        pass
    if sys.platform == "darwin":
        import resource

        return 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0, 0


def _main(arguments: dict[str, Any]) -> None:
    from ..runtimes import Runtime

    frame = np.load(arguments["frame"], allow_pickle=False)
    imported = time.perf_counter()
    with Runtime(arguments["model"], device=arguments["device"], threads=arguments["threads"], warmup=0) as runtime:
        loaded = time.perf_counter()
        loaded_bytes, _ = _memory()
        runtime(frame)
        done = time.perf_counter()
        times = (("import_ms", _BEGIN, imported), ("load_ms", imported, loaded), ("first_ms", loaded, done))
        print(_FIRST + json.dumps({name: 1e3 * (end - start) for name, start, end in times}), flush=True)
        for _ in range(_MORE_FRAMES):
            runtime(frame)
        print(_LAST + json.dumps({"loaded_bytes": loaded_bytes, "peak_bytes": _memory()[1]}), flush=True)


if __name__ == "__main__":
    try:
        _main(json.loads(sys.argv[1]))
    except Yolo12EdgeError as error:
        sys.exit(str(error))
