from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.errors import InputError
from yolo12edge.imaging import letterbox_image, plan_letterbox
from yolo12edge.imaging.letterbox import halved, plan_centre_crop
from yolo12edge.manifest import InputSpec
from yolo12edge.preprocess import Preprocessor

SPEC = InputSpec(name="images", batch=1, height=64, width=96)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_it_is_letterbox_then_rgb_then_scale_then_planes() -> None:
    frame = noise(50, 120)
    tensor, letterbox = Preprocessor(SPEC)(frame)
    assert letterbox == plan_letterbox((50, 120), (64, 96))
    expected = letterbox_image(frame, letterbox)[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 3, 64, 96)
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, expected * np.float32(1 / 255))


def test_blue_is_the_last_plane() -> None:
    blue = np.zeros((64, 96, 3), np.uint8)
    blue[..., 0] = 255
    tensor, _ = Preprocessor(SPEC)(blue)
    assert tensor.mean(axis=(0, 2, 3)).tolist() == [0, 0, 1]


def test_pad_value_and_scale_come_from_the_manifest() -> None:
    spec = InputSpec(name="images", batch=1, height=64, width=96, pad_value=7, scale=1.0)
    tensor, _ = Preprocessor(spec)(noise(64, 64))
    assert (tensor[..., :16] == 7).all()
    assert tensor.max() > 200


def test_a_batch_is_its_frames() -> None:
    frames = [noise(64, 96), noise(30, 200), noise(300, 40)]
    preprocessor = Preprocessor(SPEC)
    tensor, letterboxes = preprocessor.batch(frames)
    assert tensor.shape == (3, 3, 64, 96)
    for frame, image, letterbox in zip(frames, tensor, letterboxes, strict=True):
        single, alone = preprocessor(frame)
        np.testing.assert_array_equal(image, single[0])
        assert letterbox == alone


def test_views_are_welcome_and_results_are_not_shared() -> None:
    base = noise(128, 200)
    base.flags.writeable = False
    view = base[::2, ::-1, ::-1]
    preprocessor = Preprocessor(SPEC)
    first, _ = preprocessor(view)
    kept = first.copy()
    np.testing.assert_array_equal(first, preprocessor(np.ascontiguousarray(view))[0])
    preprocessor(noise(64, 96))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("color", "shape", "dtype", "message"),
    [
        ("bgr16", (4, 4, 3), np.uint8, "color='bgr', 'rgb'"),
        ("gray", (4, 4, 3), np.uint8, "color='bgr' or 'rgb'"),
        ("rgba", (4, 4), np.uint8, "color='gray'"),
        ("gray16", (6, 7, 5), np.uint16, "height x width x channels"),
        (["bgr"], (4, 4, 3), np.uint8, "no colour"),
    ],
)
def test_the_remedy_is_for_what_was_given(color: Any, shape: tuple[int, ...], dtype: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessor(SPEC)(np.zeros(shape, dtype), color)


@pytest.mark.parametrize("size", [(64, 96), (50, 120), (200, 31), (7, 5)])
def test_colours_are_converted_as_the_resized_bgr_would_be(size: tuple[int, int]) -> None:
    frame = noise(*size)
    preprocessor = Preprocessor(SPEC)
    expected, _ = preprocessor(frame)
    for color, image, tolerance in (
        ("rgb", frame[..., ::-1], 0),
        ("bgra", cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA), 0),
        ("rgba", cv2.cvtColor(frame, cv2.COLOR_BGR2RGBA), 0),
        ("bgr16", frame.astype(np.uint16) * 257, 1.01 / 255),  # rounded after resizing, not before
        ("rgb16", frame[..., ::-1].astype(np.uint16) * 257, 1.01 / 255),
    ):
        found, _ = preprocessor(image, color)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=color)
    gray = frame[..., 1]
    expected, _ = preprocessor(np.repeat(gray[..., None], 3, axis=2))
    for color, image, tolerance in (("gray", gray, 0), ("gray16", gray.astype(np.uint16) * 257, 1.01 / 255)):
        found, _ = preprocessor(image, color)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=color)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), "bgra"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\).*one frame, or a list"),
        (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((4, 4, 3), np.uint16), "color='bgr16'"),
        (np.zeros((4, 4, 3), ">u2" if sys.byteorder == "little" else "<u2"), r"astype\(np.uint16\)"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        ("image.jpg", "str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_frame_is_refused(frame: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessor(SPEC)(frame)  # type: ignore[arg-type]


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InputError, match="no frame"):
        Preprocessor(SPEC).batch([])


@pytest.mark.parametrize("pixels", [False, True])
def test_a_buffer_is_used_again_whatever_it_held(pixels: bool) -> None:
    preprocessor = Preprocessor(SPEC, pixels=pixels)
    buffer = preprocessor.buffer()
    for frame in (noise(64, 96), noise(30, 200), noise(64, 64), noise(30, 200), noise(300, 40), noise(1, 1)):
        letterbox = buffer.fill(frame)
        fresh, expected = preprocessor(frame)
        np.testing.assert_array_equal(buffer.tensor, fresh)
        assert letterbox == expected


def test_pixels_are_what_the_tensor_is_made_of() -> None:
    frame = noise(50, 120)
    pixels, _ = Preprocessor(SPEC, pixels=True)(frame)
    tensor, _ = Preprocessor(SPEC)(frame)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (1, 64, 96, 3)
    scaled = pixels[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(scaled, tensor)


def test_threads_of_opencv_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cv2.getNumThreads()
    seen = []
    resize = cv2.resize
    monkeypatch.setattr(
        cv2, "resize", lambda *args, **options: seen.append(cv2.getNumThreads()) or resize(*args, **options)
    )
    cv2.setNumThreads(2)
    try:
        Preprocessor(SPEC)(noise(50, 120))
        with pytest.raises(InputError):
            Preprocessor(SPEC)(noise(50, 120), "bgr16")
        assert seen == [1]
        assert cv2.getNumThreads() == 2
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Preprocessor(SPEC), [noise(500, 700)] * 40))
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("pixels", [False, True])
def test_places_of_a_batch_are_filled_one_by_one(pixels: bool) -> None:
    preprocessor = Preprocessor(SPEC, pixels=pixels)
    buffer = preprocessor.buffer(3)
    assert len(np.unique(buffer.tensor)) == 1  # grey, before anything lies there
    frames = [noise(50, 120), noise(120, 50)]
    for index in (0, 2):
        buffer.fill(frames[1], "bgr", index)
    letterbox = buffer.fill(frames[0], "bgr", 2)
    expected = [preprocessor(frame) for frame in frames]
    assert letterbox == expected[0][1]
    assert (buffer.tensor[0] == expected[1][0][0]).all()
    assert (buffer.tensor[2] == expected[0][0][0]).all()
    assert len(np.unique(buffer.tensor[1])) == 1


