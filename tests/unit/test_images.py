from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo12edge.errors import InputError
from yolo12edge.imaging import list_images, read_image, write_image
from yolo12edge.imaging.image_header import read_header

SHARED = Path(__file__).parents[2].parent / "shared"


def picture(height: int = 90, width: int = 130) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def encoded(suffix: str, image: np.ndarray | None = None, *options: int) -> bytes:
    return cv2.imencode(suffix, picture() if image is None else image, options)[1].tobytes()


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\x00" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


JPEGS = {
    "plain": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
}


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".jpg"])
def test_formats_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, picture())
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - picture()).mean() < (3 if suffix in (".jpg", ".webp") else 0.01)
    header = read_header(path.read_bytes())
    assert header is not None
    assert (header.hw, header.problem) == ((90, 130), None)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", JPEGS)
def test_a_truncated_jpeg_is_refused_wherever_it_ends(tmp_path: Path, kind: str) -> None:
    data = encoded(".jpg", None, *JPEGS[kind])
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (90, 130, 3)
    for end in [*range(3, len(data), 97), len(data) - 2, len(data) - 1]:
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"a\.jpg"):
            read_image(path)


def test_the_end_marker_of_a_thumbnail_does_not_count() -> None:
    thumbnail = encoded(".jpg", picture(16, 16))
    data = encoded(".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    assert read_header(whole).problem is None  # type: ignore[union-attr]
    assert read_header(whole).hw == (90, 130)  # type: ignore[union-attr]
    assert read_header(whole[: len(whole) // 2]).problem  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("tail", [b"\x00" * 100, b"made by a camera\xff\xd8\xff\xe0", b"\n"])
def test_bytes_behind_the_end_are_allowed(tmp_path: Path, suffix: str, tail: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix) + tail)
    assert read_image(path).shape == (90, 130, 3)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_other_truncated_formats_are_refused(tmp_path: Path, suffix: str) -> None:
    data = encoded(suffix)
    path = tmp_path / f"a{suffix}"
    for end in (1, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=f"a{suffix}"):
            read_image(path)


@pytest.mark.parametrize(
    ("orientation", "moves"),
    [(3, lambda image: image[::-1, ::-1]), (6, lambda image: np.rot90(image, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, moves: object) -> None:
    plain, turned = tmp_path / "plain.jpg", tmp_path / "turned.jpg"
    plain.write_bytes(encoded(".jpg"))
    turned.write_bytes(with_exif_orientation(encoded(".jpg"), orientation))
    np.testing.assert_array_equal(read_image(turned), moves(read_image(plain)))  # type: ignore[operator]


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    deep = np.zeros((4, 4, 3), np.uint16)
    deep[0], deep[1], deep[2] = 65535, 257 * 200, 200
    (tmp_path / "deep.png").write_bytes(encoded(".png", deep))
    assert read_image(tmp_path / "deep.png")[:, 0, 0].tolist() == [255, 200, 1, 0]
    (tmp_path / "grey.png").write_bytes(encoded(".png", deep[..., 0]))
    grey = read_image(tmp_path / "grey.png")
    assert grey.shape == (4, 4, 3)
    assert grey[:, 0].tolist() == [[255] * 3, [200] * 3, [1] * 3, [0] * 3]


def test_grey_and_alpha_become_bgr(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", picture()[..., 0]))
    np.testing.assert_array_equal(read_image(path), np.repeat(picture()[..., :1], 3, axis=2))
    alpha = np.dstack((picture(), np.full((90, 130), 40, np.uint8)))
    path.write_bytes(encoded(".png", alpha))
    np.testing.assert_array_equal(read_image(path), picture())


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(encoded(".tif", np.ones((4, 4, 3), np.float32)))
    with pytest.raises(InputError, match="float32"):
        read_image(tmp_path / "a.tif")


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(bomb + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the bomb was decoded"))
    with pytest.raises(InputError, match="60000 x 60000"):
        read_image(tmp_path / "bomb.png")
    jpeg = bytearray(encoded(".jpg"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65000, 65000)
    (tmp_path / "bomb.jpg").write_bytes(jpeg)
    with pytest.raises(InputError, match="65000 x 65000"):
        read_image(tmp_path / "bomb.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "empty"), (b"hello, I am text", "not an image"), (b"\xff\xd8\xff", "damaged")],
)
def test_what_is_no_image(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "odd.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert "odd.jpg" in str(caught.value)
    with pytest.raises(InputError, match="folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_headers_of_garbage_never_crash(suffix: str) -> None:
    data = encoded(suffix)
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(data[: rng.integers(4, len(data))])
        for position in rng.integers(4, max(5, min(len(broken), 200)), 4):
            if position < len(broken):
                broken[position] = rng.integers(256)
        read_header(bytes(broken))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    write_image(path, picture())
    before = path.read_bytes()
    with pytest.raises(InputError, match="shape"):
        write_image(path, np.zeros((0, 3, 3), np.uint8))
    with pytest.raises(InputError, match=r"\.gifv"):
        write_image(tmp_path / "a.gifv", picture())
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["a.png"]


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.txt", ".hidden.jpg", "d.Tiff"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG", "d.Tiff"]
    with pytest.raises(InputError, match="does not exist"):
        list_images(tmp_path / "none")
    with pytest.raises(InputError, match="not a folder"):
        list_images(tmp_path / "c.txt")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data beside the checkout")
def test_real_photographs_are_not_refused() -> None:
    for path in list_images(SHARED / "data" / "bccd" / "images" / "val")[:30]:
        assert read_image(path).shape == (480, 640, 3)
