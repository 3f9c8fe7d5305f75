"""``yolo12edge data`` does what it says, changes no dataset by itself, and its exit codes tell."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.task_data import make_dataset
from yolo12edge.cli import app
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.duplicates import picture_digests
from yolo12edge.data.report import check_dataset
from yolo12edge.errors import Yolo12EdgeError
from yolo12edge.imaging.images import read_image, write_image
from yolo12edge.manifest import TASKS, Task


def run(*words: object, code: int = 0, error: bool = False) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, words)])
    if isinstance(result.exception, Yolo12EdgeError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stderr if error else result.stdout


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A dataset in which a picture of val is in train, too, encoded anew, and one of train twice; both are labelled."""
    folder = tmp_path / "data"
    make_dataset("detect", folder, images=4)
    write_image(folder / "images/train/leak.jpg", read_image(folder / "images/val/000.png"))
    shutil.copy(folder / "labels/val/000.txt", folder / "labels/train/leak.txt")
    shutil.copy(folder / "images/train/001.png", folder / "images/train/twin.png")
    shutil.copy(folder / "labels/train/001.txt", folder / "labels/train/twin.txt")
    return folder


def test_check_tells_by_its_exit_code(copied: Path) -> None:
    assert "0 errors" in run("check", copied)
    (copied / "labels/train/002.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    found = json.loads(run("check", copied, "--json", code=1))
    (error,) = [problem for problem in found["problems"] if problem["severity"] == "error"]
    assert (Path(error["path"]).name, error["line"]) == ("002.txt", 1)


def test_check_in_full_sees_near_leaks(copied: Path) -> None:
    assert "nearly the same image" not in run("check", copied)
    told = run("check", copied, "--full")
    assert "000.png: warning: nearly the same image as" in told
    assert "leak.jpg in `train`; accuracy on an image that was trained on means nothing" in told


def test_check_says_which_task_labels_look_like(tmp_path: Path) -> None:
    data = make_dataset("segment", tmp_path, images=4)
    data.write_text(data.read_text().replace("task: segment\n", ""))
    assert "if the task is segment" in run("check", data, code=1)


@pytest.mark.parametrize("task", TASKS)
def test_stats_are_written_for_every_task(task: Task, tmp_path: Path) -> None:
    data = make_dataset(task, tmp_path / "data", images=4)
    told = json.loads(run("stats", data, "--json", "--out", tmp_path / "out"))
    train = told["splits"]["train"]
    labels = read_dataset(data).labels("train")
    assert (train["images"], train["formats"], train["unreadable"]) == (4, {"png": 4}, 0)
    assert sum(one["objects"] for one in train["classes"]) == sum(len(entry.class_id) for entry in labels)
    assert sum(map(sum, train["places"])) == sum(train["side_counts"]) == sum(train["areas"].values())
    page = (tmp_path / "out/statistics.html").read_text()
    assert page.count("<svg") == (2 if task == "classify" else 6)
    assert page.count("data:image/jpeg") == 2
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)  # it refers to nothing outside of itself
    assert "| dart |" in (tmp_path / "out/statistics.md").read_text()
    assert read_image(tmp_path / "out/train.png").std() > 10


def test_sides_of_boxes_are_in_pixels(tmp_path: Path) -> None:
    make_dataset("detect", tmp_path, images=2)
    for path in (tmp_path / "labels/train").iterdir():
        path.write_text("0 0.75 0.25 0.5 0.125\n")  # 48 x 12 of 96 x 96
    train = json.loads(run("stats", tmp_path, "--json"))["splits"]["train"]
    assert train["sides"]["median"] == train["sides"]["largest"] == 24
    assert train["aspects"]["median"] == 4
    assert train["areas"] == {"small": 2, "medium": 0, "large": 0}
    assert train["places"][2][6] == 2


def test_dedupe_lists_and_changes_nothing(copied: Path) -> None:
    before = files_of(copied)
    found = json.loads(run("dedupe", copied, "--json", code=1))["groups"]
    assert [[Path(one["image"]).name for one in group["redundant"]] for group in found] == [["twin.png"], ["leak.jpg"]]
    assert [Path(group["kept"][0]["image"]).parent.name for group in found] == ["train", "val"]
    assert [group["exact"] for group in found] == [True, False]
    assert len(json.loads(run("dedupe", copied, "--json", "--exact", code=1))["groups"]) == 1
    assert files_of(copied) == before


def test_dedupe_writes_a_dataset_without_copies(copied: Path, tmp_path: Path) -> None:
    before = files_of(copied)
    run("dedupe", copied, "--out", tmp_path / "clean")
    clean = read_dataset(tmp_path / "clean")
    assert sorted(path.name for path in clean.images("train")) == ["000.png", "001.png", "002.png", "003.png"]
    assert len(clean.images("val")) == 2
    assert check_dataset(clean).problems == ()
    assert "0 copies" in run("dedupe", tmp_path / "clean")
    assert files_of(copied) == before


