"""What tasks cost beside their engine: masks of 100 objects, suppression of 2,000 oriented boxes, each task's read-out.

``python task_decoding.py`` prints medians in ms with made outputs; ``python task_decoding.py MODEL …`` a frame of
1280x720 through the Runtime over the bare engine, both in turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import cv2
import numpy as np

from yolo12edge import Runtime, Thresholds
from yolo12edge.imaging import plan_letterbox, rotated_nms
from yolo12edge.imaging.mask_decoding import decode_masks

_FRAME_HW = (720, 1280)


def timed(work: Callable[[], object], times: int = 50) -> float:
    """Return the median time in ms."""
    taken = []
    for _ in range(times + 5):
        begun = perf_counter()
        work()
        taken.append((perf_counter() - begun) * 1e3)
    return median(taken[5:])


def masks(side: float, count: int = 100) -> float:
    """Return what masks of so many objects of about this side, in pixels of the frame, take."""
    rng = np.random.default_rng(0)
    height, width = _FRAME_HW
    centre = rng.uniform(0, 1, (count, 2)) * (width, height)
    half = rng.uniform(0.5, 1.5, (count, 2)) * side / 2
    boxes = np.clip(np.concatenate((centre - half, centre + half), axis=1), 0, (width, height, width, height))
    coefficients = rng.standard_normal((count, 32)).astype(np.float32)
    prototypes = cv2.GaussianBlur(rng.standard_normal((160, 160, 32)).astype(np.float32), (0, 0), 3).transpose(2, 0, 1)
    letterbox, xyxy = plan_letterbox(_FRAME_HW, (640, 640)), boxes.astype(np.float32)
    prototypes = np.ascontiguousarray(prototypes)
    return timed(lambda: decode_masks(coefficients, prototypes, xyxy, letterbox))


def suppression(objects: int, each: int, spread: float) -> float:
    """Return what suppressing so many boxes around each of so many objects takes, over 1024 x 1024 pixels."""
    rng = np.random.default_rng(0)
    sides = rng.uniform((12, 8), (80, 40), (objects, 2))
    true = np.c_[rng.uniform(0, 1024, (objects, 2)), sides, rng.uniform(-0.78, 2.35, objects)]
    noise = np.c_[rng.normal(0, spread, (objects * each, 4)), rng.normal(0, spread / 40, objects * each)]
    boxes = (np.repeat(true, each, axis=0) + noise).astype(np.float32)
    scores = rng.random(len(boxes)).astype(np.float32)
    classes = np.repeat(rng.integers(0, 15, objects), each)
    return timed(lambda: rotated_nms(boxes, scores, iou_threshold=0.7, class_id=classes))


def frame_over_engine(model: str) -> str:
    """Return the time of a frame over that of the bare engine, with few objects, up to 100 and up to 300."""
    rng = np.random.default_rng(0)
    frame = cv2.resize(rng.integers(0, 256, (90, 160, 3)).astype(np.uint8), _FRAME_HW[::-1])
    parts = []
    with Runtime(model) as runtime:
        feeds = {runtime.manifest.input.name: runtime.preprocessor(frame)[0]}
        for most in (20, 100, 300):
            thresholds = Thresholds(confidence=0.01, max_detections=most)
            engine, whole, found = [], [], 0
            for _ in range(60):
                begun = perf_counter()
                runtime.infer(feeds)
                between = perf_counter()
                found = len(runtime(frame, thresholds=thresholds))
                engine.append(between - begun)
                whole.append(perf_counter() - between)
            ratio = median(whole[10:]) / median(engine[10:])
            parts.append(f"{ratio:.3f} with {found} found (engine {median(engine[10:]) * 1e3:.1f} ms)")
        return f"{Path(model).name}, {runtime.manifest.task}, {runtime.engine}: {'; '.join(parts)}"


if sys.argv[1:]:
    for name in sys.argv[1:]:
        print(frame_over_engine(name))
else:
    for side in (60, 120, 250):
        print(f"masks of 100 objects of {side} px at 1280x720: {masks(side):.1f} ms")
    for objects, each, spread in ((100, 20, 1.0), (100, 20, 2.0), (400, 5, 1.0), (20, 100, 1.0), (2000, 1, 1.0)):
        print(f"2,000 oriented boxes, {each} around each of {objects}: {suppression(objects, each, spread):.1f} ms")
