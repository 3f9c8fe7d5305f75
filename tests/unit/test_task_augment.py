"""Augmentation of every task: what is learnt moves with the pixels, and comes back when they do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.augmentations import of_classes, usual
from tests.task_data import make_dataset, make_picture
from yolo12edge.data import form_segment
from yolo12edge.data.augment import Augmentation, Picture
from yolo12edge.data.augment.geometry import flip, random_affine
from yolo12edge.data.augment.picture import letterboxed_picture
from yolo12edge.data.augment.pipeline import augmented_picture
from yolo12edge.data.augment.settings import Affine, Fliplr
from yolo12edge.data.augment.whole import centre_cropped_picture, cover
from yolo12edge.data.dataset import Dataset, read_dataset
from yolo12edge.data.form_obb import FORM as OBB
from yolo12edge.data.form_obb import Corners
from yolo12edge.data.form_pose import Keypoints
from yolo12edge.data.form_segment import FORM as SEGMENT
from yolo12edge.data.form_segment import Polygons
from yolo12edge.data.loader import PictureDataset, collate, train_loader
from yolo12edge.data.objects import Objects, Part
from yolo12edge.data.polygons import clip_ring, ring_area
from yolo12edge.errors import InputError
from yolo12edge.imaging.images import read_image
from yolo12edge.imaging.rotated import corners_of_rotated
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import TASKS, InputSpec
from yolo12edge.masks import Masks
from yolo12edge.preprocess import Preprocessor

SIZE = 96
MIRROR = (0, 3, 2, 1)
WILD = Affine(degrees=60, shear=10, perspective=0.0005, scale=0.5, translate=0.1)


def objects_of(task: str, index: int) -> Objects:
    """What is in a generated picture, in pixels, as augmentation takes it."""
    _, shapes = make_picture(index, split="train", size=SIZE)
    points = np.array([shape.keypoints for shape in shapes], np.float32)
    parts: dict[str, Part | None] = {
        "detect": None,
        "segment": Polygons(tuple((shape.outline.astype(np.float32),) for shape in shapes)),
        "pose": Keypoints(np.concatenate([points, np.full((*points.shape[:2], 1), 2, np.float32)], axis=2), MIRROR),
        "obb": Corners(np.array([shape.corners for shape in shapes], np.float32)),
    }
    return Objects(
        np.array([shape.class_id for shape in shapes]),
        np.array([shape.box for shape in shapes], np.float32),
        parts[task],
    )


def load(task: str):
    return lambda index: Picture(make_picture(index, split="train", size=SIZE)[0], objects_of(task, index))


def colours(image: np.ndarray, class_id: int) -> np.ndarray:
    colour = ((60, 200, 240), (220, 120, 60))[class_id]
    return (np.abs(image.astype(int) - colour) < 60).all(axis=2)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), index=st.integers(0, 7), mosaic=st.sampled_from([0, 1]))
def test_polygons_stay_on_their_pixels(seed: int, index: int, mosaic: int) -> None:
    config = usual(degrees=40, shear=5, hsv=(0, 0, 0), flipud=0.3, mosaic=mosaic)
    rng = np.random.default_rng(seed)
    image, objects = augmented_picture(load("segment"), index, count=8, size=SIZE, augmentation=config, rng=rng)
    rings = [[ring.astype(np.float64) for ring in each] for each in objects.part.rings]
    masks = Masks.of_polygons(rings, (SIZE, SIZE)).full()
    kernel = np.ones((3, 3), np.uint8)
    for class_id in (0, 1):
        said = masks[objects.class_id == class_id].any(axis=0) if len(masks) else np.zeros((SIZE, SIZE), bool)
        seen = colours(image, class_id)
        inner = cv2.erode(said.astype(np.uint8), kernel, borderValue=1).astype(bool)
        assert (seen[inner]).mean() > 0.97 if inner.any() else True
        outer = cv2.dilate(said.astype(np.uint8), kernel).astype(bool)
        stray = seen & ~outer  # what is left of objects that were dropped: small pieces at the border
        count, _, stats, _ = cv2.connectedComponentsWithStats(stray.astype(np.uint8))
        assert all(stats[k, cv2.CC_STAT_AREA] < 40 for k in range(1, count))
    boxes = objects.boxes
    assert ((boxes >= 0) & (boxes <= SIZE)).all()
    for box, each in zip(boxes, objects.part.rings, strict=True):
        points = np.concatenate(each)
        assert np.allclose(box, [*points.min(axis=0), *points.max(axis=0)], atol=1e-3)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), index=st.integers(0, 7), task=st.sampled_from(["detect", "segment", "pose", "obb"]))
def test_there_and_back(seed: int, index: int, task: str) -> None:
    before = objects_of(task, index)
    matrix = random_affine(WILD, np.random.default_rng(seed), canvas=SIZE, size=SIZE)
    after = before.transform(matrix).transform(np.linalg.inv(matrix))
    if task == "detect":  # hulls of hulls only grow
        assert (after.boxes[:, :2] <= before.boxes[:, :2] + 1e-2).all()
        assert (after.boxes[:, 2:] >= before.boxes[:, 2:] - 1e-2).all()
        return
    if task == "segment":
        for first, second in zip(before.part.rings, after.part.rings, strict=True):
            assert np.allclose(first[0], second[0], atol=1e-2)
    elif task == "pose":
        assert np.allclose(before.part.points, after.part.points, atol=1e-2)
        return
    else:
        assert np.allclose(before.part.corners, after.part.corners, atol=1e-2)
    assert np.allclose(after.boxes, after.part.hull())


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True)])
def test_flip_twice_is_nothing(task: str, horizontal: bool, vertical: bool) -> None:
    image, objects = load(task)(3)
    picture = Picture(image, objects.transform(np.eye(3)))  # boxes as the task has them
    once = flip(picture, horizontal=horizontal, vertical=vertical)
    twice = flip(once, horizontal=horizontal, vertical=vertical)
    np.testing.assert_array_equal(twice.image, picture.image)
    np.testing.assert_allclose(twice.labels.boxes, picture.labels.boxes, atol=1e-3)
    if task == "pose":
        np.testing.assert_allclose(twice.labels.part.points, picture.labels.part.points, atol=1e-3)
        nose, left, _, right = once.labels.part.points[0, :, :2] - once.labels.part.points[0, 2, :2]
        turn = float(np.linalg.det([nose, left - right]))
        original = picture.labels.part.points[0, :, :2]
        before = float(np.linalg.det([original[0] - original[2], original[1] - original[3]]))
        assert turn * before > 0  # the left wing is still on the left of the nose


def test_perspective_is_no_mirror() -> None:
    points = np.concatenate([np.random.default_rng(0).uniform(100, 500, (1, 4, 2)), np.full((1, 4, 1), 2)], axis=2)
    known, plain = (Keypoints(points.astype(np.float32), mirror) for mirror in (MIRROR, ()))
    config = Affine(perspective=0.001, scale=0.9, degrees=180, shear=44)
    for seed in range(200):
        matrix = random_affine(config, np.random.default_rng(seed), canvas=640, size=640)
        np.testing.assert_array_equal(known.map(matrix).points, plain.map(matrix).points)


def test_a_point_outside_the_picture_is_forgotten() -> None:
    points = np.array([[[10, 10, 2], [-1, 10, 2], [50, 97, 1], [96, 0, 1]]], np.float32)
    objects = Objects(np.zeros(1, np.int64), np.array([[-20, 5, 60, 90]], np.float32), Keypoints(points))
    (found,) = objects.within(96).part.points
    assert found.tolist() == [[10, 10, 2], [0, 0, 0], [0, 0, 0], [96, 0, 1]]


@settings(max_examples=60)
@given(
    st.tuples(*[st.floats(-30, 126)] * 2, *[st.floats(8, 80)] * 2, st.floats(-3, 3)),
)
def test_oriented_boxes_keep_their_angle_at_the_border(box: tuple[float, ...]) -> None:
    corners = corners_of_rotated(np.array([box], np.float32))
    before = Objects(np.zeros(1, np.int64), Corners(corners).hull(), Corners(corners))
    after = before.within(SIZE)
    inside = clip_ring(corners[0].astype(np.float64), SIZE)
    if not len(after):
        return
    cos, sin = np.cos(box[4]), np.sin(box[4])
    axes = np.array([[cos, sin], [-sin, cos]])
    expected = inside @ axes.T
    found = after.part.corners[0] @ axes.T
    assert np.allclose(found.min(axis=0), expected.min(axis=0), atol=0.02)
    assert np.allclose(found.max(axis=0), expected.max(axis=0), atol=0.02)
    sides = np.abs(np.diff(np.concatenate([found, found[:1]]), axis=0))
    assert (sides.min(axis=1) < 0.02).all()  # each side runs along an axis of the box: the angle has not changed
    assert OBB.targets(after, SIZE)["obb"].shape == (1, 5)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-40, 136), st.floats(-40, 136)), min_size=3, max_size=8))
def test_a_clipped_ring_covers_what_is_inside(points: list[tuple[float, float]]) -> None:
    ring = np.array(points, np.float64)
    ring += 0.01 * np.sqrt(np.arange(2.0, 2 + ring.size)).reshape(-1, 2)  # no edge runs through centres of pixels
    clipped = clip_ring(ring, SIZE)
    shifted = Masks.of_polygons([[ring + 50]], (240, 240)).full()[0, 50 : 50 + SIZE, 50 : 50 + SIZE]
    mask = Masks.of_polygons([[clipped]] if len(clipped) else [[]], (SIZE, SIZE)).full()[0]
    assert ((clipped >= -1e-9) & (clipped <= SIZE + 1e-9)).all()
    assert np.count_nonzero(mask != shifted) <= 2  # centres that rounding puts on either side of an edge


def test_small_masks_lie_on_top_and_none_is_empty() -> None:
    def square(low: float, high: float) -> np.ndarray:
        return np.array([[low, low], [high, low], [high, high], [low, high]], np.float32)

    rings = ((square(40, 60),), (square(8, 88), square(0, 4)), (square(70.5, 71.5),))
    boxes = Polygons(rings).hull()
    masks = SEGMENT.targets(Objects(np.zeros(3, np.int64), boxes, Polygons(rings)), SIZE)["masks"]
    assert (masks.shape, masks.dtype) == ((24, 24), np.int16)
    assert (masks[10:15, 10:15] == 1).all()
    assert masks[17, 17] == 3
    assert masks[0, 0] == 2
    assert [int((masks == k).sum()) for k in range(4)] == [24 * 24 - 401, 25, 401 - 26, 1]
    assert ring_area(square(8, 88)) == 6400


def test_no_more_masks_than_can_be_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert form_segment._MOST == 32_767  # what int16 holds
    monkeypatch.setattr(form_segment, "_MOST", 3)
    rings = ((np.array([[1, 1], [5, 1], [5, 5]], np.float32),),) * 5
    boxes = np.tile(np.array([1, 1, 5, 5], np.float32), (5, 1))
    masks = SEGMENT.targets(Objects(np.zeros(5, np.int64), boxes, Polygons(rings)), 64)["masks"]
    assert int(masks.max()) == 3


def test_the_strongest_geometry_neither_mirrors_nor_passes_the_camera() -> None:
    config = Affine(shear=44, perspective=0.001, degrees=180, scale=0.9)
    for size in (96, 1024):
        reach = 0.75 * 2 * size
        points = np.array([[size + x, size + y, 1] for x in (-reach, reach) for y in (-reach, reach)])
        for seed in range(300):
            matrix = random_affine(config, np.random.default_rng(seed), canvas=2 * size, size=size)
            assert (points @ matrix[2] > 0.05).all()
            assert np.linalg.det(matrix) > 0
    with pytest.raises(InputError, match="shear"):
        Affine(shear=50)


def test_a_strip_does_not_fill_the_memory() -> None:
    strip = np.zeros((2, 4000, 3), np.uint8)
    strip[:, 2000] = 255
    kept = cover(strip, 64)
    assert kept.shape == (64, 512, 3)
    assert abs(int(kept[0, :, 0].argmax()) - 256) <= 32
    assert cover(np.zeros((30, 60, 3), np.uint8), 64).shape == (64, 128, 3)


# --- loading ---


def pictures(dataset: Dataset, split: str = "train", **options: object) -> PictureDataset:
    return PictureDataset(
        dataset.samples(split), image_size=SIZE, task=dataset.task, keypoints=dataset.keypoints, **options
    )


@pytest.mark.parametrize("task", TASKS)
def test_batches_of_every_task(task: str, tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(task, tmp_path))
    strength = of_classes(erasing=0.5) if task == "classify" else usual(mixup=0.3, degrees=10)
    data = pictures(dataset, augment=strength, seed=3)
    loader = train_loader(data, batch_size=4, workers=0)
    (first, second) = list(loader)
    assert first.images.shape == (4, 3, SIZE, SIZE)
    count = len(first.class_id)
    assert count == len(first.boxes) == len(first.image_index)
    shapes = {"masks": (4, 24, 24), "keypoints": (count, 4, 3), "obb": (count, 5)}
    wanted = {"segment": "masks", "pose": "keypoints", "obb": "obb"}.get(task)
    for name, shape in shapes.items():
        value = getattr(first, name)
        assert (value is not None) == (name == wanted)
        if value is not None:
            assert value.shape == shape
            assert value.dtype == (torch.int16 if name == "masks" else torch.float32)
    if task == "segment":
        for image in range(4):
            present = set(first.masks[image].unique().tolist()) - {0}
            assert present <= set(range(1, int((first.image_index == image).sum()) + 1))
    if task == "classify":
        assert first.boxes.tolist() == [[0, 0, SIZE, SIZE]] * 4
    again = list(loader)
    assert all(
        a is b is None or torch.equal(a, b)
        for one, other in zip((first, second), again, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("side", [70, 150])
@pytest.mark.parametrize("task", TASKS)
def test_validation_pictures_are_the_runtimes(task: str, side: int, tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(task, tmp_path, images=2, size=side))
    resize = "centre-crop" if task == "classify" else "letterbox"
    prepare = Preprocessor(InputSpec(name="images", batch=1, height=SIZE, width=SIZE, resize=resize))
    for cache in ("ram", "none"):
        data = pictures(dataset, "val", cache=cache)
        for index, sample in enumerate(data.samples):
            tensor, _ = prepare.batch([read_image(sample.image)])
            expected = np.round(tensor[0] * 255).astype(np.uint8)
            np.testing.assert_array_equal(data[index].image.numpy(), expected)


def test_oriented_boxes_of_validation_are_where_the_letterbox_puts_them(tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset("obb", tmp_path, images=2, size=192))
    data = pictures(dataset)
    _, shapes = make_picture(1, split="train", size=192)
    for box, shape in zip(data[1].obb.numpy(), shapes, strict=True):
        assert np.allclose(box[:2], shape.corners.mean(axis=0) / 2, atol=0.01)
        lengths = sorted(np.linalg.norm(np.diff(shape.corners, axis=0), axis=1)[:2] / 2)
        assert np.allclose(sorted(box[2:4]), lengths, atol=0.01)


def test_unknown_mirror_images_are_never_made(tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset("pose", tmp_path, images=2))
    samples = dataset.samples("train")
    still = Augmentation(fliplr=Fliplr(p=1))
    unknown = KeypointSpec(count=4, dimensions=3)
    plain, mirrored = (
        PictureDataset(samples, image_size=SIZE, task="pose", keypoints=spec, augment=still)[0]
        for spec in (unknown, dataset.keypoints)
    )
    assert torch.equal(plain.image, mirrored.image.flip(2))
    swapped = mirrored.keypoints[:, list(MIRROR), 0]
    assert torch.allclose(plain.keypoints[..., 0], SIZE - swapped, atol=1e-3)
    with pytest.raises(InputError, match="keypoints"):
        PictureDataset(samples, image_size=SIZE, task="pose")


def test_pictures_of_several_classes_and_none() -> None:
    picture = Picture(np.zeros((30, 50, 3), np.uint8), Objects(np.array([2, 5]), np.zeros((2, 4), np.float32)))
    found = centre_cropped_picture(picture, size=32)
    assert found.image.shape == (32, 32, 3)
    assert found.labels.boxes.tolist() == [[0, 0, 32, 32]] * 2
    assert found.labels.class_id.tolist() == [2, 5]


def test_classified_pictures_are_cropped_flipped_and_erased(tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset("classify", tmp_path, images=2))
    whole = of_classes(crop=1.0)

    def image(config: Augmentation, epoch: int = 0) -> np.ndarray:
        return pictures(dataset, augment=config)[epoch, 0].image.numpy()

    plain = image(of_classes())
    mirrored = image(of_classes(fliplr=1))
    np.testing.assert_array_equal(plain, mirrored[:, :, ::-1])
    assert (plain != image(of_classes(), epoch=1)).any()
    shares = []
    for epoch in range(20):
        grey = (image(of_classes(crop=1.0, erasing=1), epoch) == 114).all(axis=0)
        kept = (image(whole, epoch) == 114).all(axis=0)
        shares.append(float(grey.mean() - kept.mean()))
    assert 0.015 < min(shares) < max(shares) < 0.35


def test_letterboxed_parts_follow_the_picture() -> None:
    image, _ = make_picture(2, split="train", size=SIZE)
    wide = np.concatenate([image, image[:, :48]], axis=1)
    objects = objects_of("pose", 2)
    found = letterboxed_picture(Picture(wide, objects), size=SIZE).labels
    factor, pad = 96 / 144, 16
    assert np.allclose(found.part.points[..., 0], objects.part.points[..., 0] * factor, atol=0.01)
    assert np.allclose(found.part.points[..., 1], objects.part.points[..., 1] * factor + pad, atol=0.01)


def test_collate_of_pictures_without_objects(tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset("segment", tmp_path, images=1))
    for path in (tmp_path / "labels/train").iterdir():
        path.write_text("")
    batch = collate([pictures(dataset)[0]] * 2)
    assert batch.masks.shape == (2, 24, 24)
    assert int(batch.masks.max()) == 0
    assert batch.boxes.shape == (0, 4)
