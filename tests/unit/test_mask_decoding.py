from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.imaging import plan_letterbox
from yolo12edge.imaging.mask_decoding import decode_masks


def slow_masks(coefficients, prototypes, xyxy, letterbox):
    """The whole frame, by OpenCV's general resampling of the product."""
    (height, width), (down, across) = letterbox.source_hw, prototypes.shape[1:]
    (new_height, new_width), (net_height, net_width) = letterbox.resized_hw, letterbox.network_hw
    gain_x, gain_y = new_width / width * across / net_width, new_height / height * down / net_height
    x = ((np.arange(width) + 0.5) * gain_x + letterbox.pad_left * across / net_width - 0.5).astype(np.float32)
    y = ((np.arange(height) + 0.5) * gain_y + letterbox.pad_top * down / net_height - 0.5).astype(np.float32)
    grid = np.broadcast_to(x, (height, width)).copy(), np.broadcast_to(y[:, None], (height, width)).copy()
    values = np.einsum("nk,khw->nhw", coefficients, prototypes)
    whole = np.stack([cv2.remap(v, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for v in values])
    inside = np.zeros(whole.shape, bool)
    for cover, (left, top, right, bottom) in zip(inside, np.rint(xyxy).astype(int), strict=True):
        cover[top:bottom, left:right] = True
    return whole, inside


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(20, 400), st.integers(20, 400), st.sampled_from([(64, 64), (96, 160)]))
def test_masks_are_those_of_the_whole_frame_inside_their_boxes(
    seed: int, height: int, width: int, network: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    letterbox = plan_letterbox((height, width), network)
    prototypes = rng.standard_normal((8, network[0] // 4, network[1] // 4)).astype(np.float32)
    coefficients = rng.standard_normal((70, 8)).astype(np.float32)
    corner = rng.uniform(0, 0.7, (70, 2))
    opposite = np.minimum(corner + rng.uniform(0.1, 1, (70, 2)), 1)
    xyxy = np.concatenate((corner, opposite), axis=1).astype(np.float32) * (width, height, width, height)
    values, inside = slow_masks(coefficients, prototypes, xyxy, letterbox)
    found = decode_masks(coefficients, prototypes, xyxy.astype(np.float32), letterbox).full()
    assert not found[~inside].any()
    # OpenCV looks at steps of 1/32 of a cell: where the value is near 0 both may differ.
    clear = inside & (np.abs(values) > 0.7)
    assert clear.sum() > 0.3 * inside.sum()
    np.testing.assert_array_equal(found[clear], values[clear] > 0)
    assert (found[inside] == (values[inside] > 0)).mean() > 0.97


def test_a_disc_in_the_network_is_an_ellipse_where_it_was_in_the_source() -> None:
    # 1280 x 720 into 640 x 640: halved, 140 rows of padding above.
    letterbox = plan_letterbox((720, 1280), (640, 640))
    y, x = np.mgrid[0:160, 0:160] * 4.0 + 2
    prototypes = (60 - np.hypot(x - 300, y - 320)).astype(np.float32)[None]
    box = np.array([[470, 230, 730, 490]], np.float32)
    mask = decode_masks(np.ones((1, 1), np.float32), prototypes, box, letterbox)
    assert mask.image_hw == (720, 1280)
    assert mask.offsets.tolist() == [[470, 230]]
    rows, columns = np.mgrid[0:720, 0:1280] + 0.5
    expected = np.hypot(columns - 600, rows - 360) < 120
    assert (mask.full()[0] ^ expected).sum() < 0.005 * expected.sum()


@pytest.mark.parametrize("box", [(0, 0, 0.2, 0.2), (99.9, 49.9, 100, 50), (30, 20, 30.1, 40), (0, 0, 100, 50)])
def test_every_box_has_at_least_a_pixel(box: tuple[float, ...]) -> None:
    letterbox = plan_letterbox((50, 100), (64, 64))
    mask = decode_masks(
        np.ones((1, 1), np.float32), np.ones((1, 16, 16), np.float32), np.array([box], np.float32), letterbox
    )
    assert mask.area()[0] >= 1
    assert mask.full().shape == (1, 50, 100)


def test_no_object_no_mask() -> None:
    letterbox = plan_letterbox((50, 100), (64, 64))
    masks = decode_masks(
        np.zeros((0, 32), np.float32), np.zeros((32, 16, 16), np.float32), np.zeros((0, 4), np.float32), letterbox
    )
    assert (len(masks), masks.image_hw) == (0, (50, 100))


def test_prototypes_that_are_not_finite_give_empty_masks() -> None:
    letterbox = plan_letterbox((64, 64), (64, 64))
    prototypes = np.full((2, 16, 16), np.nan, np.float32)
    box = np.array([[0, 0, 64, 64]], np.float32)
    assert decode_masks(np.ones((1, 2), np.float32), prototypes, box, letterbox).area().tolist() == [0]
