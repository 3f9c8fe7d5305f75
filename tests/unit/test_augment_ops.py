"""Operations of augmentation, each by what it does to pixels and to labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.task_data import make_picture
from tests.unit.test_task_augment import SIZE, colours, load, objects_of
from yolo12edge.data.augment import Augmentation, Picture
from yolo12edge.data.augment.colour import recoloured
from yolo12edge.data.augment.hide import erasing_mask, gridmask_mask, painted_over, without_hidden
from yolo12edge.data.augment.mix import copy_paste, cut_in, mosaic_tiles
from yolo12edge.data.augment.picture import Tile, render
from yolo12edge.data.augment.pipeline import augmented_picture, augmented_whole_picture
from yolo12edge.data.augment.policies import (
    _COLOUR,
    _DRAWN,
    _GEOMETRY,
    _PAIRS,
    USUAL,
    WIDE,
    Step,
    augmixed,
    draw_policy,
    geometry_of,
)
from yolo12edge.data.augment.settings import (
    Affine,
    Augmix,
    Autoaugment,
    Blur,
    BrightnessContrast,
    Clahe,
    CopyPaste,
    Crop,
    Cutmix,
    Equalize,
    Erasing,
    Gray,
    Gridmask,
    Mixup,
    Mosaic,
    Randaugment,
    Trivialaugment,
)
from yolo12edge.data.form_segment import Polygons
from yolo12edge.data.objects import Objects

PLACED = ("detect", "segment", "pose", "obb")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def run(augmentation: Augmentation, task: str = "detect", seed: int = 0) -> Picture:
    return augmented_picture(load(task), 3, count=8, size=SIZE, augmentation=augmentation, rng=rng(seed))


def of_boxes(*boxes: tuple[float, ...]) -> Objects:
    return Objects(np.arange(len(boxes)), np.array(boxes, np.float32).reshape(-1, 4))


# --- policies ---


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(_GEOMETRY)),
    strength=st.floats(-1, 1),
    task=st.sampled_from(PLACED),
    most=st.sampled_from([USUAL, WIDE]),
)
def test_what_policies_move_comes_back(name: str, strength: float, task: str, most: tuple) -> None:
    before = objects_of(task, 2)
    matrix = geometry_of([Step(name, strength), Step("rotate", 0.3)], most, SIZE)
    if abs(np.linalg.det(matrix)) < 0.05:  # two shears of 0.99 nearly flatten a picture
        return
    after = before.transform(matrix).transform(np.linalg.inv(matrix))
    values = {
        "detect": lambda objects: objects.boxes,
        "segment": lambda objects: np.concatenate([ring for rings in objects.part.rings for ring in rings]),
        "pose": lambda objects: objects.part.points,
        "obb": lambda objects: objects.part.corners,
    }[task]
    if task != "detect":
        assert np.allclose(values(before), values(after), atol=0.05)
    assert (after.boxes[:, :2] <= before.boxes[:, :2] + 0.05).all() or task == "segment" or task == "obb"


@pytest.mark.parametrize("policy", ["randaugment", "autoaugment", "trivialaugment"])
def test_policies_move_labels_with_pixels(policy: str) -> None:
    made = {"randaugment": Randaugment(), "autoaugment": Autoaugment(), "trivialaugment": Trivialaugment()}
    augmentation = Augmentation(**{policy: made[policy]})
    moved = 0
    for seed in range(60):
        steps, most = draw_policy(augmentation, rng(seed))
        if not any(name in _GEOMETRY for name, _ in steps):
            continue
        matrix = geometry_of(steps, most, SIZE)
        image, labels = load("segment")(3)
        picture = render([Tile(Picture(image, labels), np.eye(3))], matrix, size=SIZE)
        for class_id in (0, 1):
            seen = colours(picture.image, class_id)
            boxes = picture.labels.boxes[picture.labels.class_id == class_id]
            inside = np.zeros((SIZE, SIZE), bool)
            for left, top, right, bottom in boxes.round().astype(int):
                inside[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = True
            assert (seen & ~inside).sum() < 40
        moved += 1
    assert moved > 5
    still = run(Augmentation(), "segment").labels.boxes
    assert any(not np.array_equal(run(augmentation, "segment", seed).labels.boxes, still) for seed in range(20))


def test_a_policy_is_drawn_as_its_paper_says() -> None:
    few = Augmentation(randaugment=Randaugment(ops=3, magnitude=15))
    for seed in range(20):
        steps, most = draw_policy(few, rng(seed))
        assert [abs(step.strength) for step in steps] == [0.5] * 3
        assert most == USUAL
        assert {step.name for step in steps} <= set(_DRAWN)
    one = Augmentation(trivialaugment=Trivialaugment())
    drawn = [draw_policy(one, rng(seed)) for seed in range(300)]
    assert {len(steps) for steps, _ in drawn} == {1}
    assert {steps[0].name for steps, _ in drawn} == set(_DRAWN)
    assert {most for _, most in drawn} == {WIDE}
    assert (len(_PAIRS), len(_DRAWN)) == (25, 14)
    found: dict[str, tuple[int, float, int]] = {}
    for name, p, level in (one for pair in _PAIRS for one in pair):
        count, chance, levels = found.get(name, (0, 0.0, 0))
        found[name] = (count + 1, round(chance + p, 1), levels + level)
    # How often, with which probabilities and with which magnitudes in all; magnitudes of the others mean nothing.
    assert {name: found[name][:2] for name in ("autocontrast", "equalize", "invert")} == {
        "autocontrast": (2, 1.2),
        "equalize": (17, 11.2),
        "invert": (3, 1.8),
    }
    assert {name: sums for name, sums in found.items() if name not in ("autocontrast", "equalize", "invert")} == {
        "posterize": (5, 2.8, 32),
        "rotate": (6, 3.6, 45),
        "solarize": (7, 3.6, 36),
        "colour": (6, 3.8, 18),
        "contrast": (2, 2.0, 16),
        "sharpness": (1, 0.4, 7),
        "shear-x": (1, 0.6, 5),
    }
    assert draw_policy(Augmentation(randaugment=Randaugment(p=0)), rng()) == ([], USUAL)


def test_the_most_that_policies_do() -> None:
    """Shear by 0.3, shift by 150 of 331 pixels, 30 degrees; with TrivialAugment 0.99, 32 pixels of 224, 135 degrees."""
    corner = np.array([1.0, 0.0, 1.0])  # its column of a matrix is what becomes of the axis
    for most, shear, shift, degrees in ((USUAL, 0.3, 150 / 331, 30), (WIDE, 0.99, 32 / 224, 135)):
        for step, wanted in (
            (Step("shear-y", 1.0), (1, shear)),
            (Step("rotate", -1.0), (np.cos(np.radians(degrees)), np.sin(np.radians(degrees)))),
        ):
            assert np.allclose(geometry_of([step], most, 100)[:2, 0], wanted)
        assert np.allclose(geometry_of([Step("translate-x", 1.0)], most, 100) @ corner, (1 + 100 * shift, 0, 1))
    turn, move = Step("rotate", 1.0), Step("translate-x", 1.0)
    alone = [geometry_of([step], USUAL, 100) for step in (turn, move)]
    assert np.allclose(geometry_of([turn, move], USUAL, 100), alone[1] @ alone[0])  # the first is done first


def test_colours_of_policies() -> None:
    image = rng().integers(20, 200, (40, 40, 3), dtype=np.uint8)
    for name in ("brightness", "colour", "contrast", "sharpness", "posterize", "solarize"):
        np.testing.assert_array_equal(_COLOUR[name](image, 0.0, USUAL), image, err_msg=name)
        assert (_COLOUR[name](image, 1.0, USUAL) != image).any(), name
    np.testing.assert_array_equal(_COLOUR["posterize"](image, 1.0, USUAL), image // 16 * 16)
    np.testing.assert_array_equal(_COLOUR["solarize"](image, -0.5, USUAL), np.where(image >= 128, 255 - image, image))
    np.testing.assert_array_equal(_COLOUR["invert"](image, 1, USUAL), 255 - image)
    wide = _COLOUR["autocontrast"](image, 1, USUAL)
    assert wide.min((0, 1)).tolist() == [0, 0, 0]
    assert wide.max((0, 1)).tolist() == [255, 255, 255]
    image[..., 1] = 77
    flat = _COLOUR["autocontrast"](image, 1, USUAL)
    assert (flat[..., 1] == 77).all()
    assert flat[..., 0].max() == 255
    gray = _COLOUR["colour"](image, -1 / 0.9, USUAL)
    assert (np.ptp(gray.astype(int), axis=2) <= 1).all()


def test_augmix_stays_near_its_picture() -> None:
    image = make_picture(1, split="train", size=SIZE)[0]
    mixed = [augmixed(image, Augmix(severity=3), rng(seed)) for seed in range(8)]
    assert all((other != image).any() for other in mixed)
    picture = run(Augmentation(augmix=Augmix()))
    np.testing.assert_allclose(picture.labels.boxes, run(Augmentation()).labels.boxes)


# --- mix ---


def test_mosaic_of_nine() -> None:
    pictures = [Picture(np.full((SIZE, SIZE, 3), 10 + k, np.uint8), Objects.concat([])) for k in range(9)]
    for seed in range(5):
        tiles = mosaic_tiles(pictures, rng(seed), size=SIZE)
        canvas = render(tiles, np.eye(3), size=3 * SIZE).image
        centre = (tiles[4].matrix[:2, 2] + SIZE / 2).astype(int)
        around = [canvas[centre[1] + y * SIZE, centre[0] + x * SIZE, 0] for y in (-1, 0, 1) for x in (-1, 0, 1)]
        assert around == list(range(10, 19))
        reach = np.abs([np.array([[0, 0, 1], [SIZE, SIZE, 1]]) @ tile.matrix.T for tile in tiles])[..., :2]
        assert np.abs(reach - 1.5 * SIZE).max() <= 0.75 * 3 * SIZE  # what ``random_affine`` counts on
    image = run(Augmentation(mosaic=Mosaic(tiles=9)), "segment")
    assert len(image.labels) > len(run(Augmentation(), "segment").labels)
    left = iter(pictures)
    nine = augmented_picture(
        lambda _: next(left), 0, count=9, size=SIZE, augmentation=Augmentation(mosaic=Mosaic(tiles=9)), rng=rng()
    )
    middle = nine.image[..., 0] == 14  # whole, and two thirds as large
    assert middle[SIZE // 2, SIZE // 2]
    assert abs(middle.sum() ** 0.5 - 2 / 3 * SIZE) < 1


@pytest.mark.parametrize("task", PLACED)
def test_cutmix_takes_labels_with_the_square(task: str) -> None:
    first = run(Augmentation(), task)
    other = augmented_picture(load(task), 5, count=8, size=SIZE, augmentation=Augmentation(), rng=rng())
    came = 0
    for seed in range(20):
        mixed = cut_in(first, other, rng(seed))
        changed = (mixed.image != first.image).any(axis=2)
        np.testing.assert_array_equal(mixed.image[changed], other.image[changed])
        kept = {box.tobytes() for box in first.labels.boxes}
        new = np.array([box.tobytes() not in kept for box in mixed.labels.boxes], bool)
        came += int(new.sum())
        for class_id, box in zip(mixed.labels.class_id[new], mixed.labels.boxes[new], strict=True):
            left, top, right, bottom = box.round().astype(int)
            seen = colours(mixed.image, class_id)[max(0, top) : bottom, max(0, left) : right]
            assert seen.any()
            assert any(
                (box[:2] >= source[:2] - 1).all() and (box[2:] <= source[2:] + 1).all() for source in other.labels.boxes
            )
    assert came > 5


def test_a_covered_object_goes_and_a_clipped_one_comes() -> None:
    black = Picture(np.zeros((100, 100, 3), np.uint8), of_boxes((0, 0, 10, 10), (40, 40, 60, 60)))
    white = Picture(np.full((100, 100, 3), 255, np.uint8), of_boxes((0, 0, 100, 100)))
    for seed in range(30):
        image, labels = cut_in(black, white, rng(seed))
        ys, xs = np.nonzero(image[..., 0])
        if not len(ys):
            continue
        square = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        shares = [
            (image[top:bottom, left:right, 0] > 0).mean() for left, top, right, bottom in black.labels.boxes.astype(int)
        ]
        expected = [box.tolist() for box, share in zip(black.labels.boxes, shares, strict=True) if share <= 0.8]
        if len(ys) > 0.11 * 100 * 100:  # of the white object more than a tenth is left
            expected.append(square)
        assert labels.boxes.tolist() == expected


def test_copies_are_where_their_mirror_images_would_be() -> None:
    made = 0
    for index in range(8):
        image, labels = load("segment")(index)
        picture = Picture(image, labels.transform(np.eye(3)))
        pasted = copy_paste(picture, 1.0, rng())
        added = len(pasted.labels) - len(picture.labels)
        made += added
        changed = (pasted.image != image).any(axis=2)
        allowed = np.zeros((SIZE, SIZE), bool)
        for left, top, right, bottom in pasted.labels.boxes[len(picture.labels) :].round().astype(int):
            allowed[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
        assert not (changed & ~allowed).any()
        np.testing.assert_array_equal(pasted.image[changed], image[:, ::-1][changed])
        for ring in pasted.labels.part.rings[len(picture.labels) :]:
            mask = np.zeros((SIZE, SIZE), np.uint8)
            cv2.fillPoly(mask, [ring[0].round().astype(np.int32)], 1)
            inner = cv2.erode(mask, np.ones((5, 5), np.uint8)).astype(bool)
            np.testing.assert_array_equal(pasted.image[inner], image[:, ::-1][inner])
    assert made > 3
    assert copy_paste(picture, 0.0, rng()) is picture


def test_no_copy_covers_an_object() -> None:
    """The mirror image of an object in the middle is on itself."""
    image, labels = load("segment")(0)
    half = labels.boxes[0, [0, 2]].mean()
    shift = np.array([[1, 0, SIZE / 2 - half], [0, 1, 0], [0, 0, 1]])
    one = labels.select(np.arange(len(labels)) == 0).transform(shift)
    assert len(copy_paste(Picture(image, one), 1.0, rng()).labels) == 1


def test_copies_together_cover_no_object() -> None:
    """Each of three copies would cover 13 % of the first object: the third is left out."""
    boxes = [(10.0, 20.0, 40.0, 60.0), *((float(left), 20.0, left + 4.0, 60.0) for left in (62, 70, 78))]
    rings = tuple((np.array([[a, b], [c, b], [c, d], [a, d]], np.float32),) for a, b, c, d in boxes)
    labels = Objects(np.arange(4), np.array(boxes, np.float32), Polygons(rings))
    pasted = copy_paste(Picture(np.zeros((100, 100, 3), np.uint8), labels), 1.0, rng())
    assert pasted.labels.class_id.tolist() == [0, 1, 2, 3, 1, 2]  # the mirror image of the first is on the others


# --- hide ---


def test_hidden_objects_are_dropped_and_others_keep_their_labels() -> None:
    hidden = np.zeros((100, 100), bool)
    hidden[20:60, 20:60] = True
    labels = of_boxes((20, 20, 60, 60), (20, 20, 60, 68), (20, 20, 60, 72), (0, 0, 10, 10), (25.5, 25.5, 30.5, 30.5))
    kept = without_hidden(labels, hidden)
    assert kept.class_id.tolist() == [2, 3]  # 83 % of the second is hidden, 77 % of the third
    np.testing.assert_array_equal(kept.boxes, labels.boxes[[2, 3]])
    assert len(without_hidden(of_boxes(), hidden)) == 0
    image = painted_over(np.zeros((100, 100, 3), np.uint8), hidden)
    assert (image[hidden] == 114).all()
    assert not image[~hidden].any()


def test_grids_and_rectangles_cover_their_share() -> None:
    for seed in range(20):
        grid = gridmask_mask(Gridmask(unit=(0.2, 0.2), hidden=0.5), 100, rng(seed))
        assert grid.mean() == 0.25
        rectangle = erasing_mask(Erasing(area=(0.1, 0.2), aspect=2), 100, rng(seed))
        assert 0.09 < rectangle.mean() < 0.21
        ys, xs = np.nonzero(rectangle)
        assert np.ptp(ys) * np.ptp(xs) > 0.9 * rectangle.sum() - 60
    rest = run(Augmentation(erasing=Erasing(area=(0.9, 0.9), aspect=1)))
    assert len(rest.labels) < len(run(Augmentation()).labels)
    image = run(Augmentation(gridmask=Gridmask(), erasing=Erasing())).image
    assert (image == 114).all(axis=2).mean() > 0.1


# --- colour and geometry ---


@pytest.mark.parametrize(
    "op",
    [
        {"brightness_contrast": BrightnessContrast(p=1)},
        {"equalize": Equalize(p=1)},
        {"clahe": Clahe(p=1)},
        {"blur": Blur(p=1)},
        {"gray": Gray(p=1)},
    ],
    ids=lambda op: next(iter(op)),
)
def test_colours_change_and_places_do_not(op: dict) -> None:
    plain, changed = run(Augmentation()), run(Augmentation(**op))
    assert (plain.image != changed.image).any()
    np.testing.assert_array_equal(plain.labels.boxes, changed.labels.boxes)
    image = make_picture(1, split="train", size=SIZE)[0]
    result = recoloured(image, Augmentation(**op), rng(1))
    if "gray" in op:
        assert (np.ptp(result, axis=2) == 0).all()
    if "equalize" in op:
        luma = cv2.cvtColor(result, cv2.COLOR_RGB2GRAY)
        assert np.ptp(luma) > np.ptp(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) - 30
    if "blur" in op:
        assert np.abs(np.diff(result.astype(int), axis=1)).sum() < np.abs(np.diff(image.astype(int), axis=1)).sum()
    never = Augmentation(**{name: type(each)(p=0) for name, each in op.items()})
    np.testing.assert_array_equal(recoloured(image, never, rng()), image)


def test_a_crop_enlarges() -> None:
    larger = []
    for seed in range(20):
        still, cropped = (
            run(augmentation, "segment", seed) for augmentation in (Augmentation(), Augmentation(crop=Crop(area=0.3)))
        )
        for class_id in (0, 1):
            outer = np.zeros((SIZE, SIZE), np.uint8)
            for rings, owner in zip(cropped.labels.part.rings, cropped.labels.class_id, strict=True):
                if owner == class_id:
                    cv2.fillPoly(outer, [ring.round().astype(np.int32) for ring in rings], 1)
            outer = cv2.dilate(outer, np.ones((5, 5), np.uint8)).astype(bool)
            assert (colours(cropped.image, class_id) & ~outer).sum() < 60
        inside = (cropped.labels.boxes > 0).all(1) & (cropped.labels.boxes < SIZE).all(1)
        if inside.any():
            sides = [
                np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)).max()
                for boxes in (still.labels.boxes, cropped.labels.boxes)
            ]
            larger.append(sides[1] / sides[0])
    assert len(larger) > 5
    assert 1.05 < np.mean(larger) < 1 / np.sqrt(0.3)


def test_whole_pictures_turn_too() -> None:
    def load_whole(index: int) -> Picture:
        return Picture(make_picture(index, split="train", size=SIZE)[0], of_boxes((0, 0, 1, 1)))

    made = {
        name: augmented_whole_picture(load_whole, 1, count=4, size=64, augmentation=augmentation, rng=rng(4))
        for name, augmentation in {
            "still": Augmentation(),
            "turned": Augmentation(affine=Affine(degrees=45)),
            "drawn": Augmentation(trivialaugment=Trivialaugment()),
            "hidden": Augmentation(erasing=Erasing(area=(0.9, 0.9), aspect=1)),
        }.items()
    }
    for name, picture in made.items():
        assert picture.image.shape == (64, 64, 3)
        assert picture.labels.boxes.tolist() == [[0, 0, 64, 64]], name  # a class is never hidden
        assert (picture.image != made["still"].image).any() == (name != "still")


def test_only_one_of_two_mixtures() -> None:
    seen: list[int] = []

    def counted(index: int) -> Picture:
        seen.append(index)
        return load("detect")(index)

    both = Augmentation(mixup=Mixup(p=1), cutmix=Cutmix(p=1), copy_paste=None)
    augmented_picture(counted, 0, count=8, size=SIZE, augmentation=both, rng=rng())
    assert len(seen) == 2
    assert both.without_mixing() == Augmentation()
    assert Augmentation(copy_paste=CopyPaste(p=1)).without_mixing() == Augmentation()
