from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.errors import InputError
from yolo12edge.imaging import box_iou, nms
from yolo12edge.imaging.rotated import (
    corners_of_rotated,
    hull_of_rotated,
    probabilistic_iou,
    rotated_iou,
    rotated_nms,
    stretch_rotated,
    wrap_angle,
)

# Whole numbers and neat angles make borders that lie on each other, which is where clipping goes wrong.
WHOLE = st.integers(0, 30).map(float)
SIDE = st.one_of(st.integers(1, 30).map(float), st.floats(0.1, 60))
ANGLE = st.one_of(st.sampled_from([0.0, np.pi / 4, np.pi / 2, -np.pi / 4, np.pi, 0.3, 1e-9]), st.floats(-4, 4))
BOX = st.tuples(st.one_of(WHOLE, st.floats(0, 60)), st.one_of(WHOLE, st.floats(0, 60)), SIDE, SIDE, ANGLE)


def clipped_area(subject: np.ndarray, window: np.ndarray) -> float:
    """Sutherland and Hodgman's polygon clipping, one edge of the window after the other."""
    polygon = [tuple(point) for point in subject]
    for (px, py), (qx, qy) in zip(window, np.roll(window, -1, axis=0), strict=True):
        sides = [(qx - px) * (y - py) - (qy - py) * (x - px) for x, y in polygon]
        out = []
        for i, (point, side) in enumerate(zip(polygon, sides, strict=True)):
            following, other = polygon[(i + 1) % len(polygon)], sides[(i + 1) % len(polygon)]
            if side >= 0:
                out.append(point)
            if side * other < 0:
                t = side / (side - other)
                out.append(tuple(a + t * (b - a) for a, b in zip(point, following, strict=True)))
        polygon = out
        if not polygon:
            return 0.0
    x, y = np.array(polygon).T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)


@settings(max_examples=300)
@given(BOX, BOX, st.floats(-2000, 2000))
def test_exact_overlap_is_that_of_clipped_polygons(a: tuple, b: tuple, shift: float) -> None:
    boxes = np.array([a, b])
    boxes[:, :2] += shift  # far from the origin it is the same
    corners = corners_of_rotated(boxes)
    shared = clipped_area(corners[0] - corners[0, 0], corners[1] - corners[0, 0])
    expected = shared / (a[2] * a[3] + b[2] * b[3] - shared)
    table = rotated_iou(boxes, boxes)
    np.testing.assert_allclose(table[0, 1], expected, atol=3e-6)
    np.testing.assert_allclose(table, table.T, atol=1e-6)
    np.testing.assert_allclose(table.diagonal(), 1, atol=1e-6)


@settings(max_examples=50)
@given(st.lists(BOX, min_size=1, max_size=20))
def test_upright_boxes_overlap_as_boxes_do(boxes: list[tuple]) -> None:
    upright = np.array(boxes, np.float32)
    upright[:, 4] = 0
    hull = hull_of_rotated(upright)
    np.testing.assert_allclose(rotated_iou(upright, upright), box_iou(hull, hull), atol=1e-5)


@settings(max_examples=100)
@given(BOX, st.integers(-3, 3))
def test_the_same_rectangle_has_many_names(box: tuple, turns: int) -> None:
    x, y, width, height, angle = box
    half = np.array([[x, y, width, height, angle + turns * np.pi]])
    quarter = np.array([[x, y, height, width, angle + np.pi / 2]])
    own = np.array([box])
    for other in (half, quarter):
        np.testing.assert_allclose(rotated_iou(own, other), 1, atol=1e-6)
        np.testing.assert_allclose(probabilistic_iou(own, other), 1, atol=1e-3)
        np.testing.assert_allclose(hull_of_rotated(own), hull_of_rotated(other), atol=1e-9)
    wrapped = wrap_angle(half[:, 4])
    assert -np.pi / 4 <= wrapped[0] < 3 * np.pi / 4
    half[:, 4] = wrapped
    np.testing.assert_allclose(hull_of_rotated(own), hull_of_rotated(half), atol=1e-9)


def test_angles_turn_clockwise_in_the_picture() -> None:
    corners = corners_of_rotated(np.array([[10.0, 20.0, 8.0, 2.0, np.pi / 2]]))
    # The right end of the width points down now.
    np.testing.assert_allclose(corners[0], [[11, 16], [11, 24], [9, 24], [9, 16]], atol=1e-12)
    np.testing.assert_allclose(hull_of_rotated(np.array([[10.0, 20.0, 8.0, 2.0, np.pi / 2]])), [[9, 16, 11, 24]])


