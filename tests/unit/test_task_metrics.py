"""Accuracy of every task: against faster-coco-eval, against numbers worked out by hand, and from labels to pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from tests.task_data import make_dataset
from yolo12edge.data.dataset import Sample, read_dataset
from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.imaging.images import read_image
from yolo12edge.imaging.rotated import corners_of_rotated, hull_of_rotated
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import Task
from yolo12edge.masks import Masks
from yolo12edge.metrics import (
    Measure,
    Target,
    choose_threshold,
    detection_curves,
    evaluate_detections,
    evaluate_runtime,
    for_detect,
    for_obb,
    for_pose,
    for_segment,
)
from yolo12edge.metrics.for_pose import object_keypoint_similarity
from yolo12edge.metrics.overlap import Overlap
from yolo12edge.metrics.report import write_plots
from yolo12edge.metrics.tables import tables_of

TASKS: tuple[Task, ...] = ("detect", "segment", "classify", "pose", "obb")
HW = (240, 260)
SPEC = KeypointSpec(count=4)
NAMES = ("a", "b")


def scene(seed: int, images: int = 10) -> tuple[list[Detections], list[Target]]:
    """Make labels and noisy detections that have all parts of the dense tasks; sizes are small, medium and large."""
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(images):
        count = int(rng.integers(0, 8))
        side = rng.choice([14, 40, 110], count)
        shape = np.stack([side, side * rng.uniform(0.6, 1.2, count)], axis=1)
        obb = np.column_stack([rng.uniform(60, 180, (count, 2)), shape, rng.uniform(-0.7, 2.3, count)])
        class_id = rng.integers(0, 2, count)
        points = corners_of_rotated(obb)
        visible = rng.integers(0, 3, (count, 4, 1))
        visible[rng.random(count) < 0.2] = 0  # some objects without any labelled point
        keypoints = np.concatenate([points, visible], axis=2)
        targets.append(_target(obb, class_id, keypoints))

        copies = np.repeat(np.arange(count), 2)
        noisy = obb[copies] + rng.normal(0, 1, (len(copies), 5)) * (3, 3, 3, 3, 0.1)
        noisy[:, 2:4] = np.maximum(noisy[:, 2:4], 4)
        lost = np.column_stack([rng.uniform(60, 180, (3, 2)), rng.uniform(10, 90, (3, 2)), rng.uniform(-0.7, 2.3, 3)])
        boxes = np.concatenate([noisy, lost])
        guessed = np.concatenate([class_id[copies], rng.integers(0, 2, 3)])
        confidence = np.sort(rng.random(len(boxes)).astype(np.float32))[::-1]
        corners = corners_of_rotated(boxes) + rng.normal(0, 2, (len(boxes), 4, 2))
        found = _target(boxes, guessed, np.concatenate([corners, rng.random((len(boxes), 4, 1))], axis=2))
        predictions.append(
            Detections(found.boxes, confidence, guessed, mask=found.mask, keypoints=found.keypoints, obb=found.obb)
        )
    return predictions, targets


def _target(obb: npt.NDArray[Any], class_id: npt.NDArray[Any], keypoints: npt.NDArray[Any]) -> Target:
    masks = Masks.of_polygons([[ring] for ring in corners_of_rotated(obb)], HW)
    return Target(np.asarray(hull_of_rotated(obb), np.float32), class_id, HW, masks, keypoints, obb)


# --- average precision ---------------------------------------------------------------------------


def _box_area(part: Detections | Target) -> npt.NDArray[np.float64]:
    xyxy = (part.boxes if isinstance(part, Target) else part.xyxy).astype(np.float64)
    return np.asarray((xyxy[:, 2:] - xyxy[:, :2]).prod(1))


@pytest.mark.parametrize("seed", range(5))
def test_own_tables_are_those_of_coco(seed: int) -> None:
    predictions, targets = scene(seed, images=14)
    overlap = for_detect.overlap()
    expected = overlap.tables(predictions, targets, 2)
    own = tables_of(overlap, _box_area, predictions, targets, 2)
    assert (expected.precision > -1).any(axis=(0, 1, 2)).all()  # objects of every size
    assert 0.1 < expected.recall[:, :, 2].mean() < 0.98
    np.testing.assert_allclose(own.precision, expected.precision, atol=1e-12)
    np.testing.assert_allclose(own.recall, expected.recall, atol=1e-12)


def test_own_tables_keep_to_coco_beyond_a_hundred_detections() -> None:
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 200, (150, 2))
    boxes = np.concatenate([corner, corner + 12], axis=1).astype(np.float32)
    found = Detections(boxes, rng.random(150).astype(np.float32), rng.integers(0, 2, 150) // 2)
    targets = [Target(boxes, np.zeros(150, np.int64), HW)]
    overlap = for_detect.overlap()
    expected = overlap.tables([found], targets, 1)
    own = tables_of(overlap, _box_area, [found], targets, 1)
    assert expected.recall[0, 0].tolist() == pytest.approx([1 / 150, 10 / 150, 100 / 150])
    np.testing.assert_allclose(own.precision, expected.precision, atol=1e-12)
    np.testing.assert_allclose(own.recall, expected.recall, atol=1e-12)


DENSE: dict[str, Overlap] = {
    "segment": for_segment.overlap(),
    "pose": for_pose.overlap(SPEC),
    "obb": for_obb.overlap(),
}


@pytest.mark.parametrize("task", DENSE)
def test_curves_and_coco_agree(task: str) -> None:
    """The curves match on their own: the area under each is the AP50 that COCO's code has."""
    predictions, targets = scene(7)
    metrics = evaluate_detections(predictions, targets, NAMES, overlap=DENSE[task])
    assert 0.1 < metrics.ap < metrics.ap50 < 0.98
    areas = metrics.curves.precision_at_recall.mean(axis=1)
    assert areas == pytest.approx([entry.ap50 for entry in metrics.per_class], abs=1e-6)


