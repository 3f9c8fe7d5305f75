"""Assignment, overlaps and the losses' own rules; values are in tests/parity."""

from __future__ import annotations

from functools import partial
from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from yolo12edge.data.loader import Batch
from yolo12edge.errors import InputError
from yolo12edge.imaging.rotated import corners_of_rotated
from yolo12edge.imaging.rotated import probabilistic_iou as probabilistic_iou_of_arrays
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import Task
from yolo12edge.nn import HeadOutput
from yolo12edge.nn.heads import anchor_grid
from yolo12edge.training.assigner import Assignment, assign
from yolo12edge.training.boxes import complete_iou, distance_iou, generalized_iou, inside_boxes
from yolo12edge.training.losses import LOSSES, LossGains, LossSettings, class_weights, make_loss
from yolo12edge.training.losses.entropy import binary_entropy, categorical_entropy, soft_f1_loss
from yolo12edge.training.losses.segment import mask_part
from yolo12edge.training.rotated import inside_rotated, probabilistic_iou


def test_assignment_keeps_to_its_rules() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.cartesian_prod(torch.arange(4.0, 160, 8), torch.arange(4.0, 160, 8))
    count = len(points)
    boxes = torch.cat((points - 10, points + 10), 1).repeat(2, 1, 1) + torch.rand(2, count, 4, generator=generator) * 8
    scores = torch.rand(2, 3, count, generator=generator)
    target_image = torch.tensor([0, 0, 0, 1])
    target_class = torch.tensor([0, 1, 2, 1])
    target_boxes = torch.tensor([[10.0, 10, 80, 80], [40, 40, 120, 120], [44, 44, 70, 70], [58, 58, 94, 94]])

    def overlap(image: Tensor, candidate: Tensor, target: Tensor) -> Tensor:
        return complete_iou(boxes[image, candidate], target_boxes[target])

    inside_of = partial(inside_boxes, points)
    found = assign(scores, inside_of, target_boxes, overlap, target_image, target_class)
    assert len({(int(i), int(c)) for i, c in zip(found.image, found.candidate, strict=True)}) == len(found.image)
    assert bool((target_image[found.target] == found.image).all())
    assert bool((torch.bincount(found.target, minlength=4) >= 1).all())
    assert int(torch.bincount(found.target)[3]) == 10  # alone in its image: exactly the ten best
    centre = points[found.candidate]
    inside = target_boxes[found.target]
    assert bool(((centre > inside[:, :2]) & (centre < inside[:, 2:])).all())
    assert bool(((found.score >= 0) & (found.score <= 1)).all())
    # The best candidate of an object has its best overlap as soft score.
    mine = found.target == 3
    best = complete_iou(boxes[1, found.candidate[mine]], target_boxes[3].expand(int(mine.sum()), 4)).max()
    assert float(found.score[mine].max()) == pytest.approx(float(best), rel=1e-4)


def test_assignment_does_not_depend_on_how_many_objects_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LOSSES["detect"](LossSettings())(output(4), batch())
    monkeypatch.setattr("yolo12edge.training.assigner._CHUNK", 1)
    assert LOSSES["detect"](LossSettings())(output(4), batch()) == whole


def test_memory_of_the_assignment_follows_areas_and_not_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.cartesian_prod(torch.arange(4.0, 320, 8), torch.arange(4.0, 320, 8))
    low = torch.rand(900, 2, generator=torch.Generator().manual_seed(0)) * 300
    boxes, looked_at, measured = torch.cat((low, low + 16), 1), [], []

    def inside(part: Tensor) -> Tensor:
        looked_at.append(len(part) * len(points))
        return inside_boxes(points, part)

    def overlap(image: Tensor, candidate: Tensor, target: Tensor) -> Tensor:
        measured.append(len(target))
        return torch.rand(len(target), generator=torch.Generator().manual_seed(1))

    monkeypatch.setattr("yolo12edge.training.assigner._CHUNK", 100_000)
    nothing = torch.zeros(900, dtype=torch.long)
    found = assign(torch.full((1, 1, len(points)), 0.5), inside, boxes, overlap, nothing, nothing)
    assert max(looked_at) <= 100_000
    assert measured == [int(inside_boxes(points, boxes).sum())]
    assert len(found.candidate.unique()) == len(found.candidate) > 500


