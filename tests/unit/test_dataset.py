from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.data.dataset import dataset_digest, label_path, read_dataset
from yolo12edge.data.labels import OVERSHOOT, Labels, decode_text, parse_labels
from yolo12edge.errors import DatasetError

SHARED = Path(__file__).parents[2].parent / "shared"


def parse(text: str, num_classes: int = 3) -> Labels:
    return parse_labels(text, Path("a.txt"), num_classes=num_classes)


def make(root: Path, description: str, images: tuple[str, ...] = ("images/train/a.jpg", "images/val/b.jpg")) -> Path:
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())  # reading a dataset does not open its images
    root.mkdir(exist_ok=True)
    (root / "data.yaml").write_text(description, encoding="utf-8")
    return root / "data.yaml"


BASIC = "train: images/train\nval: images/val\nnames: [cat, dog, no]\n"


# --- label lines ---


def test_a_label_becomes_clipped_corners() -> None:
    labels = parse("1 0.5 0.25 0.5 0.5\n0 0.1 0.9 0.2 0.2\n")
    assert labels.problems == ()
    assert labels.class_id.tolist() == [1, 0]
    assert labels.class_id.dtype == np.int64
    assert labels.boxes.dtype == np.float32
    assert np.allclose(labels.boxes, [[0.25, 0, 0.75, 0.5], [0, 0.8, 0.2, 1]])


def test_empty_labels_have_shapes() -> None:
    labels = parse(" \n\n")
    assert labels.boxes.shape == (0, 4)
    assert labels.class_id.shape == (0,)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5 0.1", "4 values; expected 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 values; expected 5"),
        ("0 .1 .1 .2 .1 .2 .2", "polygon of 3 points"),
        ("0 .1 .1 .2 .1 .2 .2 .1 .2", "oriented box of 4 points"),
        ("0 " + " ".join(["0.5"] * 55), "keypoint"),
        ("0 0.5 x 0.1 0.1", "'x' is not a finite number"),
        ("0 0.5 nan 0.1 0.1", "'nan' is not a finite number"),
        ("0 0.5 0.5 inf 0.1", "'inf' is not a finite number"),
        ("0 0.5 0.5 0.1 1_0", "'1_0' is not a finite number"),
        ("0.5 0.5 0.5 0.1 0.1", "not a whole number"),
        ("3 0.5 0.5 0.1 0.1", "class 3 is out of range; the dataset names classes 0 to 2"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is out of range"),
        ("1e300 0.5 0.5 0.1 0.1", "out of range"),
        ("0 0.5 0.5 0 0.1", "no area"),
        ("0 0.5 0.5 0.1 -0.1", "no area"),
        ("0 0.5 0.5 1e-30 0.1", "no area"),
        ("0 0.95 0.5 0.2 0.1", "out of the image"),
        (f"0 0.5 0.05 0.1 {0.1 + 2.2 * OVERSHOOT}", "out of the image"),
        ("0 320 240 20 10", "look like pixels"),
    ],
)
def test_a_wrong_line_is_an_error_with_its_number(line: str, says: str) -> None:
    labels = parse(f"1 0.5 0.5 0.1 0.1\n\n{line}\n2 0.3 0.3 0.1 0.1")
    (problem,) = labels.problems
    assert (problem.severity, problem.line) == ("error", 3)
    assert says in problem.message
    assert str(problem).startswith("a.txt:3: error: ")
    assert labels.class_id.tolist() == [1, 2]  # the other lines are still there


def test_a_small_overshoot_is_clipped_with_a_warning() -> None:
    labels = parse(f"0 0.95 0.5 {0.1 + OVERSHOOT:.6f} 0.1")
    (problem,) = labels.problems
    assert (problem.severity, problem.line) == ("warning", 1)
    assert labels.boxes[0, 2] == 1.0


def test_rounding_to_six_decimals_is_no_problem() -> None:
    labels = parse("0 0.166667 0.5 0.333335 0.1")
    assert labels.problems == ()
    assert labels.boxes[0, 0] == 0.0


