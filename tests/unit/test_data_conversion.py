"""Datasets keep their objects from format to format, and what a format cannot hold is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.task_data import make_dataset
from yolo12edge.data.dataset import Sample, read_dataset
from yolo12edge.data.report import check_dataset
from yolo12edge.data.tools.collection import Collection
from yolo12edge.data.tools.conversion import convert, read_any
from yolo12edge.data.tools.xml_tree import read_xml
from yolo12edge.data.tools.yolo_writing import joined_rings
from yolo12edge.errors import DatasetError, InputError
from yolo12edge.manifest import TASKS, Task
from yolo12edge.masks import Masks

SIZE = 96


def rings_area(rings: tuple[np.ndarray, ...]) -> int:
    """Return how many of 200 x 200 pixels rings cover."""
    masks = Masks.of_polygons([[np.asarray(ring, np.float32) * 200 for ring in rings]], (200, 200))
    return int(masks.crops[0].sum())


def assert_same(before: Collection, after: Collection, pixels: float = 0.01) -> None:
    """Compare all there is, to a share of a pixel."""
    tolerance = pixels / SIZE
    assert after.class_names == before.class_names
    assert (after.task, after.multi_label) == (before.task, before.multi_label)
    assert set(after.splits) == set(before.splits)
    for split, samples in before.splits.items():
        others = {sample.image.read_bytes(): sample for sample in after.splits[split]}
        assert set(others) == {sample.image.read_bytes() for sample in samples}
        for sample in samples:
            other = others[sample.image.read_bytes()]
            assert other.class_id.tolist() == sample.class_id.tolist()
            assert np.allclose(other.boxes, sample.boxes, atol=tolerance)
            for name in ("keypoints", "polygons"):
                one, two = getattr(sample, name), getattr(other, name)
                assert (one is None) == (two is None)
                if name == "keypoints" and one is not None:
                    assert np.allclose(one, two, atol=tolerance)
            for mine, theirs in zip(sample.polygons or (), other.polygons or (), strict=True):
                assert all(np.allclose(a, b, atol=tolerance) for a, b in zip(mine, theirs, strict=True))
            if sample.corners is not None:  # COCO gives them back from another corner on
                assert other.corners is not None
                gaps = np.abs(sample.corners[:, :, None] - other.corners[:, None]).max(axis=3).min(axis=2)
                assert gaps.max() < tolerance


@pytest.mark.parametrize("task", TASKS)
def test_yolo_to_yolo_keeps_everything(task: Task, tmp_path: Path) -> None:
    before = read_any(make_dataset(task, tmp_path / "a", images=6))
    assert convert(before, tmp_path / "b", to="yolo") == []
    after = read_any(tmp_path / "b")
    assert_same(before, after)
    assert after.keypoints == before.keypoints
    assert check_dataset(read_dataset(tmp_path / "b")).errors == ()


@pytest.mark.parametrize("task", [task for task in TASKS if task != "classify"])
def test_coco_and_back_keeps_the_objects(task: Task, tmp_path: Path) -> None:
    before = read_any(make_dataset(task, tmp_path / "a", images=6))
    lost = convert(before, tmp_path / "b", to="coco")
    assert bool(lost) == (task in ("obb", "pose"))
    assert check_dataset(read_dataset(tmp_path / "b")).errors == ()
    after = read_any(tmp_path / "b")
    assert_same(before, after, pixels=0.1)
    assert after.keypoints == before.keypoints
    convert(after, tmp_path / "c", to="yolo")
    assert_same(before, read_any(tmp_path / "c"), pixels=0.1)


def test_objects_of_several_rings_stay_whole(tmp_path: Path) -> None:
    make_dataset("segment", tmp_path / "a", images=1)
    before = read_any(tmp_path / "a")
    (sample,) = before.splits["train"]
    rings = tuple(np.float32([[x, 0.1], [x + 0.2, 0.1], [x + 0.2, 0.4]]) for x in (0.1, 0.5))
    one = Sample(sample.image, np.array([1]), np.float32([[0.1, 0.1, 0.7, 0.4]]), polygons=(rings,))
    several = Collection(before.class_names, {"train": [one]}, "segment")
    convert(several, tmp_path / "b", to="coco")
    assert_same(several, read_any(tmp_path / "b"), pixels=0.1)
    convert(several, tmp_path / "c", to="yolo")
    (joined,) = read_any(tmp_path / "c").splits["train"][0].polygons or ()
    assert abs(rings_area(joined) - rings_area(rings)) < 10


def test_corners_outside_of_their_picture_go_through_coco(tmp_path: Path) -> None:
    """An oriented box may reach out of its picture, where an outline may not."""
    data = make_dataset("obb", tmp_path / "a", images=2)
    (tmp_path / "a/labels/train/000.txt").write_text("0 -0.1 0.2 0.3 0.2 0.3 0.5 -0.1 0.5\n")
    before = read_any(data)
    convert(before, tmp_path / "b", to="coco")
    assert_same(before, read_any(tmp_path / "b"), pixels=0.1)


def test_voc_and_back_keeps_boxes_to_a_pixel(tmp_path: Path) -> None:
    before = read_any(make_dataset("detect", tmp_path / "a", images=6))
    assert convert(before, tmp_path / "b", to="voc")[0] == "VOC has whole pixels: boxes are rounded"
    assert_same(before, read_any(tmp_path / "b"), pixels=0.51)


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_voc_says_what_it_cannot_hold(task: Task, tmp_path: Path) -> None:
    before = read_any(make_dataset(task, tmp_path / "a", images=2))
    assert "only" in convert(before, tmp_path / "b", to="voc")[0]
    assert read_any(tmp_path / "b").task == "detect"


@pytest.mark.parametrize("to", ["coco", "voc"])
def test_classes_of_pictures_have_no_place_there(to, tmp_path: Path) -> None:
    before = read_any(make_dataset("classify", tmp_path / "a", images=4))
    with pytest.raises(DatasetError, match="no place for the labels of the task classify"):
        convert(before, tmp_path / "b", to=to)
    assert not (tmp_path / "b").exists()


def test_several_classes_of_a_picture_become_a_table(tmp_path: Path) -> None:
    before = read_any(make_dataset("classify", tmp_path / "a", images=2))
    several = {
        split: [Sample(s.image, np.array([0, 1]), np.tile(np.float32([0, 0, 1, 1]), (2, 1))) for s in samples]
        for split, samples in before.splits.items()
    }
    mine = Collection(before.class_names, several, "classify", multi_label=True)
    convert(mine, tmp_path / "b", to="yolo")
    assert_same(mine, read_any(tmp_path / "b"))


def test_pictures_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    first = read_any(make_dataset("detect", tmp_path / "a", images=2))
    second = read_any(make_dataset("detect", tmp_path / "b", images=2))
    both = Collection(first.class_names, {"train": [*first.splits["train"], *second.splits["train"]]})
    convert(both, tmp_path / "c", to="yolo", link=True)
    images = read_dataset(tmp_path / "c").images("train")
    assert len({image.stem for image in images}) == len(both.splits["train"]) == 4
    assert all(image.is_symlink() for image in images)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    before = read_any(make_dataset("detect", tmp_path / "a", images=2))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        convert(before, tmp_path / "b", to="yolo")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["mine"]


# --- rings ---


@given(st.integers(0, 2**32))
def test_joined_rings_cover_what_the_rings_cover(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    rings = []
    for cell in rng.permutation(4)[: rng.integers(1, 5)].tolist():
        centre = np.array([cell % 2, cell // 2]) * 0.5 + 0.25
        radius = rng.uniform(0.05, 0.24, 8)[:, None]
        rings.append(np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + centre)
    joined = joined_rings(rings)
    assert len(joined) == sum(map(len, rings)) + 2 * (len(rings) - 1)
    assert abs(rings_area((joined,)) - rings_area(tuple(rings))) <= 0.004 * rings_area(tuple(rings))


# --- VOC ---


def voc(folder: Path, body: str, *, name: str = "a") -> Path:
    from yolo12edge.imaging.images import write_image

    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    write_image(folder / "JPEGImages" / f"{name}.png", np.zeros((40, 80, 3), np.uint8))
    (folder / "Annotations" / f"{name}.xml").write_text(body)
    return folder


def thing(*corners: object, name: str = "cat", more: str = "") -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=False))
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def annotation(*things: str, size: str = "<size><width>80</width><height>40</height></size>") -> str:
    return f"<annotation><filename>a.png</filename>{size}{''.join(things)}</annotation>"


def test_voc_counts_from_one(tmp_path: Path) -> None:
    """The box of all pixels is the picture, and one of one pixel is a pixel."""
    folder = voc(tmp_path, annotation(thing(1, 1, 80, 40), thing(11, 21, 11, 21, name="dog")))
    found = read_any(folder)
    assert (found.class_names, list(found.splits), found.notes) == (("cat", "dog"), ["train"], ())
    assert np.allclose(found.splits["train"][0].boxes * [80, 40, 80, 40], [[0, 0, 80, 40], [10, 20, 11, 21]])


def test_voc_that_counts_from_zero_is_seen(tmp_path: Path) -> None:
    found = read_any(voc(tmp_path, annotation(thing(0, 4, 8, 20), size="")))
    assert "counted from 0" in found.notes[0]
    assert np.allclose(found.splits["train"][0].boxes * [80, 40, 80, 40], [[0, 4, 8, 20]])


def test_lists_and_notes_of_voc(tmp_path: Path) -> None:
    voc(tmp_path, annotation(thing(1, 1, 4, 4, more="<difficult>1</difficult>"), thing(5, 5, 4, 9)))
    voc(tmp_path, annotation(thing(1, 1, 4, 4)).replace("a.png", "b.png"), name="b")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    (lists / "cat_val.txt").write_text("b 1\n")
    found = read_any(tmp_path)
    assert {split: [s.image.name for s in samples] for split, samples in found.splits.items()} == {
        "train": ["a.png"],
        "val": ["b.png"],
    }
    assert [note.split(" ")[:2] for note in found.notes] == [["1", "objects"], ["1", "objects"]]
    (lists / "val.txt").write_text("../../b\n")
    with pytest.raises(DatasetError, match="not the name of an image"):
        read_any(tmp_path)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("<annotation", "not XML"),
        ("<html/>", "<html>"),
        (annotation(thing(1, 1, "x", 4)), "object 1 has no bndbox"),
        (annotation(thing(1, 1, "nan", 4)), "object 1 has no bndbox"),
        (annotation(thing(1, 1, 4, 4, name="")), "object 1 has no name"),
        (annotation(thing(1, 1, 99, 4)), "reaches out of the image"),
        ("<annotation>" * 20 + "</annotation>" * 20, "nested more than"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "there is a DTD"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "there is a DTD"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not XML"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says) as caught:
        read_any(voc(tmp_path, body))
    assert "a.xml" in str(caught.value)


def test_annotations_name_no_file_elsewhere(tmp_path: Path) -> None:
    """A path is not followed; the image of the annotation's own name is taken."""
    voc(tmp_path / "voc", annotation(thing(1, 1, 4, 4)).replace("a.png", "../../other.png"))
    (tmp_path / "other.png").write_bytes(b"secret")
    assert read_any(tmp_path / "voc").splits["train"][0].image == tmp_path / "voc/JPEGImages/a.png"


def test_large_xml_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo12edge.data.tools import xml_tree

    monkeypatch.setattr(xml_tree, "_MAX_ELEMENTS", 10)
    path = tmp_path / "a.xml"
    path.write_text(f"<a>{'<b/>' * 11}</a>")
    with pytest.raises(DatasetError, match="of over 10 parts"):
        read_xml(path)
    monkeypatch.setattr(xml_tree, "_MAX_BYTES", 10)
    with pytest.raises(DatasetError, match="larger than"):
        read_xml(path)