def test_complete_iou() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    same, shifted, apart = complete_iou(a, b).tolist()
    assert same == pytest.approx(1, abs=1e-5)
    assert shifted == pytest.approx(1 / 3 - 25 / 325, abs=1e-5)
    assert apart == pytest.approx(-800 / 1800, abs=1e-5)


def test_distance_and_generalized_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 4, 2]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [1, 1, 3, 7]])
    # Third: centres 20 apart each way in a hull of 30. Fourth: 2 of 18 shared, centres (2, 1) and (2, 4), hull 4 x 7.
    assert distance_iou(a, b).tolist() == pytest.approx([1, 1 / 3 - 25 / 325, -800 / 1800, 1 / 9 - 9 / 65], abs=1e-6)
    assert generalized_iou(a, b).tolist() == pytest.approx([1, 1 / 3, -700 / 900, 1 / 9 - 10 / 28], abs=1e-6)
    complete = 1 / 9 - 9 / 65
    aspect = 4 / pi**2 * (np.arctan(2) - np.arctan(1 / 3)) ** 2
    complete -= aspect**2 / (1 - 1 / 9 + aspect)
    assert float(complete_iou(a, b)[3]) == pytest.approx(complete, abs=1e-6)


def test_focal_loss_by_hand() -> None:
    # Probabilities 0.8 and 0.25; gamma 2.
    logits, targets = torch.tensor([4.0, 1 / 3]).log(), torch.tensor([1.0, 0.0])
    expected = [0.2**2 * -np.log(0.8), 0.25**2 * -np.log(0.75)]
    assert binary_entropy(logits, targets, focal=2.0).tolist() == pytest.approx(expected, rel=1e-5)
    weighted = binary_entropy(logits, targets, focal=2.0, weights=torch.tensor([3.0, 3.0]))
    assert weighted.tolist() == pytest.approx([3 * expected[0], expected[1]], rel=1e-5)
    # A soft target that is met costs nothing, and its slope is finite; so is that of a probability that rounds to 1.
    met = torch.tensor([0.0, 200.0], requires_grad=True)
    loss = binary_entropy(met, torch.tensor([0.5, 1.0]), focal=0.5)
    assert float(loss.detach().max()) < 1e-3
    assert bool(torch.isfinite(torch.autograd.grad(loss.sum(), met)[0]).all())
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    one = torch.tensor([[0.0, 1, 0]])
    found = categorical_entropy(logits, one, focal=2.0, weights=torch.tensor([1.0, 5.0, 1.0]))
    assert found.tolist() == pytest.approx([5 * 0.8**2 * -np.log(0.2)], rel=1e-5)