@pytest.mark.parametrize("task", DENSE)
def test_tables_of_masks_and_rotated_boxes_and_keypoints_agree(task: str) -> None:
    """COCO's code on masks or keypoints, and our own on the same overlaps."""
    predictions, targets = scene(11)
    overlap = DENSE[task]
    expected = overlap.tables(predictions, targets, 2)
    if task == "pose":  # our own tables know no objects without points
        known = [
            Target(t.boxes[k], t.class_id[k], HW, keypoints=t.keypoints[k])
            for t in targets
            for k in [~overlap.ignored(t)]
            if t.keypoints is not None
        ]
        expected = overlap.tables(predictions, known, 2)
        targets = known
    area = {"segment": lambda part: part.mask.area().astype(np.float64), "obb": for_obb._area}.get(
        task, lambda part: 0.53 * _box_area(part)
    )
    own = tables_of(overlap, area, predictions, targets, 2)
    np.testing.assert_allclose(own.precision, expected.precision, atol=1e-6)
    np.testing.assert_allclose(own.recall, expected.recall, atol=1e-6)


def test_similarity_of_keypoints_is_that_of_coco() -> None:
    from faster_coco_eval import COCO, COCOeval_faster

    predictions, targets = scene(5, images=6)
    found, target = max(zip(predictions, targets, strict=True), key=lambda pair: len(pair[1]))
    assert found.keypoints is not None
    assert target.keypoints is not None
    assert (target.keypoints[:, :, 2] == 0).all(axis=1).any()
    annotations = []
    for points, box in zip(target.keypoints, target.boxes.astype(float), strict=True):
        size = [*box[:2], *(box[2:] - box[:2])]
        annotations.append({"keypoints": points.ravel().tolist(), "bbox": size, "area": 0.53 * size[2] * size[3]})
    detected = [{"keypoints": points.ravel().tolist(), "bbox": [0, 0, 1, 1], "area": 1.0} for points in found.keypoints]

    def coco(items: list[dict[str, Any]], scores: Sequence[float]) -> Any:
        common = {"image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 1}
        rows = [
            {**common, "id": i + 1, "score": score, **item}
            for i, (item, score) in enumerate(zip(items, scores, strict=True))
        ]
        return COCO({"images": [{"id": 1}], "categories": [{"id": 1, "name": ""}], "annotations": rows})

    evaluation = COCOeval_faster(
        coco(annotations, [0.0] * len(annotations)),
        coco(detected, found.confidence.tolist()),
        iouType="keypoints",
        kpt_oks_sigmas=SPEC.sigmas.tolist(),
    )
    evaluation.params.maxDets = [100]
    evaluation.evaluate()
    own = object_keypoint_similarity(
        found.keypoints.astype(np.float64), target.keypoints.astype(np.float64), target.boxes, SPEC.sigmas
    )
    np.testing.assert_allclose(own, evaluation.ious[1, 1], atol=1e-9)
    assert 0.2 < own.max() <= 1


@pytest.mark.parametrize("task", DENSE)
def test_images_where_nothing_is_labelled_or_found(task: Task) -> None:
    predictions, targets = scene(4, images=2)
    measure = Measure(task, NAMES, SPEC if task == "pose" else None)
    whole = measure.evaluate(predictions, targets)
    nothing = Masks.empty(HW)
    bare = Target(
        np.zeros((0, 4)), np.zeros(0), HW, nothing, keypoints=np.zeros((0, 4, 3)), obb=np.zeros((0, 5))
    )  # an image without labels, where nothing is found, changes no figure
    assert measure.evaluate([*predictions, predictions[0][:0]], [*targets, bare]).figures() == whole.figures()
    lost = measure.evaluate([found[:0] for found in predictions], targets)
    assert lost.score == 0 < whole.score
    assert math.isnan(measure.evaluate([predictions[0]], [bare]).score)


def test_points_off_by_a_known_distance() -> None:
    # a box of 100 x 100, sigma 1/4: exp(-d² / (0.5² · 5300 · 2))
    boxes = np.array([[0, 0, 100, 100]], np.float32)
    points = np.array([[[20, 20, 2], [80, 20, 2], [80, 80, 1], [20, 80, 0]]], float)
    found = points + np.array([30.0, 0, 0])
    assert object_keypoint_similarity(found, points, boxes, SPEC.sigmas)[0, 0] == pytest.approx(math.exp(-900 / 2650))
    found[0, 3] = (1e6, 1e6, 1)  # not labelled: does not count
    assert object_keypoint_similarity(found, points, boxes, SPEC.sigmas)[0, 0] == pytest.approx(math.exp(-900 / 2650))


def test_a_turn_costs_rotated_boxes_only() -> None:
    # 40 x 20, turned by a right angle: the overlap is 20 x 20 of 1,200
    obb = np.array([[100.0, 100.0, 40.0, 20.0, 0.0]])
    turned = obb + np.array([0, 0, 0, 0, np.pi / 2])
    truth = [Target(np.asarray(hull_of_rotated(obb), np.float32), np.zeros(1, np.int64), HW, obb=obb)]

    def found(box: npt.NDArray[np.float64]) -> list[Detections]:
        return [Detections(np.asarray(hull_of_rotated(obb), np.float32), np.ones(1), np.zeros(1, int), obb=box)]

    assert for_obb.overlap().table(found(turned)[0], truth[0])[0, 0] == pytest.approx(1 / 3, abs=1e-5)
    assert Measure("obb", ["a"]).evaluate(found(turned), truth).score == 0
    assert Measure("detect", ["a"]).evaluate(found(turned), truth).score == pytest.approx(1)
    half = obb + np.array([0, 0, 0, 0, np.pi])  # the same rectangle
    assert Measure("obb", ["a"]).evaluate(found(half), truth).score == pytest.approx(1)


def test_a_mask_of_half_the_pixels() -> None:
    full = np.zeros((1, 100, 100), bool)
    full[0, 20:60, 20:60] = True
    part = full.copy()
    part[0, 44:] = False  # 24 of 40 rows: IoU 0.6
    box = np.array([[20, 20, 60, 60]], np.float32)
    truth = [Target(box, np.zeros(1, np.int64), (100, 100), Masks.of_full(full))]
    found = [Detections(box, np.ones(1), np.zeros(1, int), mask=Masks.of_full(part))]
    metrics = cast("Any", Measure("segment", ["a"]).evaluate(found, truth))
    assert metrics.score == metrics.ap == pytest.approx(0.3)  # right at 0.50, 0.55 and 0.60
    assert metrics.ap50 == pytest.approx(1)
    assert (metrics.figure, metrics.box.figure, metrics.box.score) == ("mask AP50-95", "box AP50-95", pytest.approx(1))
    assert metrics.figures()["box AP50"] == pytest.approx(1)
    assert metrics.curves.condition == "mask IoU 0.50"


def test_what_is_missing_is_said() -> None:
    box = np.array([[0, 0, 9, 9]], np.float32)
    found, truth = [Detections(box, np.ones(1), np.zeros(1, int))], [Target(box, np.zeros(1, np.int64), HW)]
    for task in ("segment", "pose", "obb", "classify"):
        with pytest.raises(InputError):
            Measure(task, ["a"], SPEC).evaluate(found, truth)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="KeypointSpec"):
        Measure("pose", ["a"]).evaluate(found, truth)


