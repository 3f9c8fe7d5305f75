from __future__ import annotations

import numpy as np
import pytest

from yolo12edge.errors import InputError
from yolo12edge.imaging import letterbox_image, plan_letterbox
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
    ("frame", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), "bgra"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
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
