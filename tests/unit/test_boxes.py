from __future__ import annotations

import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.imaging import box_area, box_iou, clip_boxes, xywh_from_xyxy, xyxy_from_xywh


def random_boxes(seed: int, count: int) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(0, 100, (count, 2, 2))
    return np.sort(corners, axis=1).reshape(count, 4).astype(np.float32)


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union > 0 else 0.0


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6))
def test_iou_is_that_of_single_pairs(seed: int, n: int, m: int) -> None:
    a, b = random_boxes(seed, n), random_boxes(seed + 1, m)
    expected = [[slow_iou(x.astype(float), y.astype(float)) for y in b] for x in a]
    iou = box_iou(a, b)
    assert iou.dtype == np.float32
    np.testing.assert_allclose(iou, np.array(expected).reshape(n, m), atol=1e-5)


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]], np.float32)
    np.testing.assert_allclose(box_iou(a, b), [[1, 1 / 3, 0, 0.04]], rtol=1e-6)


def test_degenerate_boxes_overlap_nothing_and_do_not_warn() -> None:
    odd = np.array(
        [[5, 5, 5, 5], [9, 9, 1, 1], [np.nan, 0, 5, 5], [-np.inf, 0, np.inf, 5], [0, 0, 3e38, 3e38]], np.float32
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        iou = box_iou(odd, odd)
    assert np.isfinite(iou).all()
    assert iou[0, 0] == iou[1, 1] == iou[2, 2] == 0
    assert (box_area(odd[:2]) == 0).all()


def test_clip_and_conversions() -> None:
    boxes = np.array([[-3, 2, 12, 30]], np.float32)
    assert clip_boxes(boxes, (20, 10)).tolist() == [[0, 2, 10, 20]]
    assert xywh_from_xyxy(boxes).tolist() == [[4.5, 16, 15, 28]]
    assert xyxy_from_xywh(xywh_from_xyxy(boxes)).tolist() == boxes.tolist()
    assert xywh_from_xyxy(np.zeros((0, 4), np.float32)).shape == (0, 4)
