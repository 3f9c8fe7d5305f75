from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.masks import Masks


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


def of_tasks(count: int = 3) -> dict[str, Detections]:
    """Detections of each task with other values in each row."""
    rng = np.random.default_rng(count)
    plain = (rng.random((count, 4)) * 20, rng.random(count), np.arange(count) % 2)
    full = rng.random((count, 6, 8)) < 0.5
    return {
        "segment": Detections(*plain, mask=Masks.of_full(full)),
        "pose": Detections(*plain, keypoints=rng.random((count, 5, 3))),
        "obb": Detections(*plain, obb=rng.random((count, 5))),
        "classify": Detections(*plain, probs=rng.random((count, 2))),
    }


def rows(found: Detections) -> Any:
    """What only the task gives, as one array with a row for each object."""
    if found.mask is not None:
        return found.mask.full()
    return next(value for value in (found.keypoints, found.obb, found.probs) if value is not None)


@pytest.mark.parametrize("task", of_tasks())
def test_what_a_task_adds_is_selected_and_joined_with_the_rest(task: str) -> None:
    found = of_tasks()[task]
    for index in (1, slice(1, None), [2, 0], np.array([True, False, True]), [], slice(0, 0)):
        chosen = np.atleast_1d(np.arange(3)[np.array(index, int) if isinstance(index, list) else index])
        assert np.array_equal(rows(found[index]), rows(found)[chosen])
    joined = Detections.merge([found[2:], found[:2]])
    assert np.array_equal(rows(joined), rows(found)[[2, 0, 1]])
    assert np.array_equal(joined.xyxy, found.xyxy[[2, 0, 1]])
    with pytest.raises(InputError, match="do not go with"):
        Detections.merge([found, Detections.empty()])
    assert len(Detections.merge([found[:0], found[:0]])) == 0


def test_what_a_task_adds_has_as_many_rows() -> None:
    plain = (np.zeros((2, 4)), np.zeros(2), np.zeros(2, int))
    for extra in (
        {"mask": Masks.empty((4, 4))},
        {"keypoints": np.zeros((1, 5, 3))},
        {"keypoints": np.zeros((2, 5, 2))},
        {"obb": np.zeros((2, 4))},
        {"obb": np.zeros((3, 5))},
        {"probs": np.zeros(2)},
    ):
        with pytest.raises(InputError):
            Detections(*plain, **extra)


def test_records_say_what_a_task_adds() -> None:
    found = of_tasks(1)
    records = {task: detections.to_records(["a", "b"])[0] for task, detections in found.items()}
    assert [sorted(set(record) - {"class_id", "class_name", "confidence", "xyxy"}) for record in records.values()] == [
        ["polygons"],
        ["keypoints"],
        ["obb"],
        ["probabilities"],
    ]
    json.dumps(records)
    assert np.allclose(records["pose"]["keypoints"], found["pose"].keypoints[0], atol=0.01)
    assert np.allclose(records["obb"]["obb"], found["obb"].obb[0], atol=0.01)
    assert list(records["classify"]["probabilities"]) == ["a", "b"]
    square = Masks.of_full(np.ones((1, 2, 3), bool))
    lone = Detections(np.zeros((1, 4)), np.zeros(1), np.zeros(1, int), mask=square)
    (ring,) = lone.to_records(["a"])[0]["polygons"]
    assert sorted(map(tuple, ring)) == [(0, 0), (0, 2), (3, 0), (3, 2)]


def test_the_most_probable_classes_come_first() -> None:
    found = Detections(np.zeros((1, 4)), np.ones(1), np.ones(1, int), probs=[[0.1, 0.5, 0.15, 0.25]])
    assert [index for index, _ in found.top_classes(3)] == [1, 3, 2]
    assert found.top_classes(1)[0][1] == 0.5
    with pytest.raises(InputError, match="classify"):
        Detections.empty().top_classes()
