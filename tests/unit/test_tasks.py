"""From outputs of one image to what each task finds in it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.errors import InputError
from yolo12edge.imaging.letterbox import plan_centre_crop, plan_letterbox
from yolo12edge.imaging.rotated import corners_of_rotated, hull_of_rotated
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import TASKS, Task
from yolo12edge.tasks import decode
from yolo12edge.thresholds import Thresholds

# 128 x 64 into 64 x 64: halved, 16 rows of padding above.
BOX = plan_letterbox((64, 128), (64, 64))
ANY = Thresholds(confidence=0.1)


@dataclass
class Facts:
    task: Task
    multi_label: bool = False
    keypoints: KeypointSpec | None = None


# Three candidates: two that are apart, and one wholly in the padding.
BOXES = np.array([[10, 30, 20], [20, 20, 2], [20, 50, 60], [30, 44, 9]], np.float32)
SCORES = np.array([[0.2, 0.9, 0.8], [0.7, 0.1, 0.1]], np.float32)


def outputs() -> dict[str, np.ndarray]:
    """Outputs of which every task can be read."""
    return {
        "boxes": BOXES,
        "scores": SCORES,
        "coefficients": np.array([[1, -1, 1], [0, 0, 0]], np.float32),
        "prototypes": np.ones((2, 16, 16), np.float32),
        "keypoints": np.array(
            [[12, 31, 0], [22, 24, 0], [0.9, 0.2, 0], [-5, 90, 0], [25, 60, 0], [0, 1, 0]], np.float32
        ),
        "rotated_boxes": np.array([[15, 40, 40], [25, 32, 4], [10, 20, 20], [10, 4, 4]], np.float32),
        "angles": np.array([[0, np.pi / 4, 0]], np.float32),
        "probabilities": np.array([0.1, 0.6, 0.3], np.float32),
    }


FACTS = {
    "detect": Facts("detect"),
    "segment": Facts("segment"),
    "classify": Facts("classify"),
    "pose": Facts("pose", keypoints=KeypointSpec(count=2)),
    "obb": Facts("obb"),
}


def test_every_task_can_be_read() -> None:
    assert set(FACTS) == set(TASKS)
    for task, facts in FACTS.items():
        found = decode(facts, outputs(), BOX, ANY)
        assert found.class_id.tolist() == ([1] if task == "classify" else [0, 1])
        own = {name for name in ("mask", "keypoints", "obb", "probs") if getattr(found, name) is not None}
        assert own == {"detect": set(), "segment": {"mask"}, "pose": {"keypoints"}}.get(
            task, {"obb"} if task == "obb" else {"probs"}
        )


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_what_belongs_to_a_task_is_there_where_nothing_was_found(task: Task) -> None:
    found = decode(FACTS[task], outputs(), BOX, Thresholds(confidence=0.95))
    part = {"segment": found.mask, "pose": found.keypoints, "obb": found.obb}[task]
    assert part is not None
    assert (len(found), len(part)) == (0, 0)
    assert found.mask is None or found.mask.image_hw == (64, 128)


def test_masks_fill_their_boxes_where_the_product_is_positive() -> None:
    found = decode(FACTS["segment"], outputs(), BOX, ANY)
    assert found.xyxy.tolist() == [[60, 8, 100, 56], [20, 8, 40, 28]]
    assert found.mask is not None
    assert found.mask.image_hw == (64, 128)
    assert found.mask.area().tolist() == [0, 20 * 20]
    assert found.mask.offsets.tolist() == [[60, 8], [20, 8]]


def test_masks_go_with_their_boxes_when_a_box_has_several_labels() -> None:
    found = decode(FACTS["segment"], outputs(), BOX, Thresholds(confidence=0.15, multi_label=True))
    assert found.class_id.tolist() == [0, 1, 0]
    assert found.mask is not None
    assert found.mask.area().tolist() == [0, 400, 400]


def test_keypoints_come_back_to_the_source_and_stay_in_the_frame() -> None:
    found = decode(FACTS["pose"], outputs(), BOX, ANY)
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints, [[[62, 16, 0.2], [128, 64, 1]], [[24, 12, 0.9], [0, 18, 0]]], atol=1e-5)


def test_points_that_are_not_said_to_be_hidden_count_as_visible() -> None:
    facts = Facts("pose", keypoints=KeypointSpec(count=3, dimensions=2))
    found = decode(facts, outputs(), BOX, ANY)
    assert found.keypoints is not None
    assert found.keypoints.shape == (2, 3, 3)
    assert (found.keypoints[..., 2] == 1).all()
    with pytest.raises(InputError, match="which keypoints"):
        decode(Facts("pose"), outputs(), BOX, ANY)


def test_oriented_boxes_come_back_and_their_hulls_are_clipped() -> None:
    found = decode(FACTS["obb"], outputs(), BOX, ANY)
    assert found.obb is not None
    np.testing.assert_allclose(found.obb, [[80, 32, 40, 8, np.pi / 4], [30, 18, 20, 20, 0]], atol=1e-5)
    np.testing.assert_allclose(found.xyxy, hull_of_rotated(found.obb), atol=1e-4)
    near = outputs() | {"rotated_boxes": np.array([[0, 40, 40], [25, 32, 4], [10, 20, 20], [10, 4, 4]], np.float32)}
    edge = decode(FACTS["obb"], near, BOX, ANY)
    assert edge.obb is not None
    assert edge.xyxy[1].tolist() == [0, 8, 10, 28]
    assert edge.obb[1].tolist() == [0, 18, 20, 20, 0]  # the box itself may reach out


def test_oriented_boxes_suppress_each_other_as_such() -> None:
    crossed = outputs() | {
        "rotated_boxes": np.array([[32] * 3, [32] * 3, [40] * 3, [3] * 3], np.float32),
        "angles": np.array([[np.pi / 4, -np.pi / 4, np.pi / 4 + 0.001]], np.float32),
        "scores": np.array([[0.9, 0.8, 0.7]], np.float32),
    }
    found = decode(FACTS["obb"], crossed, BOX, ANY)
    np.testing.assert_allclose(found.confidence, [0.9, 0.8])


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(20, 900), st.integers(20, 900))
def test_oriented_boxes_survive_the_way_to_the_network_and_back(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    letterbox = plan_letterbox((height, width), (320, 320))
    source = np.array(
        [[*(rng.uniform(0.2, 0.8, 2) * (width, height)), *rng.uniform(4, 90, 2), rng.uniform(-0.78, 2.3)]]
    )
    gain = letterbox.resized_hw[1] / width, letterbox.resized_hw[0] / height
    corners = corners_of_rotated(source)[0] * gain + (letterbox.pad_left, letterbox.pad_top)
    # An affine image of its corners: where both gains differ, it is nearly an oriented box.
    side, other = corners[1] - corners[0], corners[3] - corners[0]
    made = outputs() | {
        "rotated_boxes": np.array([[*corners.mean(0), np.hypot(*side), np.hypot(*other)]], np.float32).T,
        "angles": np.array([[np.arctan2(side[1], side[0])]], np.float32),
        "scores": np.array([[0.9]], np.float32),
    }
    found = decode(FACTS["obb"], made, letterbox, ANY)
    assert found.obb is not None
    np.testing.assert_allclose(
        corners_of_rotated(found.obb)[0], corners_of_rotated(source)[0], atol=0.02 * max(height, width)
    )
    np.testing.assert_allclose(found.obb[0, :2], source[0, :2], atol=0.01)


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_dropped(task: Task, value: float) -> None:
    role = {"segment": "coefficients", "pose": "keypoints", "obb": "angles"}[task]
    made = outputs()
    made[role] = made[role].copy()
    made[role][-1, 1] = value
    assert decode(FACTS[task], made, BOX, ANY).class_id.tolist() == [1]


@settings(max_examples=60)
@given(
    st.sampled_from(["detect", "segment", "pose", "obb"]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1, 1), (1, 900), (640, 3), (64, 128)]),
)
def test_engines_may_give_any_number(task: Task, seed: int, frame: tuple[int, int]) -> None:
    """No warning, no number in a result that is not finite or out of the frame, nothing shared with the outputs."""
    rng = np.random.default_rng(seed)
    made = outputs()
    for role, values in made.items():
        made[role] = rng.uniform(0, 1 if role == "scores" else 60, values.shape).astype(np.float32)
        strange = rng.random(values.shape) < 0.1
        made[role][strange] = rng.choice(np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e20, 0, -1]), strange.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(FACTS[task], made, plan_letterbox(frame, (64, 64)), Thresholds(confidence=0.0))
    for part in (found.xyxy, found.confidence, found.keypoints, found.obb):
        assert part is None or (np.isfinite(part).all() and not any(np.shares_memory(part, x) for x in made.values()))
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= (*frame[::-1], *frame[::-1])).all()


CROP, _ = plan_centre_crop((480, 640), (64, 64))


def test_one_class_a_frame_whatever_its_confidence() -> None:
    found = decode(FACTS["classify"], outputs(), CROP, Thresholds(confidence=0.99))
    assert (found.class_id.tolist(), found.xyxy.tolist()) == ([1], [[0, 0, 640, 480]])
    np.testing.assert_allclose(found.confidence, [0.6])
    np.testing.assert_allclose(found.probs, [[0.1, 0.6, 0.3]])
    among = decode(FACTS["classify"], outputs(), CROP, Thresholds(classes=(0, 2)))
    assert among.class_id.tolist() == [2]
    assert len(decode(FACTS["classify"], outputs(), CROP, Thresholds(classes=(0, 2), confidence=0.4))) == 0
    with pytest.raises(InputError, match="no class 3"):
        decode(FACTS["classify"], outputs(), CROP, Thresholds(classes=(3,)))


def test_every_class_that_is_probable_enough_where_they_do_not_exclude_each_other() -> None:
    facts = Facts("classify", multi_label=True)
    found = decode(facts, outputs(), CROP, Thresholds(confidence=0.3))
    assert found.class_id.tolist() == [1, 2]
    assert found.probs is not None
    assert found.probs.shape == (2, 3)
    assert decode(facts, outputs(), CROP, Thresholds(confidence=0.1, max_detections=1)).class_id.tolist() == [1]
    none = decode(facts, outputs(), CROP, Thresholds(confidence=0.7))
    assert none.probs is not None
    assert (len(none), none.probs.shape) == (0, (0, 3))


def test_probabilities_that_are_not_finite_count_as_none() -> None:
    made = {"probabilities": np.array([np.nan, 0.2, np.inf], np.float32)}
    assert decode(FACTS["classify"], made, CROP, ANY).class_id.tolist() == [1]