def test_an_object_labelled_twice_counts_once() -> None:
    labels = parse("0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n0 0.50 0.5 0.1 0.1")
    (problem,) = labels.problems
    assert (problem.severity, problem.line) == ("warning", 3)
    assert "line 1" in problem.message
    assert labels.class_id.tolist() == [0, 1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding: str, newline: str) -> None:
    data = newline.join(["0 0.5 0.5 0.1 0.1", "1 0.5 0.5 0.2 0.2", "9 0.5 0.5 0.2 0.2"]).encode(encoding)
    labels = parse(decode_text(data))
    assert labels.class_id.tolist() == [0, 1]
    assert [problem.line for problem in labels.problems] == [3]


def test_line_numbers_are_those_of_an_editor() -> None:
    assert [p.line for p in parse("0 0.5 0.5 0.1\x0c0.1\u2028\x1c\nbad").problems] == [2]


TOKENS = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "-1", "0.5", "0.1", "1", "nan", "1e400", "1e-40", "٣", "\0", "0x1"]),
    st.floats(allow_nan=True).map(repr),
    st.text(max_size=4),
)
LINES = st.lists(TOKENS, max_size=8).map(" ".join)


@given(st.one_of(st.text(), st.binary().map(decode_text), st.lists(LINES, max_size=6).map("\n".join)))
def test_any_text_gives_objects_and_problems(text: str) -> None:
    labels = parse(text)
    assert labels.boxes.shape == (len(labels.class_id), 4)
    assert ((labels.class_id >= 0) & (labels.class_id < 3)).all()
    assert ((labels.boxes >= 0) & (labels.boxes <= 1)).all()
    assert (labels.boxes[:, 2:] > labels.boxes[:, :2]).all()
    lines = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.split()]
    lost = {problem.line for problem in labels.problems if problem.severity == "error" or "same" in problem.message}
    assert len(labels.class_id) + len(lost) == len(lines)


# --- the description ---


def test_a_dataset_is_read(tmp_path: Path) -> None:
    path = make(tmp_path, BASIC)
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("2 0.5 0.5 1 1")
    for given_path in (path, str(path), tmp_path):
        dataset = read_dataset(given_path)
        assert dataset.path == path
        assert dataset.class_names == ("cat", "dog", "no")  # YAML would make the last one False
        (sample,) = dataset.samples("train")
        assert sample.image == tmp_path / "images/train/a.jpg"
        assert (sample.class_id.tolist(), sample.boxes.tolist()) == ([2], [[0, 0, 1, 1]])
        (background,) = dataset.samples("val")
        assert len(background) == 0


def test_samples_refuses_a_wrong_label(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, BASIC))
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 1 1\n7 0.5 0.5 1 1")
    with pytest.raises(DatasetError, match=r"a\.txt:2: error: class 7 is out of range"):
        dataset.samples("train")
    with pytest.raises(DatasetError, match="no split 'test'"):
        dataset.samples("test")


def test_path_is_relative_to_the_file_and_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "set", BASIC)
    make(tmp_path / "elsewhere", "path: ../set\n" + BASIC, images=())
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("data.yaml", tmp_path / "elsewhere/data.yaml"):
        (image,) = read_dataset(name).splits["train"]
        assert image.read_bytes() == b"images/train/a.jpg"
    (tmp_path / "elsewhere/data.yaml").write_text(f"path: {tmp_path / 'set'}\n" + BASIC)
    assert read_dataset("data.yaml").splits["train"] == (tmp_path / "set/images/train/a.jpg",)


def test_folders_are_searched_in_a_fixed_order_for_images_only(tmp_path: Path) -> None:
    names = ("images/train/b/2.PNG", "images/train/a/1.jpg", "images/train/c.jpeg", "images/train/notes.md")
    dataset = read_dataset(make(tmp_path, "train: [images/train]\nnames: {0: a}", names))
    assert [path.name for path in dataset.splits["train"]] == ["1.jpg", "2.PNG", "c.jpeg"]


