from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.detections import Detections
from yolo12edge.errors import InputError


def numbered(count: int) -> Detections:
    """Object i has left edge i, confidence i / count and class 10 + i."""
    ids = np.arange(count)
    return Detections(np.stack([ids, ids, ids + 1, ids + 2], axis=1).reshape(count, 4), ids / max(count, 1), ids + 10)


def ids(detections: Detections) -> list[int]:
    assert detections.xyxy[:, 0].tolist() == (detections.class_id - 10).tolist()
    return [int(value) for value in detections.class_id - 10]


def test_types_and_shapes_are_fixed_on_creation() -> None:
    made = Detections([[0, 1, 2, 3]], [1], [7])  # type: ignore[arg-type]
    assert (made.xyxy.dtype, made.confidence.dtype, made.class_id.dtype) == (np.float32, np.float32, np.int64)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("xyxy", "confidence", "class_id"),
    [
        (np.zeros((2, 5)), np.zeros(2), np.zeros(2, int)),
        (np.zeros(4), np.zeros(4), np.zeros(4, int)),
        (np.zeros(()), np.zeros(0), np.zeros(0, int)),
        (np.zeros((2, 4)), np.zeros(3), np.zeros(2, int)),
        (np.zeros((2, 4)), np.zeros(2), np.zeros(1, int)),
        (np.zeros((2, 4)), np.zeros((2, 1)), np.zeros(2, int)),
        (np.zeros((1, 4)), np.zeros(1), np.array([1.5])),
        (np.zeros((1, 4)), np.zeros(1), ["cat"]),
        ([[0, 1, 2, 3], [0]], np.zeros(2), np.zeros(2, int)),
        (None, np.zeros(1), np.zeros(1, int)),
    ],
)
def test_wrong_arrays_are_refused(xyxy: Any, confidence: Any, class_id: Any) -> None:
    with pytest.raises(InputError):
        Detections(xyxy, confidence, class_id)


def test_empty() -> None:
    none = Detections.empty()
    assert len(none) == 0
    assert none.xyxy.shape == (0, 4)
    assert not none
    assert list(none) == []
    assert none.to_records([]) == []
    assert len(none[none.confidence > 0.5]) == 0
    assert len(none[[]]) == 0


def test_indexing_always_gives_detections() -> None:
    five = numbered(5)
    assert ids(five[1]) == [1]
    assert ids(five[-1]) == [4]
    assert ids(five[np.int64(2)]) == [2]
    assert ids(five[1:4]) == [1, 2, 3]
    assert ids(five[::-1]) == [4, 3, 2, 1, 0]
    assert ids(five[[3, 0]]) == [3, 0]
    assert ids(five[np.array([4, 4])]) == [4, 4]
    assert ids(five[five.confidence > 0.5]) == [3, 4]
    assert ids(five[[True, False, False, False, True]]) == [0, 4]
    assert ids(five[[]]) == []
    assert [ids(one) for one in five] == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("index", [5, -6, [0, 5], [True], np.array([0.0])])
def test_index_that_does_not_fit_is_an_index_error(index: Any) -> None:
    with pytest.raises(IndexError):
        numbered(5)[index]


@given(st.lists(st.integers(0, 5), max_size=6), st.data())
def test_indexing_agrees_with_a_list(counts: list[int], data: st.DataObject) -> None:
    merged = Detections.merge(numbered(count) for count in counts)
    plain = [i for count in counts for i in range(count)]
    assert ids(merged) == plain
    mask = data.draw(st.lists(st.booleans(), min_size=len(plain), max_size=len(plain)))
    assert ids(merged[np.array(mask, dtype=bool)]) == [i for i, keep in zip(plain, mask, strict=True) if keep]
    part = data.draw(st.slices(len(plain)))
    assert ids(merged[part]) == plain[part]


def test_merge_of_nothing_is_empty() -> None:
    assert len(Detections.merge([])) == 0


def test_records_are_json() -> None:
    made = Detections(np.array([[0.123456, 1, 2, 3]]), np.array([0.987654321]), np.array([1]))
    records = json.loads(json.dumps(made.to_records(["cat", "dog"])))
    assert records == [{"class_id": 1, "class_name": "dog", "confidence": 0.98765, "xyxy": [0.12, 1.0, 2.0, 3.0]}]


@pytest.mark.parametrize("class_id", [2, -1])
def test_records_refuse_a_class_without_a_name(class_id: int) -> None:
    made = Detections(np.zeros((1, 4)), np.zeros(1), np.array([class_id]))
    with pytest.raises(InputError, match="class"):
        made.to_records(["cat", "dog"])
