"""Splits have their share of every class, keep copies together, and lose no picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.task_data import make_dataset
from yolo12edge.data.dataset import Dataset, read_dataset
from yolo12edge.data.duplicates import PictureDigests
from yolo12edge.data.report import check_dataset
from yolo12edge.data.tools.collection import collection_of
from yolo12edge.data.tools.conversion import convert
from yolo12edge.data.tools.copies import Copies, Place, find_copies
from yolo12edge.data.tools.pictures import digests_in, survey
from yolo12edge.data.tools.splitting import deal, fold_pictures, split_pictures
from yolo12edge.data.tools.subsets import write_subset
from yolo12edge.errors import DatasetError, InputError
from yolo12edge.manifest import TASKS, Task


@given(st.integers(0, 2**32), st.integers(2, 5))
def test_every_group_is_dealt_and_no_split_is_empty(seed: int, splits: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.0, (rng.integers(splits, 40), 3))
    shares = rng.dirichlet(np.ones(splits) * 3)
    dealt = deal(counts, rng.integers(1, 4, len(counts)), shares, seed=seed)
    assert set(dealt.tolist()) == set(range(splits))


def test_rare_classes_reach_every_split() -> None:
    """Five objects of a class in a thousand pictures: one for each of five folds; and pictures are shared evenly."""
    counts = np.zeros((1000, 2), np.int64)
    counts[:, 0] = np.arange(1000) % 3
    counts[[3, 4, 500, 501, 998], 1] = 1
    dealt = deal(counts, np.ones(1000, np.int64), [0.2] * 5, seed=0)
    assert np.bincount(dealt, weights=counts[:, 1]).tolist() == [1] * 5
    assert np.ptp(np.bincount(dealt)) <= 2
    assert np.ptp(np.bincount(dealt, weights=counts[:, 0])) <= 4


def test_the_seed_decides() -> None:
    counts, sizes = np.ones((50, 1), np.int64), np.ones(50, np.int64)
    first, again, other = (deal(counts, sizes, [0.8, 0.2], seed=seed).tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert first.count(1) == 10


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="2 groups of different pictures for 3 splits"):
        deal(np.ones((2, 1), np.int64), np.ones(2, np.int64), [0.4, 0.3, 0.3], seed=0)


# --- copies in a dataset ---


class Pictures:
    """A dataset whose pictures have digests that a test chooses, and so many objects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: dict[str, list[PictureDigests]] = {}

    def add(self, split: str, name: str, phash: int, *, sha: str = "", objects: int = 1) -> Pictures:
        for kind in ("images", "labels"):
            (self.folder / kind / split).mkdir(parents=True, exist_ok=True)
        (self.folder / "images" / split / f"{name}.jpg").touch()
        lines = "".join(f"0 0.5 0.5 0.{number} 0.1\n" for number in range(1, objects + 1))
        (self.folder / "labels" / split / f"{name}.txt").write_text(lines)
        self.digests.setdefault(split, []).append(PictureDigests(sha or name, phash))
        return self

    def find(self, distance: int | None = 4) -> list[Copies]:
        splits = "".join(f"{split}: images/{split}\n" for split in self.digests)
        (self.folder / "data.yaml").write_text(f"{splits}names: [cat]\n")
        return find_copies(read_dataset(self.folder), self.digests, distance=distance)


def names(places: tuple[Place, ...]) -> list[str]:
    return [place.path.stem for place in places]


def test_what_measures_is_kept(tmp_path: Path) -> None:
    """A leak is taken out of training; of two in one split, the one with labels stays."""
    pictures = Pictures(tmp_path).add("train", "a", 0, objects=0).add("train", "b", 1, objects=2)
    (group,) = pictures.add("train", "c", 0xFF00).add("val", "d", 3).find()
    assert (names(group.kept), names(group.redundant)) == (["d"], ["b", "a"])
    assert group.splits == ("train", "val")
    assert (group.exact, group.labels_differ) == (False, True)


def test_frames_of_a_video_hang_together_but_stay(tmp_path: Path) -> None:
    """Each is near the next and far from the last: they are one group, of which those that differ stay."""
    pictures = Pictures(tmp_path)
    for number in range(6):
        pictures.add("train", f"f{number}", (1 << 3 * number) - 1)
    (group,) = pictures.find()
    assert names(group.kept) == ["f0", "f2", "f4"]
    assert len(group.places) == 6


def test_exact_copies_alone(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path).add("train", "a", 0, sha="x").add("train", "b", 0, sha="x").add("train", "c", 0)
    (group,) = pictures.find(None)
    assert group.exact
    assert (names(group.kept), names(group.redundant)) == (["a"], ["b"])


