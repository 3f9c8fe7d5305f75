"""Labels of all five tasks: what a line, table, folder or COCO file says, and what is wrong, by its line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.task_data import CLASS_NAMES, FLIP, KEYPOINT_NAMES, label_line, make_dataset, make_picture
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.forms import FORMS
from yolo12edge.data.labels import Labels, parse_labels
from yolo12edge.data.report import check_dataset
from yolo12edge.errors import DatasetError
from yolo12edge.imaging.rotated import corners_of_rotated, rotated_iou, rotated_of_corners
from yolo12edge.keypoints import COCO_PERSON, KeypointSpec
from yolo12edge.manifest import TASKS

SPEC = KeypointSpec(count=4, dimensions=3)
FLAT = KeypointSpec(count=2, dimensions=2)


def parse(task: str, text: str, keypoints: KeypointSpec = SPEC) -> Labels:
    return parse_labels(text, Path("a.txt"), num_classes=2, form=FORMS[task], keypoints=keypoints)


@pytest.mark.parametrize("task", TASKS)
def test_generated_datasets_are_read_without_a_problem(task: str, tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(task, tmp_path / task, images=6))
    assert (dataset.task, dataset.class_names) == (task, CLASS_NAMES)
    assert check_dataset(dataset).problems == ()
    samples = dataset.samples("train")
    assert len(samples) == 6
    field = {"segment": "polygons", "pose": "keypoints", "obb": "corners"}.get(task)
    for index, sample in enumerate(samples):
        assert {name for name in ("polygons", "keypoints", "corners") if getattr(sample, name) is not None} == (
            {field} if field else set()
        )
        if task == "classify":
            assert (len(sample), sample.boxes.tolist()) == (1, [[0, 0, 1, 1]])
            continue
        _, shapes = make_picture(index, split="train")
        assert sample.class_id.tolist() == [shape.class_id for shape in shapes]
        for row, shape in enumerate(shapes):
            if task == "segment":
                assert np.allclose(sample.polygons[row][0] * 96, shape.outline, atol=1e-3)
            if task == "pose":
                assert np.allclose(sample.keypoints[row, :, :2] * 96, shape.keypoints, atol=1e-3)
                assert (sample.keypoints[row, :, 2] == 2).all()
            if task == "obb":
                assert np.allclose(sample.corners[row] * 96, shape.corners, atol=1e-3)
            else:
                assert np.allclose(sample.boxes[row] * 96, shape.box, atol=1e-3)
    if task == "pose":
        spec = dataset.keypoints
        assert (spec.count, spec.dimensions, tuple(spec.names), tuple(spec.flip)) == (4, 3, KEYPOINT_NAMES, FLIP)
        assert spec.skeleton[3] == (3, 0)
    else:
        assert dataset.keypoints is None


BOX = "0 .5 .5 .4 .4"


@pytest.mark.parametrize(
    ("task", "line", "says"),
    [
        ("segment", "0 .1 .1 .2 .1 .2 .2 .3", "7 coordinates, an odd number"),
        ("segment", "0 .1 .1 .2 .1", "a polygon of 2 points, as a box has (task detect); expected at least 3"),
        ("segment", "0", "a polygon of 0 points"),
        ("segment", "0 .1 .1 .2 .1 .2 1.2", "point 3 lies outside the image: x, y = 0.2, 1.2"),
        ("segment", "0 10 10 20 10 20 20", "look like pixels"),
        ("segment", "5 .1 .1 .2 .1 .2 .2", "class 5 is out of range"),
        ("segment", "0 .1 .1 nan .1 .2 .2", "'nan' is not a finite number"),
        (
            "pose",
            f"{BOX} .5 .5 2 .5 .5 2 .5 .5 2",
            "14 values, 3 keypoints; expected 17: class, box and 4 keypoints of 3",
        ),
        ("pose", f"{BOX}" + " .5 .5 2" * 5, "20 values, 5 keypoints; expected 17"),
        ("pose", f"{BOX}" + " .5 .5" * 4, "13 values, as `kpt_shape: [4, 2]` has; expected 17"),
        ("pose", BOX, "5 values, as a box has (task detect); expected 17"),
        ("pose", f"{BOX} .5 .5 3" + " .5 .5 2" * 3, "keypoint 1 has visibility 3; expected 0, 1 or 2"),
        ("pose", f"{BOX} .5 .5 2 .5 1.5 2" + " .5 .5 2" * 2, "keypoint 2 lies outside the image"),
        ("pose", "0 .5 .5 0 .4" + " .5 .5 2" * 4, "the box has no area"),
        ("obb", "0 .1 .1 .3 .1 .3 .3 .1", "7 coordinates, an odd number; expected 8"),
        ("obb", "0 .1 .1 .3 .1", "as a box has (task detect); expected 8"),
        ("obb", "0 .1 .1 .3 .1 .3 .3", "6 coordinates, as a polygon of 3 points has (task segment); expected 8"),
        ("obb", "0 .1 .1 .3 .3 .3 .1 .1 .3", "its sides cross each other"),
        ("obb", "0 .1 .1 .3 .1 .15 .15 .1 .3", "one corner lies inwards"),
        ("obb", "0 100 100 300 100 300 300 100 300", "look like pixels"),
        ("obb", "0 .9 .9 1.5 .9 1.5 1.5 .9 1.5", "the centre of the box lies outside the image"),
    ],
)
def test_a_wrong_line_is_an_error_with_its_number(task: str, line: str, says: str) -> None:
    _, shapes = make_picture(1, split="train")
    good = [label_line(task, shape, 96) for shape in shapes]
    labels = parse(task, f"{good[0]}\n\n{line}\n{good[1]}")
    (problem,) = labels.problems
    assert (problem.severity, problem.line) == ("error", 3)
    assert says in problem.message
    assert labels.class_id.tolist() == [shape.class_id for shape in shapes]  # the other lines are still there


@pytest.mark.parametrize(
    ("task", "line"),
    [("segment", "0 .1 .1 .1 .2 .1 .3"), ("segment", "0 .1 .1 .2 .2 .3 .3"), ("obb", "1 .1 .1 .1 .1 .1 .3 .1 .3")],
)
def test_an_outline_without_area_is_left_out_with_a_warning(task: str, line: str) -> None:
    labels = parse(task, line)
    (problem,) = labels.problems
    assert (problem.severity, problem.line) == ("warning", 1)
    assert "no area; it is left out" in problem.message
    assert len(labels.class_id) == 0


def test_an_outline_may_be_labelled_once() -> None:
    labels = parse("segment", "0 .1 .1 .2 .1 .2 .2\n0 .1 .1 .20 .1 .2 .2\n1 .1 .1 .2 .1 .2 .2\n0 .1 .1 .2 .1 .2 .3")
    assert [(p.line, p.severity) for p in labels.problems] == [(2, "warning")]
    assert labels.class_id.tolist() == [0, 1, 0]
    assert len(labels.polygons) == 3


def test_a_small_overshoot_is_clipped_with_a_warning() -> None:
    labels = parse("segment", "0 .5 .5 1.0005 .5 .5 .9")
    assert "the polygon reaches 0.00050 out of the image; it is clipped" in labels.problems[0].message
    assert labels.polygons[0][0].max() == 1
    assert labels.boxes[0, 2] == 1


def test_points_that_are_not_labelled_have_no_place() -> None:
    labels = parse("pose", f"{BOX} .5 .5 2 7 -3 0 .4 .4 1 0 0 0")
    assert labels.problems == ()
    assert np.allclose(labels.keypoints[0], [[0.5, 0.5, 2], [0, 0, 0], [0.4, 0.4, 1], [0, 0, 0]])
    flat = parse("pose", f"{BOX} .5 .6 0 0", FLAT)
    assert np.allclose(flat.keypoints[0], [[0.5, 0.6, 2], [0, 0, 0]])


def test_oriented_boxes_may_reach_out_of_the_image() -> None:
    labels = parse("obb", "0 -.05 .1 .2 .1 .2 .3 -.05 .3")
    assert labels.problems == ()
    assert labels.corners[0].min() == np.float32(-0.05)
    assert np.allclose(labels.boxes[0], [0, 0.1, 0.2, 0.3])


NUMBERS = st.sampled_from(["0", "1", "2", "0.5", "0.1", ".9", "-1", "1e-9", "nan", "x", "300", "1.0001"])


@given(st.sampled_from(["segment", "pose", "obb"]), st.lists(st.lists(NUMBERS, max_size=18).map(" ".join), max_size=4))
def test_any_text_gives_objects_and_problems(task: str, lines: list[str]) -> None:
    labels = parse(task, "\n".join(lines))
    assert labels.boxes.shape == (len(labels.class_id), 4)
    assert ((labels.boxes >= 0) & (labels.boxes <= 1)).all()
    assert (labels.boxes[:, 2:] > labels.boxes[:, :2]).all()
    assert len(getattr(labels, FORMS[task].field)) == len(labels.class_id)
    lost = {problem.line for problem in labels.problems if "clipped" not in problem.message}
    assert len(labels.class_id) + len(lost) == sum(bool(line.split()) for line in lines)


# --- oriented boxes ---


@settings(max_examples=200)
@given(st.tuples(*[st.floats(10, 90)] * 2, *[st.floats(3, 60)] * 2, st.floats(-9, 9)), st.integers(0, 3), st.booleans())
def test_corners_and_back(box: tuple[float, ...], first: int, reverse: bool) -> None:
    given_box = np.array([box], np.float64)
    corners = np.roll(corners_of_rotated(given_box), first, axis=1)
    found = rotated_of_corners(corners[:, ::-1] if reverse else corners)
    assert found[0, 2] >= found[0, 3]
    assert -math.pi / 4 <= found[0, 4] < 3 * math.pi / 4
    assert rotated_iou(given_box, found)[0, 0] > 0.9999
    if box[2] > 1.001 * box[3]:
        turn = (found[0, 4] - box[4]) % math.pi
        assert min(turn, math.pi - turn) < 1e-3


def test_the_smallest_box_around_a_skew_shape() -> None:
    skew = np.array([[[0, 0], [40, 0], [50, 20], [10, 20]]], np.float64)
    found = rotated_of_corners(skew)
    (_, size, _) = cv2.minAreaRect(skew[0].astype(np.float32))
    assert found[0, 2] * found[0, 3] == pytest.approx(size[0] * size[1], rel=1e-4)


# --- descriptions ---


def describe(folder: Path, text: str) -> Path:
    (folder / "images/train").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images/train/a.png"), np.zeros((40, 60, 3), np.uint8))
    (folder / "data.yaml").write_text(f"train: images/train\nnames: [a, b]\n{text}")
    return folder


@pytest.mark.parametrize(
    ("text", "argument", "task"),
    [
        ("", None, "detect"),
        ("task: segment", None, "segment"),
        ("task: segment", "detect", "detect"),
        ("", "obb", "obb"),
        ("kpt_shape: [3, 2]", None, "pose"),
        ("kpt_shape: [3, 2]\ntask: detect", None, "detect"),
    ],
)
def test_what_the_labels_are_for(tmp_path: Path, text: str, argument: Any, task: str) -> None:
    dataset = read_dataset(describe(tmp_path, text), task=argument)
    assert dataset.task == task
    assert (dataset.keypoints is not None) == (task == "pose")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task: segmentation", "`task` is 'segmentation'"),
        ("task: pose", "does not say which keypoints"),
        ("kpt_shape: [3]", "`kpt_shape` is"),
        ("kpt_shape: [x, 3]", "`kpt_shape`: "),
        ("kpt_shape: [3, 4]", "`kpt_shape` is "),
        ("kpt_shape: [0, 3]", "`kpt_shape`: "),
        ("flip_idx: [1, 0]", "`kpt_shape` is missing"),
        ("kpt_shape: [3, 3]\nflip_idx: [0, 1]", "mirror images"),
        ("kpt_shape: [3, 3]\nflip_idx: [1, 2, 0]", "mirror images"),
        ("kpt_shape: [3, 3]\nkpt_names: [a, b]", "2 names"),
        ("kpt_shape: [3, 3]\nskeleton: [[0, 3]]", "skeleton"),
        ("multi_label: maybe", "`multi_label` is 'maybe'"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dataset(describe(tmp_path, text))
    assert says in str(caught.value)
    assert "data.yaml" in str(caught.value)


def test_keypoints_without_mirror_images_are_warned_of(tmp_path: Path) -> None:
    report = check_dataset(read_dataset(describe(tmp_path, "kpt_shape: [3, 3]")), splits=("train",))
    assert any("flip_idx" in problem.message for problem in report.warnings)


# --- classes of whole pictures ---


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), shade, np.uint8))


def table(folder: Path, train: str, val: str | None = None, extra: str | None = None) -> Path:
    for number, name in enumerate("abc"):
        picture(folder / f"pictures/{name}.png", number)
    (folder / "train.csv").write_text(train)
    if val is not None:
        (folder / "val.csv").write_text(val)
    if extra is not None:
        (folder / "data.yaml").write_text(f"train: train.csv\n{extra}")
    return folder


def found(folder: Path) -> list[tuple[str, str, int | None, str]]:
    report = check_dataset(read_dataset(folder), splits=("train",))
    return [(p.severity, p.path.name, p.line, p.message) for p in report.problems if "no object of" not in p.message]


def test_an_empty_class_folder_is_an_error(tmp_path: Path) -> None:
    folder = make_dataset("classify", tmp_path / "set")
    (folder / "train/nothing").mkdir()
    picture(folder / "train/loose.png")
    problems = found(folder)
    assert ("error", "nothing", None, "the class 'nothing' has no picture: its folder is empty") in problems
    assert any(severity == "warning" and "loose.png" in says for severity, _, _, says in problems)
    with pytest.raises(DatasetError, match="nothing"):
        read_dataset(folder).samples("train")


def test_folders_of_images_and_labels_are_not_classes(tmp_path: Path) -> None:
    picture(tmp_path / "train/images/a.png")
    (tmp_path / "train/labels").mkdir()
    with pytest.raises(DatasetError, match=r"cannot read the dataset description .*data\.yaml"):
        read_dataset(tmp_path)


def test_a_row_that_names_no_file_is_an_error_with_its_line(tmp_path: Path) -> None:
    ((_, _, line, message),) = found(table(tmp_path, "pictures/a.png,dog\n/dev/zero,dog\n"))
    assert (line, message) == (2, "/dev/zero: the image is not a file")


def test_a_class_that_training_does_not_know_is_an_error(tmp_path: Path) -> None:
    folder = make_dataset("classify", tmp_path / "set")
    picture(folder / "val/other/x.png", 9)
    report = check_dataset(read_dataset(folder))
    (problem,) = report.errors
    assert problem.path == folder / "val/other"
    assert "'other' is none of the classes dart, disc" in problem.message


def test_a_table_of_classes(tmp_path: Path) -> None:
    folder = table(tmp_path, "path,label\npictures/b.png,cat\npictures/a.png,dog\n", "pictures/c.png,cat\n")
    dataset = read_dataset(folder)
    assert (dataset.task, dataset.multi_label, dataset.class_names) == ("classify", False, ("cat", "dog"))
    assert [(s.image.name, s.class_id.tolist()) for s in dataset.samples("train")] == [("b.png", [0]), ("a.png", [1])]
    assert [s.class_id.tolist() for s in dataset.samples("val")] == [[0]]


def test_a_table_of_several_classes(tmp_path: Path) -> None:
    text = "pictures/a.png,dog|cat\npictures/b.png,\npictures/c.png,dog\n"
    dataset = read_dataset(table(tmp_path, text, extra="names: [dog, cow, cat]"))
    assert dataset.multi_label
    assert [s.class_id.tolist() for s in dataset.samples("train")] == [[0, 2], [], [0]]
    single = read_dataset(table(tmp_path, "pictures/a.png,dog\n", extra="multi_label: true"))
    assert single.multi_label


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("pictures/a.png,dog\npictures/b.png\n", 2, "1 columns"),
        ("path,label\npictures/a.png,dog\npictures/b.png,dog,cat\n", 3, "3 columns"),
        ("pictures/a.png,dog\n\npictures/b.png,\n", 3, "b.png has no class"),
        ("pictures/a.png,dog\npictures/a.png,cat\n", 2, "is in line 1 already"),
        ("pictures/a.png,dog||cat\n", 1, "holds an empty label"),
        ("pictures/a.png,dog|dog\n", 1, "names a class twice"),
        ("pictures/a.png,dog\npictures/gone.png,dog\n", 2, "the image is missing"),
    ],
)
def test_a_wrong_row_is_an_error_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    ((severity, name, number, message),) = found(table(tmp_path, text))
    assert (severity, name, number) == ("error", "train.csv", line)
    assert says in message


def test_an_unknown_class_of_a_table_is_named_by_line(tmp_path: Path) -> None:
    ((severity, _, line, message),) = found(
        table(tmp_path, "pictures/a.png,dog\npictures/b.png,cow\n", extra="names: [dog]")
    )
    assert (severity, line) == ("error", 2)
    assert "'cow' is none of the classes dog" in message


def test_classes_have_no_places(tmp_path: Path) -> None:
    folder = make_dataset("classify", tmp_path / "set", images=2)
    with pytest.raises(DatasetError, match="nothing of places"):
        read_dataset(folder, task="detect")
    with pytest.raises(DatasetError, match="no classes of pictures"):
        read_dataset(describe(tmp_path / "other", "val: gone"), task="classify")


# --- COCO ---


def coco(folder: Path, annotation: dict[str, Any], extra: str = "", category: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    picture(folder / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}],
        "categories": [{"id": 1, "name": "cat", **(category or {})}],
        "annotations": [{"id": 4, "image_id": 1, "category_id": 1, "bbox": [3, 2, 12, 10], **annotation}],
    }
    (folder / "train.json").write_text(json.dumps(content))
    (folder / "data.yaml").write_text(f"train: train.json\n{extra}")
    return folder


RINGS = [[3, 2, 15, 2, 15, 12], [3, 6, 6, 6, 6, 12, 3, 12]]


def test_polygons_of_a_coco_file(tmp_path: Path) -> None:
    folder = coco(tmp_path, {"segmentation": RINGS})
    (sample,) = read_dataset(folder, task="segment").samples("train")
    assert [len(ring) for ring in sample.polygons[0]] == [3, 4]
    assert np.allclose(sample.polygons[0][0] * (30, 20), [[3, 2], [15, 2], [15, 12]])
    assert np.allclose(sample.boxes[0] * (30, 20, 30, 20), [3, 2, 15, 12])
    (boxes,) = read_dataset(folder).samples("train")
    assert boxes.polygons is None
    (turned,) = read_dataset(coco(tmp_path, {"segmentation": [[5, 0, 15, 10, 10, 15, 0, 5]]}), task="obb").samples(
        "train"
    )
    box = rotated_of_corners(turned.corners * (30, 20))[0]
    assert np.allclose(box, [7.5, 7.5, 200**0.5, 50**0.5, math.pi / 4], atol=1e-4)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ({"size": [20, 30], "counts": [0, 600]}, "run-length encoded; expected polygons"),
        (None, "its segmentation is None"),
        ([], "its segmentation is []"),
        ([[1, 2, 3, 4, 5]], "polygon 1 has 5 coordinates"),
        ([[1, 2, 3, 4]], "polygon 1 has 4 coordinates"),
        ([[1, 2, 3, 4, 5, "x"]], "polygon 1 is"),
        ([[1, 2, 3, 4, 5, 10**400]], "polygon 1 is"),
        ([[1, 2, 3, 4, 5, None]], "polygon 1 is"),
        ([RINGS[0], [1, 2, 50, 4, 5, 9]], "point of polygon 2: 2 lies outside the image"),
    ],
)
def test_wrong_polygons_of_a_coco_file(tmp_path: Path, segmentation: Any, says: str) -> None:
    dataset = read_dataset(coco(tmp_path, {"segmentation": segmentation}), task="segment")
    (problem,) = check_dataset(dataset, splits=("train",)).errors
    assert problem.message.startswith("annotation 4 of a.png: ")
    assert says in problem.message


def test_keypoints_of_a_coco_file(tmp_path: Path) -> None:
    about = {"keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}
    dataset = read_dataset(coco(tmp_path, {"keypoints": [6, 4, 2, 0, 0, 0]}, category=about), task="pose")
    assert (dataset.keypoints.names, dataset.keypoints.skeleton) == (["nose", "tail"], [(0, 1)])
    (sample,) = dataset.samples("train")
    assert np.allclose(sample.keypoints[0], [[0.2, 0.2, 2], [0, 0, 0]])
    wrong = read_dataset(coco(tmp_path, {"keypoints": [6, 4, 2]}, category=about), task="pose")
    (problem,) = check_dataset(wrong, splits=("train",)).errors
    assert "3 values of keypoints; expected 6" in problem.message


def test_points_named_like_those_of_cocos_persons_are_known(tmp_path: Path) -> None:
    person = KeypointSpec(count=17, names=list(COCO_PERSON)).completed()
    assert all(COCO_PERSON[a].replace("left", "right") == COCO_PERSON[b] for a, b in enumerate(person.flip) if a % 2)
    assert {COCO_PERSON[index] for index in person.skeleton[0]} == {"left_ankle", "left_knee"}
    assert len(person.skeleton) == 19
    points = {"keypoints": [6, 4, 2, *[0] * 48]}
    dataset = read_dataset(coco(tmp_path, points, category={"keypoints": list(COCO_PERSON)}), task="pose")
    assert dataset.keypoints == person
    described = tmp_path / "described.yaml"
    names = [name.replace("_", " ").title() for name in COCO_PERSON]
    about = "train: .\nval: .\nnames: [person]\nkpt_shape: [17, 3]\n"
    described.write_text(f"{about}kpt_names: {names}\n")
    assert read_dataset(described).keypoints == msgspec.structs.replace(person, names=names)
    described.write_text(f"{about}kpt_names: {names}\nskeleton: [[0, 1]]\n")
    assert read_dataset(described).keypoints.skeleton == [(0, 1)]
    described.write_text(about)
    assert read_dataset(described).keypoints == KeypointSpec(count=17)