def test_a_model_that_takes_pixels_gets_them_without_being_asked() -> None:
    spec = msgspec.structs.replace(SPEC, dtype="uint8", layout="NHWC", color="BGR")
    assert Preprocessor(spec)(noise(50, 120))[0].dtype == np.uint8


def test_a_frame_on_a_gpu_is_refused_with_a_remedy() -> None:
    class OnGpu:
        __cuda_array_interface__ = {"shape": (4, 4, 3)}  # noqa: RUF012

    with pytest.raises(InputError, match="copy it to the CPU"):
        Preprocessor(SPEC)(OnGpu())  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_a_centre_crop_covers_the_input_with_the_middle_of_the_picture(height, width, new_height, new_width):
    letterbox, (rows, columns) = plan_centre_crop((height, width), (new_height, new_width))
    kept_height, kept_width = rows.stop - rows.start, columns.stop - columns.start
    assert kept_height == height or kept_width == width  # the largest part of this shape
    assert abs(rows.start - (height - rows.stop)) <= 1
    assert abs(columns.start - (width - columns.stop)) <= 1
    # The shape is kept, but for rounding to whole pixels.
    assert abs(kept_height * letterbox.scale - new_height) <= max(1.0, letterbox.scale)
    assert abs(kept_width * letterbox.scale - new_width) <= max(1.0, letterbox.scale)
    assert letterbox.pad_left <= 0
    assert letterbox.pad_top <= 0


@pytest.mark.parametrize("hw", [(720, 720), (721, 719), (300, 4000), (64, 64), (20, 90)])
def test_halving_ends_below_twice_the_size_and_sees_every_pixel(hw):
    frame = np.zeros((*hw, 3), np.uint8)
    frame[hw[0] // 2] = 255  # a line that plain interpolation would step over
    small = halved(frame, (64, 64))
    assert small.shape[0] < 128 or small.shape[1] < 128
    assert min(hw) < 64 or min(small.shape[:2]) >= 64
    if small.shape[:2] != hw:
        assert abs(small.mean() / frame.mean() - 1) < 0.1


@pytest.mark.parametrize("pixels", [False, True])
def test_a_classifier_sees_the_middle_smoothly_reduced(pixels):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (128, 192, 3), np.uint8)
    spec = InputSpec(name="images", batch=1, height=32, width=32, resize="centre-crop")
    tensor, letterbox = Preprocessor(spec, pixels=pixels)(frame)
    means = frame[:, 32:160].reshape(32, 4, 32, 4, 3).mean((1, 3))
    found = tensor[0] if pixels else tensor[0].transpose(1, 2, 0)[..., ::-1] * 255
    assert np.abs(found - means).max() <= 1.001  # two halvings, each rounded
    assert (letterbox.source_hw, letterbox.pad_left, letterbox.pad_top) == ((128, 192), -8, 0)
    gray, _ = Preprocessor(spec)(frame[..., 0], "gray")
    assert np.abs(gray[0, 0] * 255 - means[..., 0]).max() <= 1.001