def test_copies_stay_in_one_split(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    rng = np.random.default_rng(0)
    for number, phash in enumerate(rng.integers(0, 2**63, 20).tolist()):
        for copy in "abc":
            pictures.add("train", f"{number:02d}{copy}", phash)
    copies = pictures.find()
    dataset = read_dataset(tmp_path)
    folds = fold_pictures(dataset, ["train"], copies, 5, seed=3)
    validated = [place.path.stem for fold in folds for place in fold["val"]]
    assert sorted(validated) == sorted(path.stem for path in dataset.images("train"))
    for fold in folds:
        held, trained = ({place.path.stem[:2] for place in fold[split]} for split in ("val", "train"))
        assert len(held) == 4
        assert not held & trained
        assert len(fold["val"]) + len(fold["train"]) == 60
    alone = split_pictures(dataset, ["train"], [], {"train": 0.5, "val": 0.5}, seed=3)
    assert {p.path.stem[:2] for p in alone["train"]} & {p.path.stem[:2] for p in alone["val"]}  # without, they part


def test_synthetic_pictures_are_never_measured_on(tmp_path: Path) -> None:
    path = make_dataset("detect", tmp_path, images=8)
    path.write_text(path.read_text() + "synthetic: images/train\n")
    dataset = read_dataset(path)
    folds = fold_pictures(dataset, ["train", "val"], [], 2, seed=0)
    for choice in (*folds, split_pictures(dataset, ["train", "val"], [], {"train": 0.5, "val": 0.5}, seed=0)):
        assert {place.path for place in choice["train"]} >= dataset.synthetic
        assert 1 <= len(choice["val"]) <= 3


# --- datasets over the pictures of others ---


def chosen_of(dataset: Dataset) -> dict[str, list[Place]]:
    """Return two pictures of train and one of val as the new train, and one of train as the new val."""
    places = {s: [Place(s, i, path) for i, path in enumerate(dataset.images(s))] for s in ("train", "val")}
    return {"train": [*places["train"][:2], places["val"][1]], "val": [places["train"][3]], "test": []}


@pytest.mark.parametrize("coco", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_a_subset_has_the_labels_of_its_pictures(task: Task, coco: bool, tmp_path: Path) -> None:
    source = read_dataset(make_dataset(task, tmp_path / "a", images=5))
    if coco:
        if task == "classify":
            return
        convert(collection_of(source), tmp_path / "coco", to="coco")
        source = read_dataset(tmp_path / "coco", task=task)
    choice = chosen_of(source)
    (tmp_path / "b").mkdir()
    made = read_dataset(write_subset(source, choice, tmp_path / "b"))
    assert made.task == task
    assert made.keypoints == source.keypoints
    assert list(made.splits) == ["train", "val"]
    assert check_dataset(made).errors == ()
    for split in made.splits:
        wanted = [source.samples(place.split)[place.index] for place in choice[split]]
        for one, two in zip(made.samples(split), wanted, strict=True):
            assert one.image.samefile(two.image)
            assert one.class_id.tolist() == two.class_id.tolist()
            assert np.array_equal(one.boxes, two.boxes)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in tmp_path.glob("[abc]*"):
        folder.rename(moved / folder.name)
    assert all(path.exists() for path in read_dataset(moved / "b").images("train"))  # both moved, and still there


def test_a_subset_keeps_what_is_synthetic(tmp_path: Path) -> None:
    path = make_dataset("detect", tmp_path / "a", images=4)
    (tmp_path / "list.txt").write_text("a/images/train/001.png\n")
    path.write_text(path.read_text() + "synthetic: ../list.txt\n")
    source = read_dataset(path)
    (tmp_path / "b").mkdir()
    made = read_dataset(write_subset(source, chosen_of(source), tmp_path / "b"))
    assert [path.name for path in made.synthetic] == ["001.png"]


def test_label_files_and_coco_do_not_mix(tmp_path: Path) -> None:
    make_dataset("detect", tmp_path / "a", images=4)
    convert(collection_of(read_dataset(tmp_path / "a")), tmp_path / "c", to="coco")
    text = "train: images/train\nval: ../c/annotations/val.json\nimages: {val: ../c/images/val}\nnames: [dart, disc]\n"
    (tmp_path / "a" / "data.yaml").write_text(text)
    source = read_dataset(tmp_path / "a")
    with pytest.raises(DatasetError, match="one split cannot mix"):
        write_subset(source, chosen_of(source), tmp_path)


def test_the_survey_sees_what_files_are(tmp_path: Path) -> None:
    import cv2

    make_dataset("detect", tmp_path, images=3)
    grey = np.full((20, 30), 40, np.uint8)
    cv2.imwrite(str(tmp_path / "images/train/000.png"), grey)
    cv2.imwrite(str(tmp_path / "images/train/001.png"), np.full((20, 30, 4), 300, np.uint16))
    (tmp_path / "images/train/002.png").write_bytes(b"no picture")
    found = survey(read_dataset(tmp_path), ["train"])
    first, second, third = found["train"]
    assert third is None
    assert first is not None
    assert second is not None
    assert (first.format, first.size, first.channels, first.bits, first.grey) == ("png", (30, 20), 1, 8, True)
    assert (second.channels, second.bits) == (4, 16)
    assert first.brightness == 40
    assert [one is None for one in digests_in(found)["train"]] == [False, False, True]