def test_dedupe_moves_only_if_it_is_told_to(copied: Path, tmp_path: Path) -> None:
    before = files_of(copied)
    run("dedupe", copied, "--move", tmp_path / "moved")
    after, moved = files_of(copied), files_of(tmp_path / "moved")
    gone = set(before) - set(after)
    assert gone == {"images/train/twin.png", "labels/train/twin.txt", "images/train/leak.jpg", "labels/train/leak.txt"}
    assert sorted(before[name] for name in gone) == sorted(moved[name] for name in set(moved) - {"moved.csv"})
    assert moved["moved.csv"].decode().count("twin") == 4
    assert check_dataset(read_dataset(copied)).problems == ()
    with pytest.raises(Yolo12EdgeError, match="both given"):
        run("dedupe", copied, "--move", tmp_path / "a", "--out", tmp_path / "b")


def test_what_a_list_names_is_not_moved(copied: Path, tmp_path: Path) -> None:
    run("split", copied, tmp_path / "lists", "--exact")
    before = files_of(copied)
    with pytest.raises(Yolo12EdgeError, match="named by a file of the dataset"):
        run("dedupe", tmp_path / "lists", "--move", tmp_path / "moved")
    assert files_of(copied) == before
    assert not (tmp_path / "moved").exists()


def test_folds_validate_every_picture_once_and_keep_copies_together(copied: Path, tmp_path: Path) -> None:
    run("split", copied, tmp_path / "folds", "--folds", 3)
    held: list[str] = []
    for number in (1, 2, 3):
        fold = read_dataset(tmp_path / "folds" / f"fold-{number}")
        assert check_dataset(fold).errors == ()
        digests = {split: [picture_digests(path) for path in fold.images(split)] for split in ("train", "val")}
        assert all(a.distance(b) > 4 for a in digests["train"] for b in digests["val"])
        held += [str(path.resolve()) for path in fold.images("val")]
    everything = read_dataset(copied)
    assert sorted(held) == sorted(str(path) for split in ("train", "val") for path in everything.images(split))


def test_a_test_split_stays_out_of_it(tmp_path: Path) -> None:
    path = make_dataset("detect", tmp_path / "a", images=8)
    path.write_text(path.read_text().replace("val: images/val", "test: images/val"))
    run("split", path, tmp_path / "b", "--val", 0.25)
    made = read_dataset(tmp_path / "b")
    sizes = {split: len(images) for split, images in made.splits.items()}
    assert (sizes["train"] + sizes["val"], sizes["test"]) == (8, 4)
    assert abs(sizes["val"] - 2) <= 1  # with so few pictures, classes come before numbers
    assert all(made.images("test")[i].samefile(image) for i, image in enumerate(read_dataset(path).images("test")))
    run("split", path, tmp_path / "c", "--val", 0.25, "--test", 0.25)
    dealt = {split: len(images) for split, images in read_dataset(tmp_path / "c").splits.items()}
    assert sum(dealt.values()) == 12
    assert all(abs(dealt[split] - wanted) <= 1 for split, wanted in (("train", 6), ("val", 3), ("test", 3)))


def test_copies_that_make_a_split_lopsided_or_leak_are_told(copied: Path, tmp_path: Path) -> None:
    told = run("split", copied, tmp_path / "a", "--folds", 2, error=True)
    assert "2 groups, the largest of 2 pictures" in told
    assert "a smaller --distance" not in told
    frame = read_image(copied / "images/train/000.png")
    for number in range(7):
        write_image(copied / f"images/train/frame-{number}.jpg", frame)
    told = run("split", copied, tmp_path / "b", "--folds", 2, error=True)
    assert "the largest of 8 pictures" in told
    assert "more than a split of 50%" in told
    (copied / "data.yaml").write_text((copied / "data.yaml").read_text().replace("val: images/val", "test: images/val"))
    assert "1 pictures are copies of pictures in `test`" in run("split", copied, tmp_path / "c", error=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--folds", 3, "--val", 0.2), "--folds was given together"),
        (("--val", 0.6, "--test", 0.4), "leave some to train"),
    ],
)
def test_contradictions_are_refused(options: tuple[object, ...], says: str, copied: Path, tmp_path: Path) -> None:
    with pytest.raises(Yolo12EdgeError, match=says):
        run("split", copied, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_convert_and_preview(tmp_path: Path) -> None:
    data = make_dataset("segment", tmp_path / "a", images=4)
    run("convert", data, tmp_path / "coco", "--to", "coco")
    assert read_dataset(tmp_path / "coco").task == "segment"
    run("preview", tmp_path / "coco", tmp_path / "p.png", "--imgsz", 64)
    drawn = read_image(tmp_path / "p.png")
    run("preview", tmp_path / "coco", tmp_path / "q.png", "--imgsz", 64, "--augment", "none")
    assert drawn.shape == read_image(tmp_path / "q.png").shape
    assert np.abs(drawn.astype(int) - read_image(tmp_path / "q.png")).mean() > 1
