from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.metrics import Target, confusion_matrix, detection_curves, evaluate_detections
from yolo12edge.metrics.matching import Pairs, best_per_class, match_pairs

HW = (200, 200)
BOX = (10.0, 10.0, 50.0, 50.0)
FAR = (120.0, 120.0, 160.0, 160.0)


def found(*objects: tuple[tuple[float, ...], float, int]) -> Detections:
    if not objects:
        return Detections.empty()
    boxes, confidence, class_id = zip(*objects, strict=True)
    return Detections(np.array(boxes), np.array(confidence), np.array(class_id))


def truth(*objects: tuple[tuple[float, ...], int]) -> Target:
    boxes = np.array([box for box, _ in objects], np.float32).reshape(-1, 4)
    return Target(boxes, np.array([class_id for _, class_id in objects], np.int64), HW)


def shifted(box: tuple[float, ...], by: float) -> tuple[float, ...]:
    return (box[0] + by, box[1], box[2] + by, box[3])


# --- an independent, slow, plain reading of COCO's definition ------------------------------------


def naive_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def naive_ap(predictions: list[Detections], targets: list[Target], class_id: int, threshold: float) -> float | None:
    scored: list[tuple[float, bool]] = []
    total = 0
    for detections, target in zip(predictions, targets, strict=True):
        boxes = [box.tolist() for box, c in zip(target.boxes, target.class_id, strict=True) if c == class_id]
        total += len(boxes)
        own = list(zip(detections.xyxy, detections.confidence, detections.class_id, strict=True))
        own = sorted((d for d in own if d[2] == class_id), key=lambda d: -d[1])[:100]
        free = set(range(len(boxes)))
        for box, confidence, _ in own:
            candidates = [(naive_iou(box.tolist(), boxes[i]), i) for i in free]
            iou, best = max(candidates, default=(0.0, -1))
            scored.append((float(confidence), iou >= threshold))
            if iou >= threshold:
                free.remove(best)
    if total == 0:
        return None
    scored.sort(key=lambda pair: -pair[0])
    points, right = [], 0
    for count, (_, hit) in enumerate(scored, start=1):
        right += hit
        points.append((right / total, right / count))
    levels = [max((p for r, p in points if r >= level / 100 - 1e-12), default=0.0) for level in range(101)]
    return sum(levels) / 101


def random_scene(seed: int, *, images: int, classes: int) -> tuple[list[Detections], list[Target]]:
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(images):
        count = int(rng.integers(0, 9))
        corner = rng.uniform(0, 120, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 70, (count, 2))], axis=1).astype(np.float32)
        class_id = rng.integers(0, classes, count)
        targets.append(Target(boxes, class_id, HW))
        copies = np.repeat(np.arange(count), 2)
        noisy = boxes[copies] + rng.normal(0, 4, (len(copies), 4))
        lost_corner = rng.uniform(0, 120, (4, 2))
        lost = np.concatenate([lost_corner, lost_corner + rng.uniform(8, 70, (4, 2))], axis=1)
        wrong = rng.random(len(copies)) < 0.1
        guessed = np.where(wrong, rng.integers(0, classes, len(copies)), class_id[copies])
        xyxy = np.concatenate([noisy, lost])
        confidence = rng.permutation(len(xyxy) * 7)[: len(xyxy)] / (len(xyxy) * 7) + rng.random() * 1e-3
        class_of = np.concatenate([guessed, rng.integers(0, classes, 4)])
        order = np.argsort(-confidence)
        predictions.append(Detections(xyxy[order], confidence[order], class_of[order]))
    return predictions, targets


# --- average precision ---------------------------------------------------------------------------


def test_perfect_detections_score_one() -> None:
    metrics = evaluate_detections(
        [found((BOX, 0.9, 0), (FAR, 0.8, 1)), found()], [truth((BOX, 0), (FAR, 1)), truth()], ["a", "b"]
    )
    assert (metrics.ap, metrics.ap50, metrics.ap75, metrics.ar1) == pytest.approx((1, 1, 1, 1))
    assert (metrics.precision, metrics.recall, metrics.f1) == (1, 1, 1)
    assert (metrics.images, metrics.instances) == (2, 2)


