"""Whether memory grows with the number of frames: ``python memory_growth.py MODEL FRAMES`` prints by how many MB.

Frames are of three sizes, and every candidate passes the threshold: the most that a Runtime can be made to allocate.
"""

from __future__ import annotations

import sys
from pathlib import Path
from resource import getpagesize

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import numpy as np

from yolo12edge import Runtime, Thresholds

_SIZES = ((720, 1280, 3), (480, 640, 3), (1080, 1920, 3))
_WARMUP = 300


def resident_mb() -> float:
    """Return the resident memory of this process, 10^6 bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize() / 1e6


model, count = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(0)
frames = [random.integers(0, 256, size).astype(np.uint8) for size in _SIZES]
everything = Thresholds(confidence=0.0)
with Runtime(model, device="cpu") as runtime:
    before = 0.0
    for index in range(_WARMUP + count):
        if index == _WARMUP:
            before = resident_mb()
        if index % 50:
            runtime(frames[index % len(frames)], thresholds=everything)
        else:  # some the other way
            with runtime.stream(frames, thresholds=everything) as stream:
                assert len(list(stream)) == len(frames)
    print(resident_mb() - before)