def test_soft_f1_is_f1_of_certain_answers_and_learns_from_others() -> None:
    truth = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
    found = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    # F1 4/5 of the first class and 2/3 of the second; the third is not in the batch.
    assert float(soft_f1_loss(found, truth)) == pytest.approx(1 - (4 / 5 + 2 / 3) / 2)
    logits = torch.zeros(4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(soft_f1_loss(logits.sigmoid(), truth), logits)
    assert bool((slope[0] < 0).equal(truth[0] > 0))
    assert float(soft_f1_loss(found, torch.zeros(4, 3))) == 0


def test_weights_of_classes() -> None:
    counts = [30, 0, 10]
    balanced = class_weights("balanced", counts)
    assert balanced == pytest.approx((2 / 3, 1, 2))
    assert class_weights([1, 2, 3], counts) == (1.0, 2.0, 3.0)
    assert class_weights(None, counts) is None
    with pytest.raises(InputError, match="2 class_weights"):
        class_weights((1.0, 2.0), counts)


def only(task: Task) -> tuple[object, Batch]:
    """What a network gives in training, and labels in which only class 1 has objects."""
    if task == "classify":
        return torch.tensor([[2.0, -1.0], [0.0, 0.3]]), batch()._replace(
            image_index=torch.tensor([0, 1]), class_id=torch.tensor([1, 1])
        )
    rows = {"segment": 32, "pose": 12}.get(task, 1)
    return output(rows, prototypes=task == "segment"), batch()._replace(class_id=torch.tensor([1, 1, 1]))


@pytest.mark.parametrize("task", list(LOSSES))
def test_focus_and_weights_reach_the_class_part_of_every_task_alone(task: Task) -> None:
    points = KeypointSpec(count=4) if task == "pose" else None
    raw, labelled = only(task)

    def parts(**settings: object) -> dict[str, float]:
        loss = make_loss(task, LossSettings(keypoints=points, **settings))  # type: ignore[arg-type]
        return {name: float(value) for name, value in loss(raw, labelled).items()}

    plain, focal = parts(), parts(focal=2.0)
    weighed, other = parts(class_weights=(1.0, 4.0)), parts(class_weights=(4.0, 1.0))
    assert plain == other
    assert 0 < focal.pop("cls") < plain["cls"] < weighed.pop("cls")
    plain.pop("cls")
    assert plain == focal == weighed


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_overlap_of_the_box_loss_can_be_chosen(task: Task) -> None:
    points = KeypointSpec(count=4) if task == "pose" else None
    raw, labelled = only(task)
    found = [
        make_loss(task, LossSettings(keypoints=points, iou=iou))(raw, labelled) for iou in ("ciou", "diou", "giou")
    ]
    assert len({float(parts["box"]) for parts in found}) == 3
    assert len({float(parts["dfl"]) for parts in found}) == 1  # what is assigned does not depend on it


def test_f1_is_a_part_of_classify_where_it_has_a_gain() -> None:
    raw, labelled = only("classify")
    loss = make_loss("classify", LossSettings(LossGains(f1=0.5)))
    assert loss.parts == tuple(loss(raw, labelled)) == ("cls", "f1")
    assert make_loss("classify", LossSettings()).parts == ("cls",)


@pytest.mark.parametrize(
    ("task", "settings", "fact"),
    [
        ("pose", LossSettings(label_smoothing=0.1, keypoints=KeypointSpec(count=4)), r"label_smoothing is 0\.1"),
        ("classify", LossSettings(iou="giou"), "iou is giou"),
        ("obb", LossSettings(iou="diou"), "iou is diou"),
        ("detect", LossSettings(LossGains(f1=1.0)), r"gains\.f1 is 1\.0"),
    ],
)
def test_settings_that_a_loss_cannot_use_are_refused(task: Task, settings: LossSettings, fact: str) -> None:
    with pytest.raises(InputError, match=f"{fact} and the task is {task}"):
        make_loss(task, settings)


sides = st.floats(2, 100)
places = st.floats(-50, 50)
angles = st.floats(-pi / 4, 3 * pi / 4)
rectangles = st.tuples(places, places, sides, sides, angles)


@settings(max_examples=60)
@given(rectangles, rectangles)
def test_probabilistic_iou_does_not_mind_the_name_of_a_rectangle(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    first, second = (torch.tensor([value], dtype=torch.float64) for value in (a, b))
    turned = first[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, pi / 2])
    value = probabilistic_iou(first, second)
    assert -1e-6 <= float(value) <= 1
    assert float(probabilistic_iou(turned, second)) == pytest.approx(float(value), abs=1e-6)
    assert float(probabilistic_iou(second, first)) == pytest.approx(float(value), abs=1e-6)
    assert float(probabilistic_iou(first, first)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("height", [0.0, 1e-4, 1e-3, 1e-2])
def test_probabilistic_iou_of_thin_boxes_has_a_gradient(height: float) -> None:
    angle = torch.linspace(-pi / 4, 3 * pi / 4, 500)
    sides = torch.tensor([30.0, height]).expand(500, 2)
    thin = torch.cat((torch.full((500, 2), 9.3), sides, angle[:, None]), 1).requires_grad_()
    other = torch.cat((torch.full((500, 2), 9.0), torch.tensor([29.0, 0.06]).expand(500, 2), angle[:, None]), 1)
    value = probabilistic_iou(thin, other)
    (slope,) = torch.autograd.grad(value.sum(), thin)
    assert bool(torch.isfinite(slope).all())
    exact = probabilistic_iou(thin.detach().double(), other.double())
    assert torch.allclose(value.detach().double(), exact, atol=2e-3)


@settings(max_examples=60)
@given(rectangles, rectangles)
def test_probabilistic_iou_is_that_of_the_runtime(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    mine = probabilistic_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
    theirs = probabilistic_iou_of_arrays(np.array([a]), np.array([b]))
    assert float(mine) == pytest.approx(float(theirs[0]), abs=2e-3)


@settings(max_examples=60)
@given(rectangles, st.tuples(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49)), st.floats(1.05, 3))
def test_points_inside_rotated_boxes(box: tuple[float, ...], share: tuple[float, float], factor: float) -> None:
    corners = corners_of_rotated(np.array([box]))[0]
    along, across = corners[1] - corners[0], corners[3] - corners[0]
    centre = np.array(box[:2])
    inside = centre + along * share[0] + across * share[1]
    outside = centre + (corners[0] - centre) * factor
    points = torch.from_numpy(np.stack([inside, outside]))
    assert inside_rotated(points, torch.tensor([box], dtype=torch.float64)).tolist() == [[True, False]]


def output(rows: int, *, prototypes: bool = False, size: int = 64) -> HeadOutput:
    generator = torch.Generator().manual_seed(3)
    anchors, strides = anchor_grid([(size // s, size // s) for s in (8, 16, 32)])
    count = len(strides)
    return HeadOutput(
        torch.randn(2, 64, count, generator=generator),
        torch.randn(2, 2, count, generator=generator),
        anchors,
        strides,
        torch.randn(2, rows, count, generator=generator),
        torch.randn(2, 32, size // 4, size // 4, generator=generator) if prototypes else None,
    )


def batch(size: int = 64) -> Batch:
    boxes = torch.tensor([[4.0, 6, 40, 50], [30, 20, 60, 44], [8, 8, 31, 63]])
    masks = torch.zeros(2, size // 4, size // 4, dtype=torch.int16)
    masks[0, 3:11, 2:9], masks[0, 5:11, 8:14], masks[1, 3:12, 3:6] = 1, 2, 1
    sides = boxes[:, 2:] - boxes[:, :2]
    return Batch(
        torch.zeros(2, 3, size, size, dtype=torch.uint8),
        torch.tensor([0, 0, 1]),
        torch.tensor([0, 1, 1]),
        boxes,
        masks=masks,
        keypoints=torch.cat((torch.rand(3, 4, 2) * size, torch.full((3, 4, 1), 2.0)), 2),
        obb=torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, sides, torch.tensor([[0.1], [-0.5], [1.0]])), 1),
    )


def test_mask_part_is_the_mean_over_the_whole_plane() -> None:
    raw, labelled = output(32, prototypes=True), batch()
    assert raw.branch is not None
    assert raw.prototypes is not None
    assert labelled.masks is not None
    # Out of order, as positives are by image and candidate and not by object.
    image, target = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([1, 0, 1, 2, 2])
    positives = Assignment(image, torch.tensor([3, 9, 20, 4, 30]), target, torch.ones(5))
    expected = []
    for i, c, t in zip(*positives[:3], strict=True):
        logits = (raw.branch[i, :, c, None, None] * raw.prototypes[i]).sum(0)
        truth = (labelled.masks[i] == (t if i == 0 else t - 2) + 1).float()
        left, top, right, bottom = labelled.boxes[t] / 4
        pixel = torch.arange(16)
        crop = ((pixel >= top) & (pixel < bottom))[:, None] & ((pixel >= left) & (pixel < right))
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * crop
        expected.append(entropy.mean() / ((right - left) * (bottom - top) / 256))
    found = mask_part(raw.branch, raw.prototypes, positives, labelled)
    assert float(found) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def test_keypoints_that_are_not_labelled_do_not_count_and_are_learnt_as_hidden() -> None:
    loss = LOSSES["pose"](LossSettings(keypoints=KeypointSpec(count=4)))
    raw, labelled = output(12), batch()
    assert labelled.keypoints is not None
    hidden = labelled.keypoints.clone()
    hidden[:, 1, 2] = 0
    moved = hidden.clone()
    moved[:, 1, :2] += 30
    first, second = (loss(raw, labelled._replace(keypoints=points)) for points in (hidden, moved))
    assert torch.equal(first["keypoint"], second["keypoint"])
    assert not torch.equal(first["visibility"], loss(raw, labelled)["visibility"])
    flat = LOSSES["pose"](LossSettings(keypoints=KeypointSpec(count=4, dimensions=2)))(output(8), labelled)
    assert float(flat["keypoint"]) > 0
    assert float(flat["visibility"]) == 0


def test_oriented_boxes_of_under_two_pixels_are_not_learnt() -> None:
    loss = LOSSES["obb"](LossSettings())
    raw, labelled = output(1), batch()
    assert labelled.obb is not None
    thin = labelled.obb.clone()
    thin[2, 3] = 1.9
    without = labelled._replace(
        image_index=labelled.image_index[:2], class_id=labelled.class_id[:2], boxes=labelled.boxes[:2], obb=thin[:2]
    )
    assert loss(raw, labelled._replace(obb=thin)) == loss(raw, without)
    assert loss(raw, labelled) != loss(raw, without)


def test_classify_single_and_multi_label() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -2.0]])
    single = batch()._replace(image_index=torch.tensor([0, 1]), class_id=torch.tensor([0, 2]))
    found = LOSSES["classify"](LossSettings())(logits, single)
    assert float(found["cls"]) == pytest.approx(float(F.cross_entropy(logits, torch.tensor([0, 2]))))
    smooth = LOSSES["classify"](LossSettings(label_smoothing=0.1))(logits, single)
    expected = F.cross_entropy(logits, torch.tensor([0, 2]), label_smoothing=0.1)
    assert float(smooth["cls"]) == pytest.approx(float(expected))
    several = single._replace(image_index=torch.tensor([0, 0]), class_id=torch.tensor([0, 2]))
    truth = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    many = LOSSES["classify"](LossSettings(multi_label=True))(logits, several)
    assert float(many["cls"]) == pytest.approx(float(F.binary_cross_entropy_with_logits(logits, truth)))


@pytest.mark.parametrize(("task", "rows"), [("segment", 32), ("pose", 12), ("obb", 1)])
def test_every_output_learns(task: str, rows: int) -> None:
    raw = HeadOutput(
        *(
            tensor.requires_grad_() if tensor is not None and index in (0, 1, 4, 5) else tensor
            for index, tensor in enumerate(output(rows, prototypes=task == "segment"))
        )
    )
    points = KeypointSpec(count=4) if task == "pose" else None
    parts = LOSSES[task](LossSettings(keypoints=points))(raw, batch())  # type: ignore[index]
    torch.stack(list(parts.values())).sum().backward()
    for tensor in (raw.box, raw.cls, raw.branch, raw.prototypes):
        assert tensor is None or (tensor.grad is not None and bool(tensor.grad.abs().sum() > 0))