def test_images_and_instances_are_counted_per_class() -> None:
    targets = [truth((BOX, 0), (FAR, 0), (FAR, 1)), truth((BOX, 0)), truth()]
    metrics = evaluate_detections([found(), found(), found()], targets, ["a", "b", "c"])
    assert (metrics.images, metrics.instances) == (3, 4)
    counts = [(entry.name, entry.images, entry.instances) for entry in metrics.per_class]
    assert counts == [("a", 2, 3), ("b", 1, 1), ("c", 0, 0)]


def test_hand_computed_average_precision() -> None:
    # right at .9, wrong at .8, right at .7; two of three objects found:
    # recall ≤ 1/3 → precision 1 (34 of 101 points), ≤ 2/3 → 2/3 (33 points), beyond → 0
    predictions = [found((BOX, 0.9, 0), (FAR, 0.8, 0)), found((BOX, 0.7, 0)), found()]
    targets = [truth((BOX, 0)), truth((BOX, 0)), truth((BOX, 0))]
    metrics = evaluate_detections(predictions, targets, ["a"])
    assert metrics.ap50 == pytest.approx((34 + 33 * 2 / 3) / 101, abs=1e-9)
    assert metrics.ap == pytest.approx(metrics.ap50, abs=1e-9)  # the boxes are exact: no threshold differs
    assert metrics.ar100 == pytest.approx(2 / 3)


def test_overlap_thresholds_are_those_of_coco() -> None:
    # a 40 px box moved by 4.4 px overlaps by 35.6 / 44.4 = 0.802: right at 0.50 … 0.80, wrong at the other three
    metrics = evaluate_detections([found((shifted(BOX, 4.4), 0.9, 0))], [truth((BOX, 0))], ["a"])
    assert metrics.ap == pytest.approx(0.7)
    assert (metrics.ap50, metrics.ap75) == pytest.approx((1.0, 1.0))
    # … by 8 px: 32 / 48 = 0.667, right at 0.50 … 0.65
    metrics = evaluate_detections([found((shifted(BOX, 8), 0.9, 0))], [truth((BOX, 0))], ["a"])
    assert metrics.ap == pytest.approx(0.4)
    assert (metrics.ap50, metrics.ap75) == pytest.approx((1.0, 0.0))


