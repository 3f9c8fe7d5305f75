"""Times the peer's own ``predict``, in its environment: ``python ultralytics_predict.py MODEL FRAME SIZE``.

After "ready", each line on standard input is one frame, answered by a line of JSON. Engine settings are its own: as
many threads as there are cores. Only the precision is set: where a processor has bfloat16, OpenVINO left to itself
computes FP32 models in it, which would be another comparison.
"""

from __future__ import annotations

import json
import sys
import time

import cv2
import openvino
from ultralytics import YOLO

compile_model = openvino.Core.compile_model


def compile_in_float32(core, model, device_name=None, config=None, **options):  # type: ignore[no-untyped-def]
    """Do what ``Core.compile_model`` does, in float32."""
    return compile_model(core, model, device_name, {**(config or {}), "INFERENCE_PRECISION_HINT": "f32"}, **options)


openvino.Core.compile_model = compile_in_float32

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
