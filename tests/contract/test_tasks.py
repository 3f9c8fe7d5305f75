"""What every backend promises for every task, with one body for all of them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from yolo12edge import Runtime
from yolo12edge.detections import Detections
from yolo12edge.imaging import box_iou, draw_detections, rotated_iou
from yolo12edge.manifest import TASKS
from yolo12edge.thresholds import Thresholds

KEEP = Thresholds(confidence=0.3)
PARTS = {"detect": None, "segment": "mask", "classify": "probs", "pose": "keypoints", "obb": "obb"}


@pytest.fixture(params=["onnxruntime", "openvino", "torch"])
def kind(request):
    return request.param


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


@pytest.fixture(scope="session")
def artifact_of(tmp_path_factory, tiny_checkpoint_of, tiny_onnx_of, scene_frames):
    """A function from backend and task to what the Runtime opens, made once."""
    folder = tmp_path_factory.mktemp("tasks")

    @cache
    def artifact(kind, task):
        from yolo12edge.exporters import openvino_from_onnx

        if kind == "torch":
            return tiny_checkpoint_of(task)
        onnx = tiny_onnx_of(task)
        if kind == "onnxruntime":
            return onnx
        return openvino_from_onnx(onnx, folder / f"{task}-openvino", images=scene_frames[:2])

    return artifact


@pytest.fixture
def source(kind, task, artifact_of):
    return artifact_of(kind, task)


@pytest.fixture
def reference(task, artifact_of):
    with Runtime(artifact_of("torch", task), device="cpu", threads=1) as opened:
        yield opened


def test_every_backend_does_every_task(runtime, reference, task, scene_frames):
    """One test, because opening an engine takes longer than all that is asked of it."""
    frame = scene_frames[0][:90, :150]
    found = runtime(frame, thresholds=KEEP)
    kept = copied(found)
    check_parts(runtime, task, found, frame)
    nothing = runtime(scene_frames[0], thresholds=Thresholds(confidence=1.0))
    assert len(nothing) == (task == "classify")
    if PARTS[task]:
        assert len(getattr(nothing, PARTS[task])) == len(nothing)
    expected = []
    for each in scene_frames[:3]:
        expected.append(runtime(each, thresholds=KEEP))
        same(expected[-1], reference(each, thresholds=KEEP))
    with runtime.stream(scene_frames[:3], thresholds=KEEP) as stream:
        streamed = [detections for _, detections in stream]
    with ThreadPoolExecutor(3) as pool:
        called = list(pool.map(lambda each: runtime(each, thresholds=KEEP), scene_frames[:3]))
    for ways in (runtime.batch(scene_frames[:3], thresholds=KEEP), streamed, called):
        for detections, single in zip(ways, expected, strict=True):
            same(detections, single)
    identical(found, kept)  # results are the caller's own


def check_parts(runtime, task, found, frame):
    """What belongs to the task is there, lies in the frame, and can be written and drawn."""
    assert runtime.manifest.task == task
    assert len(found) > 0
    own = [name for name in ("mask", "keypoints", "obb", "probs") if getattr(found, name) is not None]
    assert own == ([PARTS[task]] if PARTS[task] else [])
    assert found.xyxy.min() >= 0
    assert (found.xyxy[:, 2:].max(axis=0) <= (150, 90)).all()
    assert (np.diff(found.confidence) <= 0).all()
    assert found.mask is None or found.mask.image_hw == (90, 150)
    assert found.keypoints is None or found.keypoints.shape[1:] == (runtime.manifest.keypoints.count, 3)
    names = runtime.manifest.class_names
    assert len(json.loads(json.dumps(found.to_records(names)))) == len(found)
    assert (draw_detections(frame, found, names, keypoints=runtime.manifest.keypoints) != frame).any()


def same(found: Detections, expected: Detections) -> None:
    """Compare objects with the nearest of the other's: equal scores may change places, and clipped boxes may agree."""
    assert abs(len(found) - len(expected)) <= max(1, len(expected) // 20)  # one may lie at the threshold
    overlap = box_iou(expected.xyxy, found.xyxy) * (expected.class_id[:, None] == found.class_id)
    if expected.obb is not None and found.obb is not None:
        overlap *= rotated_iou(expected.obb, found.obb)
    apart = np.abs(expected.confidence[:, None] - found.confidence)
    near = (overlap - 10 * apart).argmax(axis=1)
    rows = np.arange(len(expected))
    matched = (overlap[rows, near] > 0.98) & (apart[rows, near] < 2e-3)
    assert matched.mean() > 0.95
    a, b = expected[matched], found[near[matched]]
    if a.mask is not None and b.mask is not None:
        both = a.mask.iou(b.mask).diagonal()[a.mask.area() > 20]
        assert both.size == 0 or (both > 0.97).mean() > 0.95
    if a.keypoints is not None and b.keypoints is not None:
        np.testing.assert_allclose(a.keypoints[..., :2], b.keypoints[..., :2], atol=0.1)
        np.testing.assert_allclose(a.keypoints[..., 2], b.keypoints[..., 2], atol=2e-3)
    if a.probs is not None and b.probs is not None:
        np.testing.assert_allclose(a.probs, b.probs, atol=2e-3)


def copied(found: Detections) -> Detections:
    mask = found.mask
    if mask is not None:
        mask = type(mask)(tuple(crop.copy() for crop in mask.crops), mask.offsets.copy(), mask.image_hw)
    arrays = {name: getattr(found, name) for name in ("keypoints", "obb", "probs")}
    return Detections(
        found.xyxy.copy(),
        found.confidence.copy(),
        found.class_id.copy(),
        mask=mask,
        **{name: None if value is None else value.copy() for name, value in arrays.items()},
    )


def identical(found: Detections, expected: Detections) -> None:
    for name in ("xyxy", "confidence", "class_id", "keypoints", "obb", "probs"):
        if getattr(expected, name) is not None:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    if expected.mask is not None and found.mask is not None:
        np.testing.assert_array_equal(found.mask.full(), expected.mask.full())