def test_list_files_know_their_lines(tmp_path: Path) -> None:
    path = make(tmp_path, "train: lists/train.txt\nval: [lists/val.txt, images/val]\nnames: {'1': b, 0: a}\nnc: 2")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_bytes(
        b"\xef\xbb\xbf# comment\r\n../images/train/a.jpg\r\n\r\nimages/gone.jpg\r\n"
    )
    (tmp_path / "lists/val.txt").write_text("images/val/b.jpg\n")  # relative to the root, as some tools write
    dataset = read_dataset(path)
    first, gone = dataset.splits["train"]
    assert first.read_bytes() == b"images/train/a.jpg"
    assert dataset.listed[gone] == (tmp_path / "lists/train.txt", 4)
    assert [image.name for image in dataset.splits["val"]] == ["b.jpg", "b.jpg"]
    assert dataset.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a dataset description"),
        ("- a\n- b", "not a dataset description"),
        ("names: [a]", "names no images"),
        ("names: [a]\ntrain: \nval: null\n", "names no images"),
        ("train: images/train", "does not name the classes"),
        ("train: images/train\nnames: cat", "`names` is 'cat'"),
        ("train: images/train\nnames: {0: a, 2: b}", "0, 1, 2"),
        ("train: images/train\nnames: {a: 0}", "0, 1, 2"),
        ("train: images/train\nnames: [a, ' ']", "a class has no name"),
        ("train: images/train\nnames: [a, [b]]", "a class has no name"),
        ("train: images/train\nnames: [a, b, a]", "more than one class is named a"),
        ("train: images/train\nnames: [a]\nnc: 2", "`nc` is '2' but there are 1 names"),
        ("train: {a: b}\nnames: [a]", "`train` is"),
        ("train: images/none\nnames: [a]", "images/none, which is not there"),
        ("path: gone\ntrain: images/train\nnames: [a]", "is not a folder"),
        ("path: [a]\ntrain: images/train\nnames: [a]", "`path` is"),
        ("train: images/train\nnames: [a\n", "not YAML"),
        ("train: images/train\nnames: [a\0b]\n", "not YAML"),
        ("a: &x [1, 2]\nb: [*x, *x]\ntrain: images/train\nnames: [a]", ":2: a YAML alias"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested"),
        ("? [a]\n: b\ntrain: images/train", "not YAML"),
        ("# " + "x" * (1 << 20), "has 1048578 bytes"),
        ("names: [a]\ntrain: " + "x" * 5000, "File name too long"),
        ("names: [a]\ntrain: list.txt", "File name too long"),
        ("train: [images/train, a.json]\nnames: [a]", "mixes a COCO file"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = make(tmp_path, text)
    (tmp_path / "list.txt").write_text("images/train/a.jpg\n" + "y" * 5000)
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_yaml_cannot_build_objects(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    attack = f"!!python/object/apply:os.system ['touch {marker}']"
    make(tmp_path, f"train: images/train\nnames: [a]\nevil: {attack}\n")
    assert read_dataset(tmp_path).class_names == ("a",)
    assert not marker.exists()


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data\.yaml: No such file"):
        read_dataset(tmp_path)
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"write a data\.yaml"):
        read_dataset(tmp_path / "instances.json")


SCALARS = ["images/train", "images/val", "list.txt", "a.json", "", ".", "0", "1", "x" * 5000, "a\0"]
VALUES = st.recursive(
    st.sampled_from(SCALARS) | st.text(st.characters(exclude_characters="/.")),  # not to search the whole disk
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "1", "train"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(["train", "val", "names", "nc", "path", "images", "other"])


@settings(max_examples=150)
@given(st.dictionaries(KEYS, VALUES).map(lambda d: yaml.safe_dump({"names": ["a"], **d})) | st.text() | st.binary())
def test_any_description_is_a_dataset_or_a_dataset_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "fuzz"
    make(root, "")
    (root / "list.txt").write_bytes(b"images/train/a.jpg\n" + b"y" * 3000)
    (root / "data.yaml").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    with suppress(DatasetError):
        assert read_dataset(root).class_names


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
        ("/d/images/x/images/a.b.png", "/d/images/x/labels/a.b.txt"),
        ("/d/train/images/a.jpg", "/d/train/labels/a.txt"),
        ("/d/train/a.jpg", "/d/train/a.txt"),
        ("/d/my-images/a.jpg", "/d/my-images/a.txt"),
    ],
)
def test_where_labels_are(image: str, label: str) -> None:
    assert label_path(Path(image)) == Path(label)


def test_digest_tells_contents_and_order(tmp_path: Path) -> None:
    make(tmp_path, BASIC, images=("a", "b", "c/a"))
    (tmp_path / "c/a").write_bytes(b"a")
    a, b, same = tmp_path / "a", tmp_path / "b", tmp_path / "c/a"
    assert dataset_digest([a, b]) == dataset_digest([same, b])
    assert len({dataset_digest(paths) for paths in ([], [a], [a, b], [b, a], [a, b, b])}) == 5
    assert len(dataset_digest([])) == 64


@pytest.mark.skipif(not (SHARED / "data/bccd").is_dir(), reason="the blood cell pictures are not on this machine")
def test_blood_cells() -> None:
    dataset = read_dataset(SHARED / "data/bccd")
    assert dataset.class_names == ("RBC", "WBC", "Platelets")
    train, val = dataset.samples("train"), dataset.samples("val")
    assert (len(train), len(val)) == (205, 87)
    assert (sum(map(len, train)), sum(map(len, val))) == (2804, 1137)


# --- what is nearly right, and says so ---


@pytest.mark.parametrize(
    ("key", "meant"), [("tasks: obb", "task"), ("kpt_shapes: [4, 3]", "kpt_shape"), ("tests: images/val", "test")]
)
def test_a_misspelt_key_is_not_passed_over(tmp_path: Path, key: str, meant: str) -> None:
    path = make(tmp_path, f"{BASIC}{key}\n")
    with pytest.raises(DatasetError, match=rf"`{key.split(':')[0]}`.*Expected: `{meant}`"):
        read_dataset(path)


def test_keys_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    others = "name: my pictures\nnc: 3\nroboflow: {version: 3}\ndownload: https://example.org\nvalue: 5\n"
    assert read_dataset(make(tmp_path, BASIC + others)).class_names == ("cat", "dog", "no")


@pytest.mark.parametrize(
    "text", ["imagesource:GoogleEarth\ngsd:0.14\n", "1 2 30 2 30 40 1 40 plane 0\n", "1.0 2 30 2 30 40 1 40 ship\n"]
)
def test_lines_of_dota_are_named(text: str) -> None:
    labels = parse(text + "1 2 30 2 30 40 1 40 plane 1\n" * 3)
    assert len(labels.problems) == 1  # not one a line
    assert "DOTA" in labels.problems[0].message
    assert labels.problems[0].line == 1


@pytest.mark.parametrize(("separator", "named"), [(";", "a semicolon"), ("\t", "a tab")])
def test_a_table_with_another_separator_is_named(tmp_path: Path, separator: str, named: str) -> None:
    (tmp_path / "train.csv").write_text(f"path{separator}label\na.jpg{separator}cat\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"train\.csv:1: error: .*separated by {named}; expected a comma"):
        read_dataset(tmp_path)
    (tmp_path / "train.csv").write_text(f"path,label\na.jpg,cat\nb.jpg{separator}cat\n", encoding="utf-8")
    (problem,) = read_dataset(tmp_path).unplaced("train")
    assert problem.line == 3
    assert named in problem.message


def test_synthetic_pictures_are_known(tmp_path: Path) -> None:
    images = ("images/train/a.jpg", "images/train/made/b.jpg", "images/val/c.jpg")
    path = make(tmp_path, BASIC + "synthetic: images/train/made\n", images)
    assert read_dataset(path).synthetic == {tmp_path / "images/train/made/b.jpg"}
    path.write_text(BASIC + "synthetic: images/other\n")
    with pytest.raises(DatasetError, match=r"`synthetic: images/other` leads to"):
        read_dataset(path)
    (tmp_path / "images/other").mkdir()
    (tmp_path / "images/other/d.jpg").write_bytes(b"d")
    with pytest.raises(DatasetError, match=r"d\.jpg, which is in no split"):
        read_dataset(path)
