from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.errors import ArtifactError, InputError
from yolo12edge.imaging import box_iou, plan_letterbox
from yolo12edge.manifest import InputSpec, Manifest, OutputSpec, Provenance
from yolo12edge.postprocess import Postprocessor
from yolo12edge.tasks import selection
from yolo12edge.tasks.detect import decode
from yolo12edge.thresholds import Thresholds


def manifest(classes: int, candidates: int) -> Manifest:
    return Manifest(
        schema_version=1,
        task="detect",
        scale="n",
        variant="v1",
        class_names=[f"class {i}" for i in range(classes)],
        format="onnx",
        precision="fp32",
        input=InputSpec(name="images", batch=1, height=64, width=64),
        outputs=[
            OutputSpec(name="boxes", role="boxes", shape=(1, 4, candidates)),
            OutputSpec(name="scores", role="scores", shape=(1, classes, candidates)),
        ],
        files=[],
        provenance=Provenance(checkpoint_sha256="0" * 64, created="", versions={}),
    )


def candidates(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 600, (2, count))
    boxes = np.concatenate((corner, corner + rng.uniform(1, 60, (2, count)))).astype(np.float32)
    return boxes, (rng.random((classes, count)) ** 3).astype(np.float32)


APART = np.array([[0, 20, 40], [0, 20, 40], [10, 30, 50], [10, 30, 50]], np.float32)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 200), st.integers(1, 5), st.booleans(), st.booleans())
def test_what_is_kept_obeys_the_thresholds(seed: int, count: int, classes: int, agnostic: bool, multi: bool) -> None:
    boxes, scores = candidates(seed, count, classes)
    thresholds = Thresholds(confidence=0.3, iou=0.4, max_detections=50, class_agnostic=agnostic, multi_label=multi)
    found = decode(boxes, scores, thresholds)
    assert len(found) <= 50
    assert (found.confidence >= 0.3).all()
    assert (np.diff(found.confidence) <= 0).all()
    for box, class_id, confidence in zip(found.xyxy, found.class_id, found.confidence, strict=True):
        column = np.flatnonzero((box == boxes.T).all(axis=1))
        assert (scores[class_id, column] == confidence).any()
        if not multi:
            assert (scores[:, column].max(axis=0) == confidence).any()
    overlap = np.triu(box_iou(found.xyxy, found.xyxy) > np.float32(0.4), 1)
    if not agnostic:
        overlap &= found.class_id[:, None] == found.class_id[None]
    assert not overlap.any()


def test_one_label_a_box_unless_all_are_asked_for() -> None:
    scores = np.array([[0.9, 0.1, 0.3], [0.8, 0.2, 0.6], [0.0, 0.7, 0.29]], np.float32)
    best = decode(APART, scores, Thresholds(confidence=0.3))
    assert list(zip(best.class_id.tolist(), best.xyxy[:, 0].tolist(), strict=True)) == [(0, 0), (2, 20), (1, 40)]
    every = decode(APART, scores, Thresholds(confidence=0.3, multi_label=True))
    assert every.class_id.tolist() == [0, 1, 2, 1, 0]
    np.testing.assert_allclose(every.confidence, [0.9, 0.8, 0.7, 0.6, 0.3])


def test_a_score_at_the_threshold_counts() -> None:
    scores = np.array([[0.25, 0.2499, 0.26]], np.float32)
    assert decode(APART, scores, Thresholds(confidence=0.25)).xyxy[:, 0].tolist() == [40, 0]


def test_class_filter_looks_only_at_those_classes() -> None:
    scores = np.array([[0.9, 0.1, 0.3], [0.8, 0.2, 0.6], [0.0, 0.7, 0.29]], np.float32)
    found = decode(APART, scores, Thresholds(confidence=0.25, classes=(2, 1)))
    # The first box is class 0 at its best, but class 1 is what was asked for.
    assert found.class_id.tolist() == [1, 2, 1]
    np.testing.assert_allclose(found.confidence, [0.8, 0.7, 0.6])
    with pytest.raises(InputError, match="no class 3"):
        decode(APART, scores, Thresholds(classes=(0, 3)))


def test_class_agnostic() -> None:
    boxes = np.array([[0, 1], [0, 0], [10, 11], [10, 10]], np.float32)
    scores = np.array([[0.9, 0.0], [0.0, 0.8]], np.float32)
    assert len(decode(boxes, scores, Thresholds(iou=0.5))) == 2
    assert len(decode(boxes, scores, Thresholds(iou=0.5, class_agnostic=True))) == 1


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_dropped(value: float, multi_label: bool) -> None:
    thresholds = Thresholds(confidence=0.0, multi_label=multi_label)
    for row in range(4):
        boxes = APART.copy()
        boxes[row, 1] = value
        found = decode(boxes, np.full((1, 3), 0.5, np.float32), thresholds)
        assert found.xyxy[:, 0].tolist() == [0, 40]
    scores = np.full((1, 3), 0.5, np.float32)
    scores[0, 1] = value
    assert decode(APART, scores, thresholds).xyxy[:, 0].tolist() == [0, 40]