def test_second_detection_of_an_object_is_wrong() -> None:
    metrics = evaluate_detections(
        [found((BOX, 0.9, 0), (BOX, 0.8, 0), (FAR, 0.7, 0))], [truth((BOX, 0), (FAR, 0))], ["a"]
    )
    assert metrics.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_object_sizes_are_measured_in_source_pixels() -> None:
    small, medium, large = (0, 0, 20, 20), (30, 30, 90, 90), (80, 80, 199, 199)
    metrics = evaluate_detections(
        [found((small, 0.9, 0), (large, 0.8, 0))], [truth((small, 0), (medium, 0), (large, 0))], ["a"]
    )
    assert (metrics.ap_small, metrics.ap_medium, metrics.ap_large) == pytest.approx((1, 0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_plain_definition(seed: int) -> None:
    classes = 3
    predictions, targets = random_scene(seed, images=12, classes=classes)
    metrics = evaluate_detections(predictions, targets, ["a", "b", "c"])
    thresholds = [0.5 + 0.05 * step for step in range(10)]
    table = [[naive_ap(predictions, targets, c, t) for t in thresholds] for c in range(classes)]
    values = np.array(table, float)
    assert 0.2 < metrics.ap50 < 0.99  # the scene is neither trivial nor hopeless
    assert metrics.ap == pytest.approx(np.nanmean(values), abs=1e-6)
    assert metrics.ap50 == pytest.approx(np.nanmean(values[:, 0]), abs=1e-6)
    assert metrics.ap75 == pytest.approx(np.nanmean(values[:, 5]), abs=1e-6)
    for entry, row in zip(metrics.per_class, values, strict=True):
        assert entry.ap == pytest.approx(row.mean(), abs=1e-6)
        assert entry.ap50 == pytest.approx(row[0], abs=1e-6)


def test_at_most_a_hundred_detections_of_a_class_count() -> None:
    crowd = [
        ((float(i % 14) * 14, float(i // 14) * 14, i % 14 * 14 + 12.0, i // 14 * 14 + 12.0), i) for i in range(150)
    ]
    target = truth(*((box, 0) for box, _ in crowd))
    everything = found(*((box, 0.9 - i / 1000, 0) for box, i in crowd))
    metrics = evaluate_detections([everything], [target], ["a"])
    assert metrics.ar100 == pytest.approx(100 / 150)
    assert metrics.ap50 == pytest.approx(67 / 101)
    kept = best_per_class(everything)
    assert len(kept) == 100
    assert kept.confidence.min() == pytest.approx(0.801)


def test_limit_per_class_keeps_order_and_other_classes() -> None:
    rng = np.random.default_rng(0)
    many = Detections(rng.random((60, 4)), rng.random(60), rng.integers(0, 3, 60))
    kept = best_per_class(many, 5)
    for index in range(3):
        expected = np.sort(many.confidence[many.class_id == index])[::-1][:5]
        assert np.sort(kept.confidence[kept.class_id == index])[::-1].tolist() == expected.tolist()
    positions = [int(np.flatnonzero(many.confidence == value)[0]) for value in kept.confidence]
    assert positions == sorted(positions)


def test_detection_turned_inside_out_counts_as_wrong() -> None:
    inverted = (60.0, 10.0, 20.0, 50.0)
    metrics = evaluate_detections([found((inverted, 0.9, 0), (BOX, 0.8, 0))], [truth((BOX, 0))], ["a"])
    assert metrics.ap50 == pytest.approx(0.5)


# --- nothing to measure --------------------------------------------------------------------------


def test_class_without_objects_is_left_out_of_the_means() -> None:
    metrics = evaluate_detections([found((BOX, 0.9, 0), (FAR, 0.9, 1))], [truth((BOX, 0))], ["a", "b"])
    assert metrics.ap == pytest.approx(1.0)
    assert metrics.f1 == 1.0
    assert math.isnan(metrics.per_class[1].ap)
    assert math.isnan(metrics.per_class[1].recall)


def test_no_predictions_score_zero() -> None:
    metrics = evaluate_detections([found(), found()], [truth((BOX, 0)), truth()], ["a"])
    assert (metrics.ap, metrics.ap50, metrics.recall, metrics.f1) == (0, 0, 0, 0)
    assert math.isnan(metrics.precision)


@pytest.mark.parametrize("predictions", [[], [found()], [found((BOX, 0.9, 0))]])
def test_no_objects_give_nan_not_a_crash(predictions: list[Detections]) -> None:
    metrics = evaluate_detections(predictions, [truth() for _ in predictions], ["a", "b"])
    assert math.isnan(metrics.ap)
    assert math.isnan(metrics.confidence)
    assert metrics.images == len(predictions)
    as_json = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert as_json["ap"] is None
    assert as_json["per_class"][0]["ap"] is None


def test_to_dict_is_json_and_complete() -> None:
    metrics = evaluate_detections([found((BOX, 0.9, 0))], [truth((BOX, 0))], ["a"])
    as_json = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert as_json["ap50"] == 1.0
    assert as_json["ap_large"] is None
    assert as_json["per_class"] == [
        {"name": "a", "images": 1, "instances": 1, "ap": 1, "ap50": 1, "precision": 1, "recall": 1, "f1": 1}
    ]


def test_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_detections([found((BOX, 0.9, 0))], [truth((BOX, 0))], ["a"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        ([found()], [], "1 images and targets for 0"),
        ([found((BOX, 0.5, 2))], [truth()], "detection of class 2"),
        ([found()], [truth((BOX, -1))], "labelled object of class -1"),
        ([found((BOX, math.nan, 0))], [truth()], "not finite"),
        ([found(((0, 0, math.inf, 1), 0.5, 0))], [truth()], "not finite"),
    ],
    ids=["count", "detected-class", "labelled-class", "nan-confidence", "infinite-box"],
)
def test_unfit_input_is_refused(predictions: list[Detections], targets: list[Target], message: str) -> None:
    for function in (evaluate_detections, detection_curves, confusion_matrix):
        with pytest.raises(InputError, match=message):
            function(predictions, targets, ["a", "b"])


def test_target_checks_its_shapes() -> None:
    with pytest.raises(InputError, match="shape"):
        Target(np.zeros((2, 3), np.float32), np.zeros(2, np.int64), HW)
    with pytest.raises(InputError, match="class_id"):
        Target(np.zeros((2, 4), np.float32), np.zeros(1, np.int64), HW)
    scaled = Target.from_normalised(np.array([[0.5, 0.25, 1, 1]], np.float32), np.zeros(1, np.int64), (100, 400))
    assert scaled.boxes.tolist() == [[200, 25, 400, 100]]
    assert len(Target.from_normalised(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (100, 400))) == 0


# --- matching ------------------------------------------------------------------------------------


def loop_by_confidence(table: npt.NDArray[np.float32], rank: list[int]) -> list[int]:
    """COCO's loop: detections in order of confidence, each takes the best object still free."""
    taken: set[int] = set()
    result = [-1] * table.shape[0]
    for row in rank:
        free = [(float(table[row, c]), c) for c in range(table.shape[1]) if c not in taken and table[row, c] > 0]
        if free:
            result[row] = max(free)[1]
            taken.add(result[row])
    return result


def loop_by_overlap(table: npt.NDArray[np.float32]) -> list[int]:
    """The closest pair still free, again and again."""
    rows, columns = np.nonzero(table)
    result, taken = [-1] * table.shape[0], set()
    for _, row, column in sorted(zip(-table[rows, columns], rows.tolist(), columns.tolist(), strict=True)):
        if result[row] < 0 and column not in taken:
            result[row] = column
            taken.add(column)
    return result


@settings(max_examples=200)
@given(st.integers(0, 9), st.integers(1, 7), st.integers(0, 2**31), st.sampled_from([0.2, 0.6, 1.0]))
def test_matching_is_the_greedy_loop(detections: int, objects: int, seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.permutation(detections * objects).reshape(detections, objects) + 1  # no two overlaps alike
    table = np.where(rng.random((detections, objects)) < density, values, 0).astype(np.float32)
    row, column = np.nonzero(table)
    pairs = Pairs(row, column, table[row, column])

    order = rng.permutation(detections)
    rank = np.argsort(order)
    by_confidence = match_pairs(pairs, rank[row], detections=detections, targets=objects)
    assert by_confidence.tolist() == loop_by_confidence(table, order.tolist())

    priority = np.argsort(np.argsort(-pairs.iou))
    by_overlap = match_pairs(pairs, priority, detections=detections, targets=objects)
    assert by_overlap.tolist() == loop_by_overlap(table)


# --- curves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_area_under_the_precision_recall_curve_is_ap50(seed: int) -> None:
    predictions, targets = random_scene(seed + 50, images=15, classes=3)
    metrics = evaluate_detections(predictions, targets, ["a", "b", "c"])
    areas = metrics.curves.precision_at_recall.mean(axis=1)
    assert areas == pytest.approx([entry.ap50 for entry in metrics.per_class], abs=1e-6)


def test_curves_by_hand() -> None:
    predictions = [found((BOX, 0.9, 0), (FAR, 0.6, 0)), found((BOX, 0.3, 0))]
    targets = [truth((BOX, 0)), truth((BOX, 0))]
    curves = detection_curves(predictions, targets, ["a", "b"])
    at = {value: round(value * 1000) for value in (0.0, 0.3, 0.301, 0.6, 0.601, 0.9, 0.901)}
    recall = {value: curves.recall[0, index] for value, index in at.items()}
    assert recall == {0.0: 1, 0.3: 1, 0.301: 0.5, 0.6: 0.5, 0.601: 0.5, 0.9: 0.5, 0.901: 0}
    precision = {value: curves.precision[0, index] for value, index in at.items()}
    assert precision == pytest.approx(
        {0.0: 2 / 3, 0.3: 2 / 3, 0.301: 0.5, 0.6: 0.5, 0.601: 1, 0.9: 1, 0.901: math.nan}, nan_ok=True
    )
    assert curves.f1[0, at[0.3]] == pytest.approx(2 * (2 / 3) / (5 / 3))
    assert curves.f1[0, at[0.901]] == 0
    assert np.isnan(curves.f1[1]).all()
    assert curves.best_index is not None
    assert curves.confidence[curves.best_index] == pytest.approx(0.15)  # the middle of 0 … 0.3
    assert detection_curves([found()], [truth()], ["a"]).best_index is None


def test_operating_point_is_the_best_mean_f1() -> None:
    # below 0.2 twenty wrong detections drown the two right ones
    noise = [((150.0 + i, 150.0, 190.0 + i, 190.0), 0.19, 0) for i in range(20)]
    predictions = [found((BOX, 0.9, 0), (FAR, 0.5, 0), *noise)]
    metrics = evaluate_detections(predictions, [truth((BOX, 0), (FAR, 0))], ["a"])
    assert 0.19 < metrics.confidence <= 0.5
    assert (metrics.precision, metrics.recall, metrics.f1) == (1, 1, 1)


def test_curves_are_deterministic_with_equal_confidences() -> None:
    predictions, targets = random_scene(7, images=6, classes=2)
    flat = [Detections(p.xyxy, np.full(len(p), 0.5), p.class_id) for p in predictions]
    first, second = (evaluate_detections(flat, targets, ["a", "b"]) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    areas = first.curves.precision_at_recall.mean(axis=1)
    assert areas == pytest.approx([entry.ap50 for entry in first.per_class], abs=1e-6)


# --- confusion matrix ----------------------------------------------------------------------------


def test_confusion_matrix_by_hand() -> None:
    predictions = [
        found((BOX, 0.9, 0), (shifted(BOX, 5), 0.8, 0), (FAR, 0.7, 0)),  # right, double, wrong class
        found((BOX, 0.2, 0)),  # too unsure: the object is missed
    ]
    targets = [truth((BOX, 0), (FAR, 1)), truth((BOX, 0))]
    matrix = confusion_matrix(predictions, targets, ["a", "b"])
    assert matrix.counts.tolist() == [
        [1, 0, 1],  # of two a: one found, one missed
        [1, 0, 0],  # the b is taken for a
        [1, 0, 0],  # the double is made up
    ]
    assert matrix.normalised().tolist() == [[0.5, 0, 0.5], [1, 0, 0], [1, 0, 0]]
    assert (matrix.confidence, matrix.iou) == (0.25, 0.5)


def test_closest_detection_wins_the_object() -> None:
    predictions = [found((shifted(BOX, 8), 0.9, 1), (BOX, 0.4, 0))]
    matrix = confusion_matrix(predictions, [truth((BOX, 0))], ["a", "b"])
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_confusion_matrix_accounts_for_everything(seed: int) -> None:
    predictions, targets = random_scene(seed, images=10, classes=4)
    counts = confusion_matrix(predictions, targets, list("abcd"), confidence=0.3).counts
    labelled = np.bincount(np.concatenate([t.class_id for t in targets]), minlength=4)
    detected = np.bincount(np.concatenate([p.class_id[p.confidence >= 0.3] for p in predictions]), minlength=4)
    assert counts[:4].sum(axis=1).tolist() == labelled.tolist()
    assert counts[:, :4].sum(axis=0).tolist() == detected.tolist()
    assert counts[4, 4] == 0


def test_confusion_matrix_of_nothing() -> None:
    assert confusion_matrix([], [], ["a"]).counts.sum() == 0
    assert confusion_matrix([found()], [truth()], ["a"]).normalised().sum() == 0
