"""Kill a worker of a local Ray cluster in the middle of its work, and compare what comes back with one process alone.

python benchmarks/cluster_loss.py MODEL FOLDER [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import numpy as np

from yolo12edge.cluster import look
from yolo12edge.sources import find_media
from yolo12edge.thresholds import Thresholds


def workers_of_cluster() -> list[int]:
    """Return the processes that this one has started and that look at pictures for Ray Data."""
    parents, workers = {}, []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        if command.startswith(b"ray::") and b"MapWorker" in command:
            workers.append(int(folder.name))

    def ours(number: int) -> bool:
        while number in parents and number != os.getpid():
            number = parents[number]
        return number == os.getpid()

    return [number for number in workers if ours(number)]


def main() -> None:
    """Print what was lost, and how long both took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    pictures = [item.path for item in find_media([options.folder]) if item.kind == "image"]
    thresholds = Thresholds()
    start = time.monotonic()
    alone = list(look(options.model, pictures, thresholds=thresholds))
    middle = time.monotonic()
    together, killed = [], 0
    for entry in look(options.model, pictures, thresholds=thresholds, cluster="local", workers=options.workers):
        together.append(entry)
        if not killed and (workers := workers_of_cluster()):
            killed = workers[0]
            os.kill(killed, signal.SIGKILL)
            print(f"killed worker {killed} after {len(together)} of {len(pictures)} pictures")
    end = time.monotonic()
    together.sort(key=lambda entry: entry.index)
    same = sum(
        one.index == other.index
        and one.detections is not None
        and other.detections is not None
        and np.array_equal(one.detections.xyxy, other.detections.xyxy)
        for one, other in zip(alone, together, strict=False)
    )
    print(f"{len(pictures)} pictures, {len(together)} results, {same} the same; {len(pictures) - len(together)} lost")
    print(f"alone {middle - start:.1f} s, {options.workers} workers {end - middle:.1f} s, with Ray's start")


if __name__ == "__main__":
    main()
