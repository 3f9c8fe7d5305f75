from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.data.coco import read_coco
from yolo12edge.data.dataset import Dataset, read_dataset
from yolo12edge.data.report import check_dataset
from yolo12edge.errors import DatasetError


def content(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "info": {"year": 2024},
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 200, "height": 100, "license": 1},
            {"id": 3, "file_name": "sub/a.jpg", "width": 40, "height": 80},
        ],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 2, "name": "cat"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [20, 10, 100, 50], "area": 5000, "segmentation": [[1]]},
            {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 40.0, 80.0], "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 2, "bbox": [0, 0, 200, 100], "iscrowd": 1},
        ],
    }
    return base | changes


def annotate(**changes: Any) -> dict[str, Any]:
    return content(annotations=[{"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 20, 20], **changes}])


def make(root: Path, train: Any, val: Any = None, extra: str = "") -> Dataset:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "pictures/sub").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8)
    cv2.imwrite(str(root / "pictures/b.jpg"), noise)
    cv2.imwrite(str(root / "pictures/sub/a.jpg"), noise[:80, :40])
    text = f"train: annotations/train.json\nimages: pictures\n{extra}"
    for split, value in (("train", train), ("val", val)):
        if value is not None:
            (root / f"annotations/{split}.json").write_text(json.dumps(value))
    if val is not None:
        text += "val: annotations/val.json\n"
    (root / "data.yaml").write_text(text)
    return read_dataset(root)


def problems(dataset: Dataset) -> list[tuple[str, str]]:
    report = check_dataset(dataset, splits=("train",))
    return [(p.severity, p.message) for p in report.problems if "no object of" not in p.message]


def test_a_coco_file_is_a_split(tmp_path: Path) -> None:
    dataset = make(tmp_path, content())
    assert dataset.class_names == ("cat", "dog")  # in order of the ids 2 and 18
    first, second = dataset.samples("train")
    assert first.image == tmp_path / "pictures/b.jpg"
    assert second.image == tmp_path / "pictures/sub/a.jpg"
    assert first.class_id.tolist() == [1]  # the crowd is left out
    assert np.allclose(first.boxes, [[0.1, 0.1, 0.6, 0.6]])
    assert second.class_id.tolist() == [0]
    assert second.boxes.tolist() == [[0, 0, 1, 1]]
    assert problems(dataset) == []


def test_splits_may_be_mixed_with_label_files_and_have_folders_of_their_own(tmp_path: Path) -> None:
    make(tmp_path, content(), content())
    text = "train: annotations/train.json\nval: pictures\nimages: {train: pictures}\nnames: [cat, dog]\n"
    (tmp_path / "data.yaml").write_text(text)
    dataset = read_dataset(tmp_path)
    assert list(dataset.coco) == ["train"]
    assert len(dataset.samples("val")) == 2


def test_a_part_of_a_split_keeps_its_labels(tmp_path: Path) -> None:
    dataset = make(tmp_path, content())
    part = Dataset(dataset.path, dataset.class_names, {"train": dataset.splits["train"][1:]}, dataset.coco)
    (sample,) = part.samples("train")
    assert sample.class_id.tolist() == [0]
    foreign = Dataset(dataset.path, dataset.class_names, {"train": (tmp_path / "other.jpg",)}, dataset.coco)
    with pytest.raises(DatasetError, match=r"other\.jpg is not an image of"):
        foreign.samples("train")


def test_the_size_may_come_from_the_image(tmp_path: Path) -> None:
    without = content(images=[{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "gone.jpg", "width": None}])
    dataset = make(tmp_path, without)
    labels, gone = dataset.labels("train")
    assert np.allclose(labels.boxes, [[0.1, 0.1, 0.6, 0.6]])
    assert "size of gone.jpg" in gone.problems[0].message


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    assert make(tmp_path, content()).class_names == ("cat", "dog")
    assert make(tmp_path, content(categories=[{"id": 1, "name": "sheep"}])).class_names == ("sheep",)


@pytest.mark.parametrize(
    ("changes", "severity", "says"),
    [
        ({"bbox": [0, 0, 0, 20]}, "warning", "annotation 5 of b.jpg: the box has no area; it is left out"),
        ({"bbox": [150, 0, 50.5, 20]}, "warning", "annotation 5 of b.jpg: the box reaches 0.00250 out"),
        ({"bbox": [150, 0, 90, 20]}, "error", "annotation 5 of b.jpg: the box reaches out of the image"),
        ({"bbox": [0, 0, 20]}, "error", "annotation 5 of b.jpg: its bbox is [0.0, 0.0, 20.0]"),
        ({"bbox": None}, "error", "annotation 5 of b.jpg: its bbox is None"),
        ({"category_id": 3}, "error", "annotation 5 of b.jpg: its category is not in"),
        ({"image_id": 8}, "error", "annotation 5: there is no image 8"),
    ],
)
def test_wrong_annotations_are_reported(tmp_path: Path, changes: dict[str, Any], severity: str, says: str) -> None:
    dataset = make(tmp_path, annotate(**changes))
    ((found, message),) = problems(dataset)
    assert found == severity
    assert message.startswith(says)
    if severity == "error":
        with pytest.raises(DatasetError, match="annotation 5"):
            dataset.samples("train")
    else:
        assert len(dataset.samples("train")) == 2


def test_an_object_annotated_twice_counts_once(tmp_path: Path) -> None:
    twice = [{"id": n, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]} for n in (1, 2)]
    dataset = make(tmp_path, content(annotations=twice))
    assert len(dataset.samples("train")[0]) == 1
    assert problems(dataset) == [
        ("warning", "annotation 2 of b.jpg: the same object as annotation 1; it is counted once")
    ]


