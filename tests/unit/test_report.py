from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo12edge.data.dataset import Dataset, read_dataset
from yolo12edge.data.report import DatasetReport, Problem, check_dataset
from yolo12edge.errors import DatasetError

SHARED = Path(__file__).parents[2].parent / "shared"
LABEL = "0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1\n"


class Builder:
    """A correct dataset of two training and two validation images, to be broken in one place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for number, name in enumerate(("train/a.jpg", "train/b.png", "val/c.bmp", "val/d.webp")):
            self.image(name, number)
            self.label(name.partition(".")[0], LABEL)
        self.describe("train: images/train\nval: images/val\nnames: [cat, dog]\n")

    def describe(self, text: str) -> None:
        (self.root / "data.yaml").write_text(text)

    def image(self, name: str, seed: int) -> Path:
        path = self.root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(seed).integers(0, 255, (40 + seed, 60, 3), np.uint8)
        assert cv2.imwrite(str(path), picture)
        return path

    def label(self, name: str, text: str) -> Path:
        path = self.root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def read(self) -> Dataset:
        return read_dataset(self.root)

    def check(self, *, full: bool = False, splits: tuple[str, ...] = ("train", "val")) -> DatasetReport:
        return check_dataset(self.read(), full=full, splits=splits)


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def only(report: DatasetReport, severity: str, path: Path, line: int | None) -> str:
    """Return the message of the one problem, after checking where it is."""
    assert [(p.severity, p.path, p.line) for p in report.problems] == [(severity, path, line)]
    return report.problems[0].message


@pytest.mark.parametrize("full", [False, True])
def test_a_correct_dataset_has_no_problem(build: Builder, full: bool) -> None:
    steps: list[tuple[int, int]] = []
    report = check_dataset(build.read(), full=full, progress=lambda done, total: steps.append((done, total)))
    assert report.problems == ()
    report.raise_for_errors()
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    train = report.splits["train"]
    assert (train.images, train.background, train.boxes) == (2, 0, (2, 2))
    assert train.image_sizes == {(60, 40): 1, (60, 41): 1}
    # two boxes of half and two of a tenth of 60 x 40 and 60 x 41
    assert train.box_sides[1] == pytest.approx((np.sqrt(30 * 20) + np.sqrt(6 * 4.1)) / 2, rel=1e-3)
    assert report.splits["val"].image_sizes == {(60, 42): 1, (60, 43): 1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5", "3 values"),
        ("0 a 0.5 0.1 0.1", "not a finite number"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is out of range"),
        ("0 0.5 0.5 0 0.1", "no area"),
        ("0 0.9 0.5 0.3 0.1", "out of the image"),
        ("0 .1 .1 .2 .1 .2 .2 .1 .2", "oriented box"),
    ],
)
def test_a_wrong_line_is_an_error_at_its_line(build: Builder, line: str, says: str) -> None:
    path = build.label("val/c", LABEL + line + "\n")
    report = build.check()
    assert says in only(report, "error", path, 3)
    with pytest.raises(DatasetError) as caught:
        report.raise_for_errors()
    assert f"{path}:3: error: " in str(caught.value)
    assert says in str(caught.value)


def test_warnings_do_not_stop_training(build: Builder) -> None:
    path = build.label("train/a", LABEL + "0 0.95 0.5 0.1004 0.1\n" + "0 0.5 0.5 0.5 0.5\n")
    report = build.check()
    assert [(p.severity, p.path, p.line) for p in report.problems] == [("warning", path, 3), ("warning", path, 4)]
    assert report.errors == ()
    assert len(report.warnings) == 2
    report.raise_for_errors()


@pytest.mark.parametrize("full", [False, True])
def test_unusable_images_are_errors(build: Builder, full: bool) -> None:
    jpeg = build.root / "images/train/a.jpg"
    whole = jpeg.read_bytes()
    for data, says in (
        (b"", "empty"),
        (b"GIF? no: just text", "not an image"),
        (whole[: len(whole) // 2], "cut off"),
        (whole[:12], "cut off"),
    ):
        jpeg.write_bytes(data)
        message = only(build.check(full=full), "error", jpeg, None)
        assert says in message
        assert str(jpeg) not in message


def test_a_picture_that_only_decoding_finds_damaged(build: Builder) -> None:
    png = build.root / "images/train/b.png"
    data = bytearray(png.read_bytes())
    data[60:300] = bytes(240)
    png.write_bytes(data)
    assert build.check().problems == ()
    assert "damaged" in only(build.check(full=True), "error", png, None)


def test_a_missing_image_is_reported_at_the_line_that_names_it(build: Builder) -> None:
    build.describe("train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    (build.root / "train.txt").write_text("images/train/a.jpg\nimages/train/gone.jpg\nimages/train/b.png\n")
    build.label("train/gone", LABEL)
    message = only(build.check(), "error", build.root / "train.txt", 2)
    assert "gone.jpg: the image is missing" in message


def test_a_missing_image_in_a_folder_is_a_stray_label(build: Builder) -> None:
    (build.root / "images/train/a.jpg").unlink()
    (build.root / "labels/train/classes.txt").write_text("cat\ndog\n")
    assert "a.txt" in only(build.check(), "warning", build.root / "labels/train", None)


def test_images_without_label_file(build: Builder) -> None:
    (build.root / "labels/train/a.txt").unlink()
    report = build.check()
    assert "1 of 2 images of `train` have no label file" in only(report, "warning", build.root / "data.yaml", None)
    assert report.splits["train"].background == 1
    (build.root / "labels/train/b.txt").unlink()
    (error,) = build.check().errors
    assert f"looked for at {build.root / 'labels/train/a.txt'}" in error.message


def test_the_same_image_twice_is_a_warning(build: Builder) -> None:
    data = (build.root / "images/train/a.jpg").read_bytes()
    twin, leak = build.root / "images/train/z.jpg", build.root / "images/val/leak.jpg"
    for path in (twin, leak):
        path.write_bytes(data)
        build.label(f"{path.parent.name}/{path.stem}", LABEL)
    within, across = build.check().problems
    assert (within.severity, within.path) == ("warning", twin)
    assert within.message == f"the same image as {build.root / 'images/train/a.jpg'}"
    assert (across.severity, across.path) == ("warning", leak)
    assert "a.jpg in `train`" in across.message


def test_an_image_named_twice_is_a_warning(build: Builder) -> None:
    build.describe("train: [images/train, images/train]\nval: images/val\nnames: [cat, dog]\n")
    assert [p.message for p in build.check().problems] == ["the image is named more than once in `train`"] * 2


def test_two_images_with_one_label_file(build: Builder) -> None:
    build.image("train/a.png", 9)
    assert "2 images share" in only(build.check(), "warning", build.root / "labels/train/a.txt", None)


def test_empty_and_missing_splits(build: Builder) -> None:
    (build.root / "images/none").mkdir()
    build.describe("train: images/none\nnames: [cat, dog]\n")
    report = build.check()
    assert [p.message for p in report.errors] == ["the split `train` is empty", "the split `val` is not there"]
    assert report.splits == {}


def test_a_class_without_objects_is_a_warning(build: Builder) -> None:
    build.describe("train: images/train\nval: images/val\nnames: [cat, dog, cow]\n")
    first, second = build.check().problems
    assert first.message == "`train` has no object of 1 of 3 classes: cow"
    assert (second.severity, second.path) == ("warning", build.root / "data.yaml")


def test_many_errors_are_counted_and_the_first_are_shown(build: Builder) -> None:
    build.label("train/a", "bad\n" * 25)
    with pytest.raises(DatasetError) as caught:
        build.check().raise_for_errors()
    text = str(caught.value)
    assert "has 25 errors:" in text
    assert text.count("a.txt:") == 10
    assert "and 15 more" in text


@pytest.mark.skipif(not (SHARED / "data/bccd").is_dir(), reason="the blood cell pictures are not on this machine")
def test_blood_cells_are_clean() -> None:
    report = check_dataset(read_dataset(SHARED / "data/bccd"))
    assert report.problems == ()
    assert report.splits["train"].boxes == (2381, 214, 209)
    assert report.splits["val"].image_sizes == {(640, 480): 87}


@pytest.mark.skipif(not (SHARED / "data/mouse-pose").is_dir(), reason="the mouse pictures are not on this machine")
def test_labels_of_other_tasks_are_told_apart() -> None:
    for name, says in (("nuclei", "a polygon of"), ("mouse-pose", "keypoint")):
        errors = check_dataset(read_dataset(SHARED / "data" / name, task="detect")).errors
        assert errors
        assert all(says in error.message or "oriented box" in error.message for error in errors)


def test_labels_of_another_task_are_named_once_for_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    wrong = [Problem("error", path, number, "6 coordinates", ("segment",)) for number in (1, 2, 3)]
    report = DatasetReport(tmp_path, tuple(wrong), {})
    with pytest.raises(DatasetError, match=r"(?s)a\.txt:3.*\nRemedy: if the task is segment, say so by"):
        report.raise_for_errors()
    mixed = [*wrong, *(Problem("error", tmp_path, None, "is not an image") for _ in range(3))]
    with pytest.raises(DatasetError, match=r"\nRemedy: repair or remove"):
        DatasetReport(tmp_path, tuple(mixed), {}).raise_for_errors()


def test_class_folders_without_a_task_are_named(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / split / name / f"{split}{name}.png"), np.full((8, 8, 3), 9, np.uint8))
    (tmp_path / "data.yaml").write_text("train: train\nval: val\nnames: [cat, dog]\n")
    report = check_dataset(read_dataset(tmp_path))
    assert "lie in 2 folders, as those of classes do: cat, dog" in str(report.errors[0])
    with pytest.raises(DatasetError, match="if the task is classify, say so by `task: classify`"):
        report.raise_for_errors()


def test_synthetic_pictures_are_for_training_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f"images/{split}/a.png"), rng.integers(0, 255, (8, 8, 3), np.uint8))
        (tmp_path / f"labels/{split}/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    description = "train: images/train\nval: images/val\nnames: [cat]\n"
    (tmp_path / "data.yaml").write_text(description + "synthetic: images/train\n")
    assert check_dataset(read_dataset(tmp_path)).errors == ()
    (tmp_path / "data.yaml").write_text(description + "synthetic: images/val\n")
    (error,) = check_dataset(read_dataset(tmp_path)).errors
    assert "1 images of `val` are synthetic" in error.message
