from __future__ import annotations

import importlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.errors import InputError
from yolo12edge.imaging import nms


def naive(boxes: np.ndarray, scores: np.ndarray, threshold: str, class_id: np.ndarray | None, limit: int) -> list[int]:
    """Greedy suppression over whole-number boxes, box by box, in exact whole-number arithmetic."""
    left, top, right, bottom = boxes.astype(np.int64).T
    area = (right - left) * (bottom - top)
    over, under = Fraction(threshold).as_integer_ratio()
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        width = np.minimum(right[kept], right[i]) - np.maximum(left[kept], left[i])
        height = np.minimum(bottom[kept], bottom[i]) - np.maximum(top[kept], top[i])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        union = area[kept] + area[i] - overlap
        suppresses = overlap * under > union * over
        if class_id is not None:
            suppresses &= class_id[kept] == class_id[i]
        if not suppresses.any():
            kept.append(i)
    return kept[:limit]


def scene(seed: int, count: int, span: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, span, (count, 2))
    boxes = np.concatenate((corner, corner + rng.integers(0, 30, (count, 2))), axis=1).astype(np.float32)
    scores = rng.integers(0, 12, count).astype(np.float32) / 12  # many ties
    return boxes, scores, rng.integers(0, 4, count)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 120),
    st.sampled_from([10, 40, 150]),
    st.sampled_from(["0", "0.25", "0.5", "0.7", "1"]),
    st.booleans(),
    st.sampled_from([1, 5, 300]),
)
def test_equals_the_naive_form(seed: int, count: int, span: int, threshold: str, aware: bool, limit: int) -> None:
    boxes, scores, classes = scene(seed, count, span)
    class_id = classes if aware else None
    kept = nms(boxes, scores, iou_threshold=float(threshold), class_id=class_id, max_detections=limit)
    assert kept.dtype == np.int64
    assert kept.tolist() == naive(boxes, scores, threshold, class_id, limit)


@pytest.mark.parametrize("aware", [False, True])
def test_equals_the_naive_form_over_several_chunks(aware: bool) -> None:
    boxes, scores, classes = scene(3, 800, 300)
    class_id = classes if aware else None
    kept = nms(boxes, scores, iou_threshold=0.3, class_id=class_id, max_detections=2000)
    assert len(kept) > 300
    assert kept.tolist() == naive(boxes, scores, "0.3", class_id, 2000)


def test_class_aware_is_agnostic_class_by_class() -> None:
    boxes, _, classes = scene(5, 400, 60)
    scores = np.random.default_rng(0).permutation(400).astype(np.float32)
    together = nms(boxes, scores, iou_threshold=0.4, class_id=classes, max_detections=1000)
    apart = []
    for class_id in range(4):
        mine = np.flatnonzero(classes == class_id)
        apart.extend(mine[nms(boxes[mine], scores[mine], iou_threshold=0.4, max_detections=1000)])
    assert sorted(together.tolist()) == sorted(apart)
    assert (np.diff(scores[together]) < 0).all()


def test_order_of_candidates_does_not_matter() -> None:
    boxes, _, classes = scene(7, 500, 80)
    rng = np.random.default_rng(1)
    scores = rng.permutation(500).astype(np.float32)
    expected = nms(boxes, scores, iou_threshold=0.5, class_id=classes)
    for _ in range(3):
        shuffle = rng.permutation(500)
        kept = nms(boxes[shuffle], scores[shuffle], iou_threshold=0.5, class_id=classes[shuffle])
        assert shuffle[kept].tolist() == expected.tolist()


def test_equal_iou_survives_and_greater_falls() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU exactly 0.5
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, iou_threshold=0.5).tolist() == [0, 1]
    assert nms(boxes, scores, iou_threshold=0.499).tolist() == [0]


def test_ties_go_to_the_lower_index() -> None:
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (600, 1))
    assert nms(boxes, np.full(600, 0.5, np.float32), iou_threshold=0.5).tolist() == [0]


def test_large_coordinates_keep_classes_apart_and_stay_exact() -> None:
    # Moving class c by c * (largest coordinate) would round these one-pixel boxes away in float32.
    base = 8_000_000
    boxes = np.array([[base, base, base + 4, base + 4], [base + 2, base, base + 6, base + 4]], np.float32)
    boxes = np.tile(boxes, (80, 1))
    scores = np.linspace(1, 0.1, 160, dtype=np.float32)
    classes = np.repeat(np.arange(80), 2)
    assert len(nms(boxes, scores, iou_threshold=0.3, class_id=classes)) == 80  # IoU 1/3: one of each pair
    assert len(nms(boxes, scores, iou_threshold=0.34, class_id=classes)) == 160


def test_a_nan_box_suppresses_nothing() -> None:
    boxes = np.array([[np.nan] * 4, [0, 0, 9, 9], [-np.inf, 0, np.inf, 9], [0, 0, 9, 9]], np.float32)
    kept = nms(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32), iou_threshold=0.5)
    assert kept.tolist() == [0, 1, 2]


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="shapes"):
        nms(np.zeros((3, 4), np.float32), np.zeros(2, np.float32), iou_threshold=0.5)
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), iou_threshold=0.5).shape == (0,)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(0, 140), st.booleans(), st.integers(1, 150))
def test_few_candidates_are_settled_as_many_are(seed: int, count: int, agnostic: bool, limit: int) -> None:
    module = importlib.import_module("yolo12edge.imaging.nms")
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(-1, 40, (count, 2))), axis=1).astype(np.float32)
    boxes[rng.random((count, 4)) < 0.02] = rng.choice([np.nan, np.inf, -np.inf])
    scores = rng.integers(0, 10, count).astype(np.float32) / 10
    class_id = None if agnostic else rng.integers(0, 3, count)
    found = module.nms(boxes, scores, iou_threshold=0.4, class_id=class_id, max_detections=limit)
    small, module._SMALL = module._SMALL, -1
    try:
        expected = module.nms(boxes, scores, iou_threshold=0.4, class_id=class_id, max_detections=limit)
    finally:
        module._SMALL = small
    np.testing.assert_array_equal(found, expected)