# --- classes of whole images ---------------------------------------------------------------------


def classified(*probs: Sequence[float], least: float | None = None) -> list[Detections]:
    found = []
    for row in np.array(probs, np.float32):
        order = np.argsort(-row, kind="stable")
        order = order[:1] if least is None else order[row[order] >= least]
        frame = np.tile(np.array([0, 0, 10, 10], np.float32), (len(order), 1))
        found.append(Detections(frame, row[order], order, probs=np.tile(row, (len(order), 1))))
    return found


def labelled(*classes: Sequence[int]) -> list[Target]:
    return [Target(np.zeros((len(row), 4)), np.array(row, np.int64), (10, 10)) for row in classes]


def test_top_1_and_top_5() -> None:
    names = [str(index) for index in range(7)]
    rows = [
        (0.9, 0.1, 0, 0, 0, 0, 0),  # right
        (0.3, 0.2, 0.18, 0.12, 0.11, 0.05, 0.04),  # its class is the fifth
        (0.3, 0.2, 0.18, 0.12, 0.11, 0.05, 0.04),  # the sixth
        (0.1, 0.6, 0.3, 0, 0, 0, 0),  # right
    ]
    metrics = cast("Any", Measure("classify", names).evaluate(classified(*rows), labelled([0], [4], [5], [1])))
    assert (metrics.top1, metrics.top5, metrics.score) == (0.5, 0.75, 0.5)
    assert (metrics.figure, metrics.task, metrics.images, metrics.instances) == ("top-1", "classify", 4, 4)
    # of the classes 0, 1, 4, 5: said three times and once right; once and right; never; never
    assert metrics.recall == pytest.approx(0.5)
    assert metrics.precision == pytest.approx((1 / 3 + 1) / 2)
    assert metrics.f1 == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert math.isnan(metrics.confidence)
    assert math.isnan(metrics.per_class[2].recall)
    assert json.loads(json.dumps(metrics.to_dict(), allow_nan=False))["top5"] == 0.75
    matrix = Measure("classify", names).confusion(classified(*rows), labelled([0], [4], [5], [1]))
    assert matrix.counts.shape == (7, 7)
    assert (matrix.counts[0, 0], matrix.counts[4, 0], matrix.counts[5, 0], matrix.counts[1, 1]) == (1, 1, 1, 1)
    assert matrix.counts.sum() == 4


