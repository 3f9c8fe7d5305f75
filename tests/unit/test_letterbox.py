from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.errors import InputError
from yolo12edge.imaging import letterbox_image, plan_letterbox

side = st.integers(1, 700)
network_side = st.sampled_from([32, 64, 320, 416, 640])


@given(side, side, network_side, network_side, st.integers(0, 2**32 - 1))
def test_boxes_come_back(height: int, width: int, net_h: int, net_w: int, seed: int) -> None:
    plan = plan_letterbox((height, width), (net_h, net_w))
    corner = np.random.default_rng(seed).uniform(0, 1, (5, 2, 2)).astype(np.float32)
    boxes = np.sort(corner, axis=1).reshape(5, 4) * np.array((width, height, width, height), np.float32)
    back = plan.to_source(plan.to_network(boxes))
    # Float32 in the network's pixels: 640 * 2**-23 there, divided by the gain of each axis.
    tolerance = 2e-4 * max(1.0, height / plan.resized_hw[0], width / plan.resized_hw[1])
    np.testing.assert_allclose(back, boxes, atol=tolerance)
    assert back.dtype == np.float32


@given(side, side, network_side, network_side)
def test_image_fills_one_axis_and_is_centred(height: int, width: int, net_h: int, net_w: int) -> None:
    plan = plan_letterbox((height, width), (net_h, net_w))
    new_h, new_w = plan.resized_hw
    assert new_h == net_h or new_w == net_w
    assert 1 <= new_h <= net_h
    assert 1 <= new_w <= net_w
    right, bottom = net_w - new_w - plan.pad_left, net_h - new_h - plan.pad_top
    assert 0 <= right - plan.pad_left <= 1  # an odd pixel goes right and down
    assert 0 <= bottom - plan.pad_top <= 1
    frame = plan.to_network([[0, 0, width, height]])[0]
    np.testing.assert_allclose(
        frame, (plan.pad_left, plan.pad_top, plan.pad_left + new_w, plan.pad_top + new_h), atol=1e-3
    )


@settings(max_examples=40)
@given(st.integers(40, 500), st.integers(40, 500), st.data())
def test_a_painted_rectangle_lands_where_to_network_says(height: int, width: int, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, width - 20))
    top = data.draw(st.integers(0, height - 20))
    right = data.draw(st.integers(left + 20, width))
    bottom = data.draw(st.integers(top + 20, height))
    image = np.zeros((height, width, 3), np.uint8)
    image[top:bottom, left:right] = 255
    plan = plan_letterbox((height, width), (320, 320))
    boxed = letterbox_image(image, plan, pad_value=0)
    expected = plan.to_network([[left, top, right, bottom]])[0]
    # Areas under the profile through the middle give edges to a fraction of a pixel.
    middle_y, middle_x = int((expected[1] + expected[3]) / 2), int((expected[0] + expected[2]) / 2)
    row, column = boxed[middle_y, :, 0] / 255, boxed[:, middle_x, 0] / 255
    assert row.sum() == pytest.approx(expected[2] - expected[0], abs=1.0)
    assert column.sum() == pytest.approx(expected[3] - expected[1], abs=1.0)
    assert np.flatnonzero(row > 0.5)[0] == pytest.approx(expected[0], abs=1.0)
    assert np.flatnonzero(column > 0.5)[0] == pytest.approx(expected[1], abs=1.0)


def test_known_numbers() -> None:
    plan = plan_letterbox((480, 641), (320, 320))
    assert plan.scale == pytest.approx(320 / 641)
    assert plan.resized_hw == (240, 320)
    assert (plan.pad_left, plan.pad_top) == (0, 40)
    odd = plan_letterbox((319, 640), (640, 640))
    assert (odd.resized_hw, odd.pad_top) == ((319, 640), 160)  # 321 rows of padding: 160 above, 161 below


def test_small_images_are_enlarged() -> None:
    assert plan_letterbox((10, 20), (640, 640)).resized_hw == (320, 640)


def test_boxes_are_clipped_to_the_source() -> None:
    plan = plan_letterbox((100, 200), (64, 64))
    assert plan.to_source([[-50, -50, 500, 500]]).tolist() == [[0, 0, 200, 100]]
    assert plan.to_source(np.zeros((0, 4))).shape == (0, 4)


def test_padding_and_content() -> None:
    image = np.full((10, 20, 3), (1, 2, 3), np.uint8)
    plan = plan_letterbox((10, 20), (40, 40))
    boxed = letterbox_image(image, plan)
    assert boxed.shape == (40, 40, 3)
    assert (boxed[:10] == 114).all()
    assert (boxed[30:] == 114).all()
    assert (boxed[10:30] == (1, 2, 3)).all()
    tall = letterbox_image(np.ascontiguousarray(image.transpose(1, 0, 2)), plan_letterbox((20, 10), (40, 40)))
    assert (tall[:, :10] == 114).all()
    assert (tall[:, 30:] == 114).all()


def test_resize_is_opencv_bilinear() -> None:
    image = np.random.default_rng(0).integers(0, 256, (97, 150, 3), dtype=np.uint8)
    plan = plan_letterbox((97, 150), (64, 64))
    height, width = plan.resized_hw
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    boxed = letterbox_image(image, plan)
    np.testing.assert_array_equal(boxed[plan.pad_top : plan.pad_top + height], expected)


def test_out_is_reused_and_fully_written() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    plan = plan_letterbox((30, 50), (64, 64))
    out = np.full((64, 64, 3), 77, np.uint8)
    assert letterbox_image(image, plan, out=out) is out
    np.testing.assert_array_equal(out, letterbox_image(image, plan))


@pytest.mark.parametrize("view", [np.s_[::2, ::-1], np.s_[::-1, :, ::-1], np.s_[5:, 7:], np.s_[::3, ::2]])
@pytest.mark.parametrize("same_size", [False, True])
def test_views_are_welcome_and_never_changed(view: tuple[slice, ...], same_size: bool) -> None:
    base = np.random.default_rng(1).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    base.flags.writeable = False
    frame = base[view]
    network_hw = (frame.shape[0], frame.shape[1]) if same_size else (64, 64)
    plan = plan_letterbox((frame.shape[0], frame.shape[1]), network_hw)
    before = frame.copy()
    boxed = letterbox_image(frame, plan)
    np.testing.assert_array_equal(boxed, letterbox_image(np.ascontiguousarray(frame), plan))
    np.testing.assert_array_equal(frame, before)
    assert not np.shares_memory(boxed, base)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="cannot fit"):
        plan_letterbox((0, 10), (64, 64))
    with pytest.raises(InputError, match="as planned"):
        letterbox_image(np.zeros((5, 5, 3), np.uint8), plan_letterbox((10, 10), (64, 64)))


def test_extreme_aspect_keeps_a_pixel() -> None:
    plan = plan_letterbox((1, 10000), (64, 64))
    assert plan.resized_hw == (1, 64)
    assert letterbox_image(np.zeros((1, 10000, 3), np.uint8), plan).shape == (64, 64, 3)