@settings(max_examples=100)
@given(BOX, st.floats(0.2, 5))
def test_stretching_moves_the_corners(box: tuple, gain: float) -> None:
    boxes = np.array([box])
    np.testing.assert_allclose(
        hull_of_rotated(stretch_rotated(boxes, gain, gain)), hull_of_rotated(boxes) * gain, atol=1e-6
    )
    upright = boxes.copy()
    upright[:, 4] = 0
    stretched = corners_of_rotated(stretch_rotated(upright, gain, 1.5))
    np.testing.assert_allclose(stretched, corners_of_rotated(upright) * (gain, 1.5), atol=1e-6)


def test_what_has_no_area_or_is_not_finite_overlaps_nothing() -> None:
    odd = np.array(
        [[5, 5, 0, 0, 0], [5, 5, -3, 4, 1], [np.nan, 5, 3, 4, 1], [5, 5, np.inf, 4, 1], [5, 5, 3, 4, np.nan]]
    )
    with np.errstate(all="raise", under="ignore"):
        assert not rotated_iou(odd, np.array([[5.0, 5, 3, 4, 0.2]])).any()
        assert not rotated_iou(odd, odd).any()
    assert rotated_iou(odd[:0], odd).shape == (0, 5)


def test_probabilistic_overlap_of_known_gaussians() -> None:
    # Two squares of side s, d apart: Bhattacharyya distance d^2 / (8 s^2 / 12), and nothing for the shape.
    a, b = np.array([[0.0, 0, 6, 6, 0]]), np.array([[3.0, 0, 6, 6, 0.7]])
    expected = 1 - np.sqrt(1 - np.exp(-9 / (8 * 36 / 12)))
    np.testing.assert_allclose(probabilistic_iou(a, b), [expected], atol=1e-5)
    assert probabilistic_iou(a, np.array([[1000.0, 0, 6, 6, 0]]))[0] < 1e-3


def candidates(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    objects = np.c_[rng.uniform(0, 300, (40, 2)), rng.uniform(4, 60, (40, 2)), rng.uniform(-0.8, 2.3, 40)]
    boxes = objects[rng.integers(0, 40, count)] + np.c_[rng.normal(0, 2, (count, 4)), rng.normal(0, 0.1, count)]
    return boxes.astype(np.float32), (rng.integers(1, 90, count) / 90).astype(np.float32), rng.integers(0, 3, count)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 700), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), st.booleans())
def test_suppression_is_the_greedy_one(seed: int, count: int, threshold: float, agnostic: bool) -> None:
    boxes, scores, classes = candidates(seed, count)
    overlap = rotated_iou(boxes, boxes) > np.float32(threshold)
    if not agnostic:
        overlap &= classes[:, None] == classes
    expected: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if not overlap[expected, i].any():
            expected.append(i)
    found = rotated_nms(
        boxes, scores, iou_threshold=threshold, class_id=None if agnostic else classes, max_detections=200
    )
    assert found.tolist() == expected[:200]


def test_suppression_of_upright_boxes_is_that_of_boxes() -> None:
    boxes, scores, classes = candidates(3, 500)
    boxes[:, 2:4] = np.abs(boxes[:, 2:4]) + 1
    boxes[:, 4] = 0
    hulls = hull_of_rotated(boxes).astype(np.float32)
    np.testing.assert_array_equal(
        rotated_nms(boxes, scores, iou_threshold=0.6, class_id=classes),
        nms(hulls, scores, iou_threshold=0.6, class_id=classes),
    )


def test_turned_boxes_whose_hulls_coincide_do_not_suppress_each_other() -> None:
    crossed = np.array([[50, 50, 80, 4, np.pi / 4], [50, 50, 80, 4, -np.pi / 4]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert rotated_nms(crossed, scores, iou_threshold=0.3).tolist() == [0, 1]
    assert rotated_nms(crossed, scores, iou_threshold=0.02).tolist() == [0]


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match=r"\(n, 5\)"):
        rotated_nms(np.zeros((3, 4), np.float32), np.zeros(3, np.float32), iou_threshold=0.5)
    with pytest.raises(InputError, match="class_id"):
        rotated_nms(np.zeros((3, 5), np.float32), np.zeros(3, np.float32), iou_threshold=0.5, class_id=np.zeros(2, int))
