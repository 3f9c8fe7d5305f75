"""Presets and files of augmentations: what they say, and what they are told when it cannot be."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.task_data import make_dataset
from yolo12edge.data.augment import (
    Augmentation,
    default_augmentation,
    load_augmentation,
    parse_augmentation,
    preset_names,
)
from yolo12edge.data.augment.settings import Affine, CopyPaste, Crop, Erasing, Hsv, Mixup, Mosaic, Randaugment
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.loader import PictureDataset
from yolo12edge.data.preview import draw_augmented
from yolo12edge.errors import InputError
from yolo12edge.imaging.images import read_image
from yolo12edge.manifest import TASKS


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_for_every_task(name: str, task: str) -> None:
    augmentation = load_augmentation(name, task=task)
    augmentation.check(task)
    assert (augmentation == Augmentation()) == (name == "none")
    assert msgspec.json.decode(msgspec.json.encode(augmentation), type=Augmentation) == augmentation


def test_the_presets_there_are() -> None:
    wanted = {"none", "base", "small-data", "large-data", "small-objects", "fixed-camera"}
    assert set(preset_names()) == wanted | {f"official-{scale}" for scale in "nsmlx"}


@pytest.mark.parametrize(
    ("scale", "zoom", "mixup", "paste"),
    [("n", 0.5, 0, 0.1), ("s", 0.9, 0.05, 0.15), ("m", 0.9, 0.15, 0.4), ("l", 0.9, 0.15, 0.5), ("x", 0.9, 0.2, 0.6)],
)
def test_the_official_recipe(scale: str, zoom: float, mixup: float, paste: float) -> None:
    augmentation = default_augmentation(scale, "segment")
    assert augmentation.mosaic == Mosaic(p=1)
    assert augmentation.affine == Affine(scale=zoom, translate=0.1)
    assert augmentation.mixup == (Mixup(p=mixup) if mixup else None)
    assert augmentation.copy_paste == CopyPaste(p=paste)
    assert augmentation.hsv == Hsv()
    assert default_augmentation(scale, "pose").copy_paste is None
    of_classes = load_augmentation(f"official-{scale}", task="classify")
    assert of_classes.crop is not None
    assert of_classes.crop.area == 0.08
    assert of_classes.randaugment == Randaugment()
    assert [op.title() for op in of_classes.ops] == [
        "crop", "randaugment", "hsv", "brightness-contrast", "fliplr", "erasing",
    ]  # fmt: skip
    assert [op.title() for op in default_augmentation(scale, "classify").ops] == ["crop", "hsv", "fliplr", "erasing"]


def test_base_has_the_figures_that_it_is_known_for() -> None:
    base = load_augmentation("base", task="detect")
    assert (base.mosaic.p, base.mixup.p, base.gridmask.p, base.affine.degrees) == (0.5, 0.2, 0.3, 10)


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_file_says_what_is_different_for_a_task(tmp_path: Path) -> None:
    path = written(tmp_path, "mosaic: {p: 0.3}\nfliplr:\nhsv: {hue: 0}\nsegment: {copy-paste: {p: 0.2}, mosaic: ~}\n")
    assert load_augmentation(path, task="pose") == Augmentation(mosaic=Mosaic(p=0.3), hsv=Hsv(hue=0))
    assert load_augmentation(str(path), task="segment") == Augmentation(copy_paste=CopyPaste(p=0.2), hsv=Hsv(hue=0))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("hsv: {}\nmosiac: {p: 1}\n", 2, "did you mean mosaic"),
        ("hsv: {}\nmosaic:\n  p: 1\n  tile: 4\n", 4, "did you mean tiles"),
        ("affine:\n  degrees: 10\n  scale: 1.5\n", 3, "affine.scale is 1.5"),
        ("affine:\n  scale: .nan\n", 2, "affine.scale is nan"),
        ("affine: {p: 2}\n", 1, "affine.p is 2"),
        ("mosaic:\n  tiles: 5\n", 2, "mosaic.tiles is 5"),
        ("mosaic:\n  tiles: many\n", 2, "mosaic.tiles is 'many'"),
        ("erasing:\n  area: [0.3, 0.1]\n", 2, "the least value first"),
        ("hsv: {}\nmosaic: 0.5\n", 2, "a mapping"),
        ("hsv: {}\ncopy-paste: {p: 1}\n", 2, "no outlines"),
        ("hsv: {}\ndetect:\n  copy-paste: {p: 1}\n", 3, "no outlines"),
        ("pose:\n  mosiac: {}\n", 2, "mosaic"),
        ("hsv: {}\nhsv: {}\n", 2, "twice"),
        ("hsv: {\n", 2, "not YAML"),
        ("randaugment: {}\naugmix: {}\n", None, "one policy"),
        ("hsv: &a {}\nmosaic: *a\n", None, "alias"),
        ("- mosaic\n", None, "a mapping"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, line: int | None, what: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_augmentation(path, task="detect")
    message = str(caught.value)
    assert what in message
    assert str(path) + (f":{line}: " if line else "") in message


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(InputError, match="nearest preset is official-n"):
        load_augmentation("oficial-n", task="detect")


def test_settings_in_a_configuration_are_checked_alike() -> None:
    found = parse_augmentation({"crop": {"area": 0.5}}, task="obb", source="run.yaml: augment")
    assert found == Augmentation(crop=Crop(area=0.5))
    with pytest.raises(InputError, match=r"run.yaml: augment: crop.area is 5"):
        parse_augmentation({"crop": {"area": 5}}, task="obb", source="run.yaml: augment")
    for wrong in (lambda: Affine(shear=50), lambda: Erasing(area=(0.5, 0.2)), lambda: Mosaic(tiles=6)):
        with pytest.raises(InputError):
            wrong()


def test_a_loader_refuses_what_its_task_cannot_have(tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset("classify", tmp_path, images=2))
    with pytest.raises(InputError, match="mosaic is not for classify"):
        PictureDataset(dataset.samples("train"), image_size=64, task="classify", augment=Augmentation(mosaic=Mosaic()))


@pytest.mark.parametrize("task", TASKS)
def test_a_preview_of_every_task(task: str, tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(task, tmp_path, images=2))
    out = tmp_path / "preview.png"
    draw_augmented(dataset, load_augmentation("small-data", task=task), out, image_size=64, seed=1)
    grid = read_image(out)
    assert grid.shape == (2 * 325 + 5, 4 * 325 + 5, 3)
    first = out.read_bytes()
    draw_augmented(dataset, load_augmentation("small-data", task=task), out, image_size=64, seed=1)
    assert out.read_bytes() == first
    draw_augmented(dataset, load_augmentation("small-data", task=task), out, image_size=64, seed=2)
    assert out.read_bytes() != first
