"""Several models that answer as one, and one model on several views of a frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from yolo12edge.detections import Detections
from yolo12edge.ensemble import Ensemble, Mirrored, Shrunk, fuse, fuse_probabilities, mirror, shift, with_views
from yolo12edge.errors import InputError
from yolo12edge.imaging.boxes import clip_boxes
from yolo12edge.imaging.rotated import corners_of_rotated, hull_of_rotated, rotated_iou, rotated_of_corners
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.masks import Masks
from yolo12edge.runtimes import Runtime
from yolo12edge.thresholds import Thresholds

TASKS = ("detect", "segment", "classify", "pose", "obb")
FIELDS = ("xyxy", "confidence", "class_id", "keypoints", "obb", "probs")


def one(box: tuple[float, ...], confidence: float, class_id: int = 0, **own: Any) -> Detections:
    return Detections(np.array([box], np.float32), np.array([confidence]), np.array([class_id]), **own)


def same(mine: Detections, theirs: Detections, *, within: float = 0.0) -> None:
    for name in FIELDS:
        first, second = getattr(mine, name), getattr(theirs, name)
        assert (first is None) == (second is None), name
        if first is not None:
            np.testing.assert_allclose(first, second, rtol=0, atol=within, err_msg=name)
    assert (mine.mask is None) == (theirs.mask is None)
    if mine.mask is not None and theirs.mask is not None:
        assert (mine.mask.full() == theirs.mask.full()).all()


def everything(count: int, seed: int, image_hw: tuple[int, int] = (40, 60)) -> Detections:
    """Return objects with all that any task has, somewhere in a frame."""
    rng = np.random.default_rng(seed)
    height, width = image_hw
    centre = rng.uniform(0.2, 0.8, (count, 2)) * (width, height)
    angle = rng.uniform(-np.pi / 4, 3 * np.pi / 4 - 1e-3, (count, 1))
    obb = np.concatenate((centre, rng.uniform(4, 16, (count, 2)), angle), axis=1).astype(np.float32)
    boxes = clip_boxes(hull_of_rotated(obb), image_hw)
    full = np.zeros((count, height, width), np.bool_)
    for mask, (left, top, right, bottom) in zip(full, boxes.astype(int).tolist(), strict=True):
        mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < 0.7
    return Detections(
        boxes,
        rng.random(count).astype(np.float32),
        rng.integers(0, 3, count),
        mask=Masks.of_full(full),
        keypoints=np.concatenate((rng.random((count, 4, 2)) * (width, height), rng.random((count, 4, 1))), axis=2),
        obb=obb,
    )


# --- moving ---


@given(count=st.integers(0, 5), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_mirroring_twice_changes_nothing(count: int, seed: int) -> None:
    found = everything(count, seed)
    flip = (0, 2, 1, 3)
    once = mirror(found, 60, flip=flip)
    same(mirror(once, 60, flip=flip), found, within=2e-5)
    if count:
        assert once.xyxy[0, 0] == pytest.approx(60 - found.xyxy[0, 2])
        assert np.allclose(once.keypoints[0, 1], [60 - found.keypoints[0, 2, 0], *found.keypoints[0, 2, 1:]])
        assert (once.mask.full() == found.mask.full()[:, :, ::-1]).all()
        corners = corners_of_rotated(found.obb[:1])[0].reshape(4, 2) * (-1, 1) + (60, 0)
        assert rotated_iou(once.obb[:1], rotated_of_corners(corners[None]))[0, 0] > 0.99


@given(left=st.integers(0, 30), top=st.integers(0, 20), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_shifting_into_a_larger_frame_and_back_changes_nothing(left: int, top: int, seed: int) -> None:
    found = everything(3, seed)
    larger = shift(found, -left, -top, (40 + top + 5, 60 + left + 5))
    same(shift(larger, left, top, (40, 60)), found, within=2e-5)


def test_shifting_cuts_what_reaches_out_and_leaves_out_what_is_outside() -> None:
    full = np.zeros((2, 20, 20), np.bool_)
    full[0, 2:8, 2:8] = True
    full[1, 15:, 15:] = True
    found = Detections(np.array([[2, 2, 8, 8], [15, 15, 20, 20]]), [0.9, 0.8], [0, 1], mask=Masks.of_full(full))
    cut = shift(found, 5, 4, (6, 6))
    assert cut.xyxy.tolist() == [[0, 0, 3, 4]]
    assert (cut.mask.full()[0] == full[0, 4:10, 5:11]).all()


# --- joining ---


@given(count=st.integers(0, 8), seed=st.integers(0, 1000), weight=st.floats(0.1, 10))
@settings(max_examples=40)
def test_one_model_is_taken_as_it_is(count: int, seed: int, weight: float) -> None:
    found = everything(count, seed)
    found = found[np.argsort(-found.confidence, kind="stable")]
    for method in ("weighted", "vote"):
        same(fuse([found], weights=[weight], method=method), found)


@given(seed=st.integers(0, 1000), copies=st.integers(2, 4))
@settings(max_examples=30)
def test_models_that_agree_are_one_of_them(seed: int, copies: int) -> None:
    found = everything(4, seed)
    found = found[np.argsort(-found.confidence, kind="stable")]
    same(fuse([found] * copies), found, within=1e-4)


def test_boxes_are_averaged_by_weight_and_confidence() -> None:
    parts = [one((0, 0, 10, 10), 0.8), one((1, 0, 11, 10), 0.4)]
    joined = fuse(parts)
    assert np.allclose(joined.xyxy, [[1 / 3, 0, 10 + 1 / 3, 10]], atol=1e-4)
    assert joined.confidence == pytest.approx([0.6])
    heavy = fuse(parts, weights=[1, 4])
    assert np.allclose(heavy.xyxy, [[2 / 3, 0, 10 + 2 / 3, 10]], atol=1e-4)
    assert heavy.confidence == pytest.approx([0.48])


def test_what_one_of_two_models_misses_counts_half_and_has_no_majority() -> None:
    nothing = everything(0, 0)[:0]
    lone = [
        Detections.merge([one((0, 0, 10, 10), 0.8)]),
        Detections(nothing.xyxy, nothing.confidence, nothing.class_id),
    ]
    assert fuse(lone).confidence == pytest.approx([0.4])
    assert len(fuse(lone, method="vote")) == 0
    assert fuse([*lone, lone[0]], method="vote").confidence == pytest.approx([0.8])


def test_classes_and_objects_of_one_model_stay_apart() -> None:
    twins = Detections(np.array([[0, 0, 10, 10], [0, 0, 10, 10.5]]), [0.9, 0.8], [0, 0])
    assert len(fuse([twins, one((0, 0, 10, 10), 0.7)])) == 2
    other = [one((0, 0, 10, 10), 0.9, 0), one((0, 0, 10, 10), 0.7, 1)]
    assert sorted(fuse(other).class_id.tolist()) == [0, 1]
    assert fuse(other, class_agnostic=True).class_id.tolist() == [0]


@given(
    boxes=arrays(np.float64, (3, 5), elements=st.floats(0, 1)),
    order=st.permutations([0, 1, 2]),
)
@settings(max_examples=40)
def test_order_of_models_does_not_matter(boxes: np.ndarray, order: list[int]) -> None:
    parts = [one((x, y, x + 8 + w, y + 8 + h), 0.5 + number / 8) for number, (x, y, w, h, _) in enumerate(boxes)]
    same(fuse(parts), fuse([parts[number] for number in order]), within=1e-4)


def test_oriented_boxes_are_averaged_whichever_side_is_called_the_width() -> None:
    first = np.array([[20, 20, 16, 6, 0.1]], np.float32)
    second = np.array([[20, 20, 6, 16, 0.1 + np.pi / 2 + 0.2]], np.float32)  # the same, turned by 0.2 more
    parts = [one(tuple(hull_of_rotated(box)[0]), 0.5, obb=box) for box in (first, second)]
    joined = fuse(parts)
    wanted = np.array([[20, 20, 16, 6, 0.2]], np.float32)
    assert rotated_iou(joined.obb, wanted)[0, 0] > 0.999
    assert np.allclose(joined.xyxy, hull_of_rotated(joined.obb), atol=0.5)


def test_masks_keep_the_pixels_of_the_majority() -> None:
    full = np.zeros((3, 20, 20), np.bool_)
    full[0, 2:10, 2:10] = full[1, 2:10, 3:11] = full[2, 2:10, 3:11] = True
    parts = [one((2, 2, 11, 10), 0.5, mask=Masks.of_full(mask[None])) for mask in full]
    assert (fuse(parts).mask.full()[0] == full[1]).all()


def test_keypoints_are_averaged_where_they_are_seen() -> None:
    seen, unseen = np.array([[[4, 4, 1.0]]], np.float32), np.array([[[8, 8, 0.0]]], np.float32)
    joined = fuse([one((0, 0, 10, 10), 0.5, keypoints=points) for points in (seen, unseen)])
    assert np.allclose(joined.keypoints, [[[4, 4, 0.5]]], atol=1e-3)


def test_probabilities_are_averaged_or_voted_for() -> None:
    rows = ([0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.3, 0.7, 0.0])
    parts = [one((0, 0, 9, 9), max(row), probs=np.array([row], np.float32)) for row in rows]
    assert np.allclose(fuse_probabilities(parts), np.mean(rows, axis=0))
    assert np.allclose(fuse_probabilities(parts, method="vote"), [1 / 3, 2 / 3, 0])
    assert np.allclose(fuse_probabilities(parts, method="vote", weights=[8, 1, 1]), [0.8, 0.2, 0])
    assert np.allclose(fuse_probabilities(parts, method="vote", multi_label=True), [1 / 3, 2 / 3, 0])


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weights"):
        fuse([one((0, 0, 1, 1), 0.5)] * 2, weights=weights)


# --- models ---


@pytest.mark.parametrize("task", TASKS)
def test_ensemble_of_one_model_is_that_model(
    task: str, tiny_checkpoint_of: Callable[[str], Path], scene_frames: list[np.ndarray]
) -> None:
    thresholds = Thresholds(confidence=0.4, max_detections=20)
    with Runtime(tiny_checkpoint_of(task)) as runtime:
        joined = Ensemble([runtime])
        for frame in scene_frames[:2]:
            mine, theirs = joined(frame, thresholds=thresholds), runtime(frame, thresholds=thresholds)
            assert len(theirs)
            same(mine, theirs)
            assert mine.timing is not None
        assert (joined.engine, joined.device) == (runtime.engine, runtime.device)


@pytest.mark.parametrize("task", TASKS)
def test_views_answer_in_pixels_of_the_frame(
    task: str, tiny_checkpoint_of: Callable[[str], Path], scene_frames: list[np.ndarray]
) -> None:
    """A model asked about a mirrored frame by its mirrored view sees what it saw, and says the mirror image."""
    frame = scene_frames[0]
    with Runtime(tiny_checkpoint_of(task)) as runtime:
        plain = runtime(frame)
        flip = [] if runtime.manifest.keypoints is None else runtime.manifest.keypoints.flip
        view = Mirrored(runtime)(np.ascontiguousarray(frame[:, ::-1]))
        same(mirror(view, frame.shape[1], flip=flip), plain, within=2e-4)
        if task == "classify":
            with pytest.raises(InputError, match="middle"):
                Shrunk(runtime)
            return
        small = Shrunk(runtime, share=0.5)(frame)
        assert len(small)
        assert (small.xyxy >= 0).all()
        assert (small.xyxy <= 160).all()
        assert small.mask is None or small.mask.image_hw == (160, 160)
        assert len(Ensemble(with_views(runtime, ["flip", "scale"]))(frame))


def test_shrunk_view_brings_boxes_back_to_their_place() -> None:
    """A detector that finds the bounding box of white pixels finds it in any view."""

    def white(frame: np.ndarray, **_: object) -> Detections:
        rows, columns = np.nonzero(frame[..., 0] == 255)
        return one((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), 0.9)

    spec = SimpleNamespace(resize="letterbox", pad_value=114)
    detector = type(
        "Detector", (), {"manifest": SimpleNamespace(keypoints=None, input=spec), "__call__": staticmethod(white)}
    )()
    frame = np.zeros((31, 47, 3), np.uint8)
    frame[5:12, 20:44] = 255
    for view in (Mirrored(detector), Shrunk(detector), Shrunk(detector, 0.33), Shrunk(Mirrored(detector))):
        assert view(frame).xyxy.tolist() == [[20, 5, 44, 12]]


class Sees:
    """A model that finds three objects with the same confidence in any frame."""

    def __init__(self, confidence: float, *names: str) -> None:
        self.manifest: Any = SimpleNamespace(
            task="detect", class_names=names, keypoints=None, multi_label=False, outputs=(), nms_iou=None
        )
        boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
        self.found = Detections(boxes, np.full(3, confidence), np.zeros(3))

    def __call__(self, frame: Any, *, color: Any = "bgr", thresholds: Thresholds | None = None) -> Detections:
        assert thresholds is not None
        return self.found[self.found.confidence >= thresholds.confidence]


def test_what_is_kept_is_decided_by_what_all_say_together() -> None:
    members, frame = [Sees(0.2, "a"), Sees(0.4, "a")], np.zeros((20, 60, 3), np.uint8)
    assert Ensemble(members)(frame, thresholds=Thresholds(confidence=0.25)).confidence == pytest.approx([0.3] * 3)
    assert len(Ensemble(members)(frame, thresholds=Thresholds(confidence=0.35))) == 0
    assert len(Ensemble(members)(frame, thresholds=Thresholds(confidence=0.25, max_detections=1))) == 1
    assert len(Ensemble(members, method="vote")(frame, thresholds=Thresholds(confidence=0.25))) == 0
    with pytest.raises(InputError, match="class_names"):
        Ensemble([*members, Sees(0.4, "b")])


def test_models_that_do_not_go_together_are_refused(tiny_checkpoint_of: Callable[[str], Path]) -> None:
    with (
        Runtime(tiny_checkpoint_of("detect")) as boxes,
        Runtime(tiny_checkpoint_of("obb")) as oriented,
        pytest.raises(InputError, match="task"),
    ):
        Ensemble([boxes, oriented])


def test_pose_without_mirror_images_has_no_mirrored_view() -> None:
    member: Any = SimpleNamespace(manifest=SimpleNamespace(keypoints=KeypointSpec(count=2)))
    with pytest.raises(InputError, match="left and right"):
        Mirrored(member)


def test_commands_take_further_models_and_views(
    tiny_checkpoint: Path, scene_frames: list[np.ndarray], tmp_path: Path
) -> None:
    import cv2

    from yolo12edge.cli import app

    cv2.imwrite(str(tmp_path / "scene.png"), scene_frames[0])
    arguments = ["predict", str(tiny_checkpoint), str(tmp_path / "scene.png"), "--out", str(tmp_path / "out"), "--json"]
    more = ["--ensemble", str(tiny_checkpoint), "--tta", "flip,scale"]
    plain, joined = (CliRunner().invoke(app, [*arguments, *options]) for options in ([], more))
    assert (plain.exit_code, joined.exit_code) == (0, 0), joined.output
    assert plain.stdout != joined.stdout
    wrong = CliRunner().invoke(app, [*arguments, "--tta", "upside"])
    assert isinstance(wrong.exception, InputError)
    assert "upside" in str(wrong.exception)
