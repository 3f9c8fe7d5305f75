"""Augmentation: labels follow the pixels, whatever the picture goes through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.augmentations import STILL, usual
from yolo12edge.data.augment import Picture
from yolo12edge.data.augment.colour import jitter_colour
from yolo12edge.data.augment.geometry import flip, random_affine
from yolo12edge.data.augment.mix import blend, mosaic_tiles
from yolo12edge.data.augment.picture import letterboxed_picture, render, translation
from yolo12edge.data.augment.pipeline import augmented_picture
from yolo12edge.data.augment.settings import Affine, Hsv
from yolo12edge.data.objects import Objects

SIZE = 96
LEVELS = (0, 85, 170, 255)


def gains(hue, saturation, value):
    return Hsv(hue=hue, saturation=saturation, value=value)


def colour(code):
    """A saturated colour that neither the black background nor the grey padding can blend into."""
    return (255, LEVELS[code // 4], LEVELS[code % 4])


def painted(first_code, rng, objects=2):
    """A black picture, long side SIZE, with one solid rectangle per column; the class is the colour's code."""
    height, width = (SIZE, int(rng.integers(60, SIZE + 1)))[:: rng.choice([1, -1])]
    image = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for column in range(objects):
        left = width * column // objects + int(rng.integers(1, 6))
        right = width * (column + 1) // objects - int(rng.integers(1, 6))
        top, bottom = int(rng.integers(0, height // 3)), int(rng.integers(height // 2, height + 1))
        image[top:bottom, left:right] = colour(first_code + column)
        boxes.append((left, top, right, bottom))
    codes = np.arange(first_code, first_code + objects)
    return Picture(image, Objects(codes.astype(np.int64), np.array(boxes, np.float32)))


def found(image, code):
    """The pixels of one colour as a mask, and the box around them; None when there are none."""
    mask = (np.abs(image.astype(int) - colour(code)) < 42).all(2)
    if not mask.any():
        return mask, None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask, np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


class Painter:
    """Gives a new painted picture, with colours of its own, at each load."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.pictures = []

    def __call__(self, index):
        self.pictures.append(painted(2 * len(self.pictures), self.rng))
        return self.pictures[-1]


def run(config, seed, load=None, size=SIZE):
    return augmented_picture(
        load or Painter(seed), 0, count=10, size=size, augmentation=config, rng=np.random.default_rng(seed)
    )


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), mosaic=st.sampled_from([0, 1]), flipud=st.sampled_from([0, 1]))
def test_upright_boxes_stay_on_their_pixels(seed, mosaic, flipud):
    painter = Painter(seed)
    image, labels = run(usual(mosaic=mosaic, hsv=(0, 0, 0), flipud=flipud), seed, painter)
    assert len(painter.pictures) == (4 if mosaic else 1)
    for code, box in zip(labels.class_id, labels.boxes, strict=True):
        _, seen = found(image, code)
        assert seen is not None
        assert np.abs(seen - box).max() <= 1.5
    # Nothing that is well visible lost its label: no zoom is above 1.5.
    for picture in painter.pictures:
        for code, box in zip(picture.labels.class_id, picture.labels.boxes, strict=True):
            mask, seen = found(image, code)
            area = (box[2] - box[0]) * (box[3] - box[1]) * 1.5**2
            if seen is not None and (seen[2:] - seen[:2]).min() > 4 and mask.sum() > 0.15 * area:
                assert code in labels.class_id


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), mosaic=st.sampled_from([0, 1]))
def test_turned_boxes_stay_on_their_pixels(seed, mosaic):
    config = usual(mosaic=mosaic, hsv=(0, 0, 0), degrees=30, shear=8, perspective=0.0005, flipud=0.5)
    image, labels = run(config, seed)
    inside = labels.select(((labels.boxes > 1) & (labels.boxes < SIZE - 1)).all(1))
    for code, box in zip(inside.class_id, inside.boxes, strict=True):
        _, seen = found(image, code)
        assert seen is not None
        assert np.abs(seen - box).max() <= 1.5


@pytest.mark.parametrize("degrees", [0.0, 40.0])
def test_tiles_meet_without_seam(degrees):
    white = Picture(np.full((SIZE, SIZE, 3), 255, np.uint8), Objects.concat([]))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        tiles = mosaic_tiles([white] * 4, rng, size=SIZE)
        centre = tiles[3].matrix[:2, 2]
        matrix = random_affine(Affine(scale=0.2, degrees=degrees), rng, canvas=2 * SIZE, size=SIZE) @ translation(
            *(SIZE - centre)
        )  # bring the tiles' meeting point to the middle
        image = render(tiles, matrix, size=SIZE).image
        assert (image[20:-20, 20:-20] == 255).all()
        if not degrees:
            assert set(np.unique(image)) <= {114, 255}


def test_mosaic_has_four_quadrants():
    pictures = [Picture(np.full((SIZE, SIZE, 3), 10 + k, np.uint8), Objects.concat([])) for k in range(4)]
    tiles = mosaic_tiles(pictures, np.random.default_rng(0), size=SIZE)
    canvas = render(tiles, np.eye(3), size=2 * SIZE).image
    x, y = (round(v) for v in tiles[3].matrix[:2, 2])
    assert min(x, y) >= SIZE / 2
    assert max(x, y) <= 1.5 * SIZE
    around = [canvas[y - 1, x - 1, 0], canvas[y - 1, x, 0], canvas[y, x - 1, 0], canvas[y, x, 0]]
    assert around == [10, 11, 12, 13]


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_without_augmentation_it_is_the_letterbox(seed):
    picture = painted(0, np.random.default_rng(seed))
    still, boxed = run(STILL, seed, lambda _: picture), letterboxed_picture(picture, size=SIZE)
    np.testing.assert_array_equal(still.image, boxed.image)
    np.testing.assert_allclose(still.labels.boxes, boxed.labels.boxes, atol=1e-4)


def test_same_seed_same_bytes():
    config = usual(mixup=0.5, degrees=5)
    first, again, other = (run(config, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels.boxes, again.labels.boxes)
    assert (first.image != other.image).any()


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True), (False, False)])
def test_flip_twice_is_nothing(horizontal, vertical):
    picture = letterboxed_picture(painted(0, np.random.default_rng(1)), size=SIZE)
    once = flip(picture, horizontal=horizontal, vertical=vertical)
    twice = flip(once, horizontal=horizontal, vertical=vertical)
    np.testing.assert_array_equal(twice.image, picture.image)
    np.testing.assert_array_equal(twice.labels.boxes, picture.labels.boxes)
    step = (-1 if vertical else 1), (-1 if horizontal else 1)
    np.testing.assert_array_equal(once.image, picture.image[:: step[0], :: step[1]])
    for code, box in zip(once.labels.class_id, once.labels.boxes, strict=True):
        np.testing.assert_array_equal(found(once.image, code)[1], box)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((10, 10, 20, 20), True),
        ((10, 10, 12, 20), False),  # 2 px wide
        ((10, 10, 12.5, 20), True),
        ((10, 10, 20, 11.9), False),
        ((-80, 10, 10, 50), True),  # 11 % left
        ((-91, 10, 10, 50), False),  # 9.9 % left
        ((0, -40, 50, 4), False),
        ((-5, -5, 500, 500), False),  # 3.9 % of it is in the picture
        ((200, 10, 220, 30), False),  # outside
        ((20, 20, 10, 10), False),  # inside out
    ],
)
def test_candidate_rule(box, kept):
    labels = Objects(np.array([7]), np.array([box], np.float32)).within(100)
    assert len(labels) == kept
    if kept:
        np.testing.assert_array_equal(labels.boxes[0], np.clip(box, 0, 100).astype(np.float32))


def test_thin_boxes_are_dropped_by_aspect():
    boxes = np.array([[0, 0, 300, 2.9], [0, 0, 290, 3.0]], np.float32)
    labels = Objects(np.arange(2), boxes).within(320)
    assert labels.class_id.tolist() == [1]


def test_mixup_joins_labels_and_blends_about_evenly():
    one = np.ones(1, np.int64)
    dark = Picture(np.zeros((8, 8, 3), np.uint8), Objects(0 * one, np.array([[0, 0, 8, 8]], np.float32)))
    light = Picture(np.full((8, 8, 3), 200, np.uint8), Objects(one, np.array([[1, 1, 7, 7]], np.float32)))
    weights = []
    for seed in range(50):
        mixed = blend(dark, light, np.random.default_rng(seed))
        assert mixed.labels.class_id.tolist() == [0, 1]
        assert len(np.unique(mixed.image)) == 1
        weights.append(mixed.image[0, 0, 0] / 200)
    assert abs(np.mean(weights) - 0.5) < 0.05  # Beta(32, 32): mean 0.5, standard deviation 0.062
    assert 0.03 < np.std(weights) < 0.1


def test_mixup_in_the_pipeline():
    painter = Painter(0)
    _, labels = run(usual(mosaic=0, mixup=1, scale=0, translate=0), 0, painter)
    assert len(painter.pictures) == 2
    assert labels.class_id.tolist() == [0, 1, 2, 3]


def test_colour_jitter():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image[:16] = 100
    np.testing.assert_array_equal(jitter_colour(image, gains(0, 0, 0), np.random.default_rng(0)), image)
    changed = jitter_colour(image, gains(0.015, 0.7, 0.4), np.random.default_rng(1))
    assert (changed[16:] != image[16:]).any()
    assert len(np.unique(changed[:16])) == 1  # grey has no hue or saturation: only its value may change
    red = np.full((1, 1, 3), (255, 0, 0), np.uint8)  # hue 0 stays 0 under any gain
    np.testing.assert_array_equal(jitter_colour(red, gains(1, 0, 0), np.random.default_rng(1)), red)
    values = [jitter_colour(image, gains(0, 0, 0.4), np.random.default_rng(seed))[0, 0, 0] for seed in range(100)]
    assert 58 <= min(values) < 70 < 130 < max(values) <= 140


def test_no_labels():
    empty = Picture(np.zeros((SIZE, 60, 3), np.uint8), Objects.concat([]))
    for config in (usual(), usual(mosaic=0), usual(mixup=1, degrees=10)):
        image, labels = run(config, 0, lambda _: empty)
        assert image.shape == (SIZE, SIZE, 3)
        assert labels.boxes.shape == (0, 4)
        assert (labels.boxes.dtype, labels.class_id.dtype) == (np.float32, np.int64)


def test_without_mixing_leaves_single_pictures():
    painter = Painter(0)
    run(usual(mixup=1).without_mixing(), 0, painter)
    assert len(painter.pictures) == 1