def test_classes_that_do_not_exclude_each_other() -> None:
    rows = [(0.9, 0.8), (0.7, 0.1), (0.6, 0.3), (0.2, 0.4)]
    truth = labelled([0, 1], [], [0], [1])
    measure = Measure("classify", NAMES, multi_label=True)
    metrics = cast("Any", measure.evaluate(classified(*rows, least=0.001), truth))
    # class a: right, wrong, right; b: right, right
    assert [entry.ap for entry in metrics.per_class] == pytest.approx([(51 + 50 * 2 / 3) / 101, 1])
    assert (metrics.figure, metrics.score) == ("mean AP", pytest.approx(metrics.ap))
    assert metrics.instances == 4
    assert 0.3 < metrics.confidence <= 0.4
    assert metrics.recall == 1
    matrix = measure.confusion(classified(*rows, least=0.001), truth)
    assert matrix.counts.tolist() == [[2, 0, 0], [0, 2, 0], [1, 1, 0]]


def test_images_without_a_label_do_not_count() -> None:
    metrics = Measure("classify", NAMES).evaluate(classified((0.9, 0.1), (0.2, 0.8)), labelled([0], []))
    assert metrics.score == 1
    nothing = Measure("classify", NAMES).evaluate([], [])
    assert math.isnan(nothing.score)


