"""Masks: cropped storage, outlines, run-length codes and overlaps against their plain forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from yolo12edge.errors import InputError
from yolo12edge.masks import Masks

FULL = hnp.arrays(np.bool_, st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(1, 12)))


RINGS = [
    np.zeros((0, 2)),
    np.array([[1, 1], [9, 2], [4, 11]]),
    np.array([[2.6, 2.6], [2.9, 2.6], [2.9, 2.9]]),
    np.array([[-5, -5], [40, 3], [7, 40]]),
    np.array([[20, 1], [30, 1], [30, 9]]),
    np.array([[0, 0], [8, 8], [8, 0], [0, 8]]),
]


@given(FULL)
def test_crops_hold_what_the_full_masks_do(full):
    masks = Masks.of_full(full)
    assert np.array_equal(masks.full(), full)
    assert masks.area().tolist() == full.sum((1, 2)).tolist()
    assert sum(crop.size for crop in masks.crops) <= full.size
    for crop in masks.crops:  # as small as can be
        assert not crop.size or (crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any())


@given(FULL)
def test_run_lengths_tell_every_pixel(full):
    for mask, code in zip(full, Masks.of_full(full).to_rle(), strict=True):
        assert code["size"] == list(mask.shape)
        assert all(count > 0 for count in code["counts"][1:])
        told = np.concatenate([np.full(n, i % 2 == 1) for i, n in enumerate(code["counts"])])
        assert np.array_equal(told, mask.T.ravel())


@given(FULL, st.data())
def test_overlap_is_that_of_full_masks(full, data):
    other = data.draw(hnp.arrays(np.bool_, (2, *full.shape[1:])))
    common = (full[:, None] & other[None]).sum((2, 3))
    either = (full[:, None] | other[None]).sum((2, 3))
    assert np.allclose(Masks.of_full(full).iou(Masks.of_full(other)), common / np.maximum(either, 1))


@given(FULL)
def test_outlines_give_masks_without_holes_back(full):
    filled = []
    for mask in full:
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        filled.append(cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, -1).astype(bool))
    filled = np.array(filled, np.bool_).reshape(full.shape)
    outlines = Masks.of_full(filled).contours()
    assert np.array_equal(Masks.of_polygons(outlines, full.shape[1:]).full(), filled)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(3, 7), st.just(2)), elements=st.floats(-5, 20)),
)
def test_a_pixel_is_inside_if_its_centre_is(ring):
    height, width = 12, 15
    found = Masks.of_polygons([[ring]], (height, width)).full()[0]
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    inside = np.zeros((height, width), bool)
    nearest = np.full((height, width), np.inf)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        spans = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
        inside ^= spans & (crossing > x)
        nearest = np.minimum(nearest, np.where(spans, np.abs(crossing - x), np.inf))
        nearest = np.minimum(nearest, np.minimum(np.abs(y - y0), np.abs(y - y1)))
    clear = nearest > 1e-9  # centres on the very line may fall either way
    assert np.array_equal(found[clear], inside[clear])


@given(st.lists(st.lists(st.sampled_from(RINGS), max_size=3), max_size=5))
def test_objects_do_not_depend_on_each_other(objects):
    """Rings without points, too small for a pixel or out of the frame are among them; rings of an object add up."""
    together = Masks.of_polygons(objects, (12, 15))
    for index, rings in enumerate(objects):
        alone = np.zeros((12, 15), bool)
        for ring in rings:
            alone |= Masks.of_polygons([[ring]], (12, 15)).full()[0]
        assert np.array_equal(together.full()[index], alone)


def test_selecting_and_joining():
    full = np.zeros((3, 4, 6), np.bool_)
    full[0, 1, 2], full[1, 2:, :3], full[2] = True, True, True
    masks = Masks.of_full(full)
    assert np.array_equal(masks[1].full(), full[1:2])
    assert np.array_equal(masks[[2, 0]].full(), full[[2, 0]])
    assert np.array_equal(masks[np.array([True, False, True])].full(), full[[0, 2]])
    assert len(masks[[]]) == len(masks[:0]) == len(Masks.empty((4, 6))) == 0
    assert [len(one) for one in masks] == [1, 1, 1]
    assert np.array_equal(Masks.concatenate([masks[:1], masks[1:]]).full(), full)
    with pytest.raises(InputError, match="one frame"):
        Masks.concatenate([masks, Masks.empty((4, 7))])
    with pytest.raises(InputError, match="of frames of"):
        masks.iou(Masks.empty((4, 7)))


@pytest.mark.parametrize(
    ("crops", "offsets"),
    [
        ([np.ones((2, 2), np.uint8)], [[0, 0]]),
        ([np.ones(2, np.bool_)], [[0, 0]]),
        ([np.ones((2, 2), np.bool_)], [[0, 0], [1, 1]]),
        ([np.ones((2, 2), np.bool_)], [[-1, 0]]),
        ([np.ones((2, 2), np.bool_)], [[0, 3]]),
    ],
)
def test_what_is_no_mask_of_the_frame_is_refused(crops, offsets):
    with pytest.raises(InputError):
        Masks(tuple(crops), np.array(offsets), (4, 6))
