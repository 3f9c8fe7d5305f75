"""Times this project's Runtime in a process of its own: ``python frame_worker.py MODEL FRAME THREADS``.

After "ready", each line on standard input is one frame, answered by a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import cv2

from yolo12edge import Runtime

model, picture, threads = sys.argv[1:]
frame = cv2.imread(picture)
with Runtime(model, device="cpu", threads=int(threads)) as runtime:
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = runtime(frame)
        milliseconds = (time.perf_counter() - start) * 1e3
        print(json.dumps({"ms": milliseconds, "detections": len(found)}), flush=True)
