"""Times the peer's own ``predict``, in its environment: ``python ultralytics_predict.py MODEL FRAME SIZE``.

After "ready", each line on standard input is one frame, answered by a line of JSON. Engine settings are its own: as
many threads as there are cores.
"""

from __future__ import annotations

import json
import sys
import time

import cv2
from ultralytics import YOLO

model, picture, size = sys.argv[1:]
frame = cv2.imread(picture)
detector = YOLO(model, task="detect")
settings = {"imgsz": int(size), "device": "cpu", "conf": 0.25, "iou": 0.7, "verbose": False}
detector.predict(frame, **settings)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    (found,) = detector.predict(frame, **settings)
    milliseconds = (time.perf_counter() - start) * 1e3
    print(json.dumps({"ms": milliseconds, "detections": len(found.boxes)}), flush=True)