def test_another_size_than_the_image_has_is_an_error(tmp_path: Path) -> None:
    images = [
        {"id": 7, "file_name": "b.jpg", "width": 100, "height": 200},
        {"id": 3, "file_name": "sub/a.jpg", "width": 41, "height": 80},
    ]
    dataset = make(tmp_path, content(images=images, annotations=[]))
    # 100 x 200 may be 200 x 100 seen with its EXIF orientation
    assert problems(dataset) == [("error", "a.jpg has 40 x 80 pixels, the file says 41 x 80")]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "not a COCO file"),
        ({"images": []}, "missing required field `categories`"),
        (annotate(bbox=["a", 0, 0, 0]), "`$.annotations[0].bbox[0]`"),
        (annotate(image_id=None), "`$.annotations[0].image_id`"),
        (content(categories=[]), "its categories are ()"),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "its categories are ('a', 'b')"),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]), "its categories are ('a', 'a')"),
        (content(images=[{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]), "two images have the same id"),
        (content(images=[{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}]), "an image is named 'a'"),
        (content(images=[{"id": 1, "file_name": ""}]), "an image is named ''"),
        (content(images=[{"id": 1, "file_name": "a", "width": -4, "height": 4}]), "a is -4 x 4"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, value: Any, says: str) -> None:
    with pytest.raises(DatasetError) as caught:
        make(tmp_path, value)
    assert says in str(caught.value)
    assert "train.json" in str(caught.value)


def test_truncated_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    make(tmp_path, content())
    path = tmp_path / "annotations/train.json"
    whole = path.read_bytes()
    for data in (whole[:-9], b"", b"\xff\xfe\x00", whole.replace(b"20,", b"NaN,"), b"[" * 100_000, b'{"x":' * 100_000):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match="not a COCO file"):
            read_dataset(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + whole)
    assert len(read_dataset(tmp_path).splits["train"]) == 2
    path.unlink()
    with pytest.raises(DatasetError, match="No such file"):
        read_dataset(tmp_path)


def test_splits_must_agree_on_the_classes(tmp_path: Path) -> None:
    other = content(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cow"}], annotations=[])
    with pytest.raises(DatasetError, match="has the categories"):
        make(tmp_path, content(), other)
    with pytest.raises(DatasetError, match="has the categories"):
        make(tmp_path, content(), extra="names: [dog, cat]\n")


NUMBERS = st.floats(-50, 300) | st.sampled_from([0, 1e308, 1e-30, -1e308])


@settings(max_examples=60)
@given(st.lists(st.lists(NUMBERS, min_size=4, max_size=4), max_size=4), st.integers(1, 300), st.integers(1, 300))
def test_any_boxes_give_objects_and_problems(
    tmp_path_factory: pytest.TempPathFactory, boxes: list[list[float]], width: int, height: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}],
                "categories": [{"id": 1, "name": "a"}],
                "annotations": [{"id": n, "image_id": 1, "category_id": 1, "bbox": b} for n, b in enumerate(boxes)],
            }
        )
    )
    os.utime(path, ns=(0, hash((str(boxes), width, height)) & (1 << 60) - 1))  # never taken from the cache
    coco = read_coco(path)
    (labels,) = coco.labels_of(coco.image_paths(Path("x")), folder=Path("x"))
    assert ((labels.boxes >= 0) & (labels.boxes <= 1)).all()
    assert (labels.boxes[:, 2:] > labels.boxes[:, :2]).all()
    assert len(labels.class_id) + len(labels.problems) >= len(boxes)