# --- the cheapest threshold ----------------------------------------------------------------------


@pytest.mark.parametrize("costs", [(1.0, 1.0), (10.0, 1.0), (1.0, 10.0), (0.0, 1.0), (1.0, 0.0)])
def test_the_cheapest_threshold(costs: tuple[float, float]) -> None:
    predictions, targets = scene(2)
    curves = detection_curves(predictions, targets, NAMES)
    point = choose_threshold(curves, cost_false_positive=costs[0], cost_false_negative=costs[1])

    def mistakes(threshold: float) -> tuple[int, int]:
        kept = [found[found.confidence >= np.float32(threshold)] for found in predictions]
        matrix = detection_curves(kept, targets, NAMES)
        return int(matrix.wrong[:, 0].sum()), int(matrix.instances.sum() - matrix.right[:, 0].sum())

    assert mistakes(point.confidence) == (point.false_positives, point.false_negatives)
    assert point.cost == costs[0] * point.false_positives + costs[1] * point.false_negatives
    assert point.true_positives + point.false_negatives == curves.instances.sum()
    assert point.recall == point.true_positives / curves.instances.sum()
    for other in np.linspace(0, 1, 21):
        wrong, missed = mistakes(float(other))
        assert point.cost <= costs[0] * wrong + costs[1] * missed


def test_costs_move_the_threshold() -> None:
    curves = detection_curves(*scene(2), NAMES)
    careful = choose_threshold(curves, cost_false_positive=10, cost_false_negative=1)
    eager = choose_threshold(curves, cost_false_positive=1, cost_false_negative=10)
    assert eager.confidence < careful.confidence
    assert eager.false_negatives < careful.false_negatives
    for costs in ((-1.0, 1.0), (0.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(InputError, match="costs"):
            choose_threshold(curves, cost_false_positive=costs[0], cost_false_negative=costs[1])


# --- from labels to pictures ---------------------------------------------------------------------


class Oracle:
    """Finds what is labelled, in the order of the samples."""

    def __init__(self, samples: Sequence[Sample], measure: Measure, *, wrong: int = 0) -> None:
        targets = [Target.of(sample, read_image(sample.image).shape[:2]) for sample in samples]  # type: ignore[arg-type]
        self.answers = [measure.labelled(target) for target in targets]
        for index in range(wrong):
            found = self.answers[index]
            others = 1 - found.class_id
            probs = None if found.probs is None else found.probs[:, ::-1]
            self.answers[index] = replace(found, class_id=others, probs=probs)
        self.calls = 0

    def __call__(self, frame: npt.NDArray[np.uint8], *, thresholds: object) -> Detections:
        self.calls += 1
        return self.answers[self.calls - 1]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_from_its_labels_to_pictures(task: Task, tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(task, tmp_path / "data", images=8), task=task)
    samples = dataset.samples("val")
    measure = Measure.of(dataset)
    assert measure.task == task
    perfect = evaluate_runtime(Oracle(samples, measure), samples, dataset.class_names, measure=measure)
    metrics = perfect.metrics
    assert metrics.score == pytest.approx(1, abs=1e-6)
    assert (metrics.precision, metrics.recall, metrics.f1) == (1, 1, 1)
    assert next(iter(metrics.figures())) == metrics.figure
    assert json.loads(json.dumps(metrics.to_dict(), allow_nan=False))["task"] == task
    written = write_plots(tmp_path / "plots", perfect, images=[sample.image for sample in samples])
    assert len(written) == 5
    assert all(path.stat().st_size > 1000 for path in written)
    worse = evaluate_runtime(Oracle(samples, measure, wrong=2), samples, dataset.class_names, measure=measure)
    assert worse.metrics.score < 0.9
    assert list(worse.metrics.columns()) == list(metrics.columns())