def test_the_cap_keeps_the_best_and_is_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    corner = rng.permutation(1000).astype(np.float32) * 20
    boxes = np.stack((corner, corner, corner + 10, corner + 10))
    scores = rng.integers(1, 30, (3, 1000)).astype(np.float32) / 30  # ties at the limit
    thresholds = Thresholds(confidence=0.0, max_detections=150, multi_label=True)
    uncapped = decode(boxes, scores, thresholds)
    monkeypatch.setattr(selection, "MAX_CANDIDATES", 150)
    capped = decode(boxes, scores, thresholds)
    np.testing.assert_array_equal(capped.xyxy, uncapped.xyxy)
    np.testing.assert_array_equal(capped.class_id, uncapped.class_id)


def test_boxes_come_back_to_the_source() -> None:
    # 128 x 64 into 64 x 64: scaled by a half, 16 rows of padding above.
    letterbox = plan_letterbox((64, 128), (64, 64))
    boxes = np.array([[[10, -5, 0], [20, 10, 2], [20, 30, 60], [30, 90, 9]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.7]]], np.float32)
    found = Postprocessor(manifest(1, 3))({"boxes": boxes, "scores": scores}, [letterbox])[0]
    # The last one lies wholly in the padding.
    assert found.xyxy.tolist() == [[20, 8, 40, 28], [0, 0, 60, 64]]


def test_a_batch_has_one_result_an_image() -> None:
    boxes = np.stack((APART, APART + 5))
    scores = np.array([[[0.9, 0, 0]], [[0, 0.8, 0.7]]], np.float32)
    letterbox = plan_letterbox((64, 64), (64, 64))
    post = Postprocessor(manifest(1, 3))
    outputs = {"boxes": boxes, "scores": scores}
    assert [len(found) for found in post(outputs, [letterbox, letterbox])] == [1, 2]
    assert [len(found) for found in post(outputs, [letterbox])] == [1]  # a batch that is not full
    with pytest.raises(InputError, match="letterboxes of 3"):
        post(outputs, [letterbox] * 3)


def test_outputs_must_be_those_of_the_manifest() -> None:
    post = Postprocessor(manifest(2, 3))
    letterbox = plan_letterbox((64, 64), (64, 64))
    good = {"boxes": APART[None], "scores": np.zeros((1, 2, 3), np.float32)}
    assert len(post(good, [letterbox])[0]) == 0
    with pytest.raises(ArtifactError, match="no output 'scores'"):
        post({"boxes": APART[None]}, [letterbox])
    with pytest.raises(ArtifactError, match=r"shape \(1, 3, 4\)"):
        post(good | {"boxes": APART.T[None]}, [letterbox])


@pytest.mark.parametrize(
    "bad",
    [
        {"confidence": -0.1},
        {"confidence": float("nan")},
        {"iou": 1.1},
        {"max_detections": 0},
        {"classes": ()},
        {"classes": (-1,)},
    ],
)
def test_thresholds_are_validated(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Thresholds(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("limit", [1, 300, 3000])
@pytest.mark.parametrize("spread", [20, 600, 5000])
def test_looking_at_the_best_few_first_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, agnostic: bool, limit: int, spread: int
) -> None:
    rng = np.random.default_rng(spread)
    corner = rng.uniform(0, spread, (2, 8400))
    boxes = np.concatenate((corner, corner + rng.uniform(1, 60, (2, 8400)))).astype(np.float32)
    boxes[0, ::97] = np.nan
    scores = rng.integers(0, 50, (3, 8400)).astype(np.float32) / 50  # many are equal
    thresholds = Thresholds(confidence=0.1, iou=0.5, max_detections=limit, class_agnostic=agnostic)
    found = decode(boxes, scores, thresholds)
    monkeypatch.setattr(selection, "_FEW", 10**6)
    whole = decode(boxes, scores, thresholds)
    for name in ("xyxy", "confidence", "class_id"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_boxes_that_the_model_has_suppressed_cannot_be_had_back() -> None:
    boxes, scores = candidates(0, 50, 2)
    outputs = {"boxes": boxes[None], "scores": scores[None]}
    letterboxes = [plan_letterbox((64, 64), (64, 64))]
    suppressing = Postprocessor(msgspec.structs.replace(manifest(2, 50), nms_iou=0.6))
    assert suppressing(outputs, letterboxes, Thresholds(iou=0.6))
    with pytest.raises(InputError, match=r"already suppressed boxes at 0\.6"):
        suppressing(outputs, letterboxes, Thresholds(iou=0.61))
    assert suppressing(outputs, letterboxes, Thresholds().within(0.6))
    assert Thresholds(iou=0.4).within(0.6).iou == 0.4
    assert Thresholds().within(None) == Thresholds()
