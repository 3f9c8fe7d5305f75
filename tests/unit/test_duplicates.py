"""Copies of pictures are found, exact and encoded anew, among many, and different pictures are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.data.duplicates import NEAR, PictureIndex, near_pairs, picture_digests
from yolo12edge.errors import InputError
from yolo12edge.imaging.images import write_image


def components(pairs: np.ndarray, count: int) -> list[int]:
    """Return for each place the smallest one that it hangs together with."""
    root = list(range(count))
    for _ in range(count):
        for a, b in pairs.tolist():
            root[a] = root[b] = min(root[a], root[b])
    return root


@given(st.integers(0, 2**32), st.integers(0, 8))
def test_near_hashes_are_all_found(seed: int, distance: int) -> None:
    """Bands find what comparing each with each finds; equal hashes hang together by the first."""
    rng = np.random.default_rng(seed)
    hashes = [int(value) for value in rng.integers(0, 2**64, 30, dtype=np.uint64)]
    for _ in range(30):  # copies of some with some bits turned
        turned = rng.permutation(64)[: rng.integers(0, distance + 2)]
        hashes.append(hashes[rng.integers(len(hashes))] ^ sum(1 << int(bit) for bit in turned))
    wanted = [(a, b) for a in range(60) for b in range(a + 1, 60) if (hashes[a] ^ hashes[b]).bit_count() <= distance]
    found = near_pairs(hashes, distance=distance)
    assert set(map(tuple, found.tolist())) <= set(wanted)
    assert components(found, 60) == components(np.array(wanted).reshape(-1, 2), 60)


def test_no_hash_and_one_hash() -> None:
    """There is nothing to pair."""
    assert near_pairs([]).shape == (0, 2)
    assert near_pairs([5]).shape == (0, 2)


def test_many_equal_hashes_do_not_explode() -> None:
    """A folder of black pictures gives one pair a picture, not one for each two."""
    assert len(near_pairs([0] * 20_000)) == 19_999


def test_copies_keep_their_hash(tmp_path: Path, scene_frames: list[np.ndarray]) -> None:
    """Encoding, scaling and brightening are seen through; other scenes are far."""
    frame = scene_frames[0]
    write_image(tmp_path / "a.png", frame)
    write_image(tmp_path / "b.jpg", frame)
    write_image(tmp_path / "c.png", cv2.resize(frame, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    write_image(tmp_path / "d.png", cv2.convertScaleAbs(frame, beta=12))
    write_image(tmp_path / "e.png", scene_frames[1])
    first = picture_digests(tmp_path / "a.png")
    for name in ("b.jpg", "c.png", "d.png"):
        copy = picture_digests(tmp_path / name)
        assert copy.sha256 != first.sha256
        assert copy.distance(first) <= NEAR
    assert picture_digests(tmp_path / "e.png").distance(first) > 2 * NEAR


def test_flat_pictures_are_the_same(tmp_path: Path) -> None:
    """Where there is nothing to see, rounding does not decide."""
    for value in (0, 77, 130, 255):
        write_image(tmp_path / f"{value}.png", np.full((50, 70, 3), value, np.uint8))
    hashes = {picture_digests(path).phash for path in tmp_path.iterdir() if path.stem != "0"}
    assert len(hashes) == 1


def test_the_index_finds_the_nearest(tmp_path: Path, scene_frames: list[np.ndarray]) -> None:
    """A copy of a known picture is found, a new one is not; what is no picture is left out of the index."""
    for number, frame in enumerate(scene_frames[:3]):
        write_image(tmp_path / f"{number}.png", frame)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    index = PictureIndex(sorted(tmp_path.glob("*.png")))
    assert len(index) == 3
    write_image(tmp_path / "copy.jpg", scene_frames[2])
    write_image(tmp_path / "new.jpg", scene_frames[4])
    assert index.find(picture_digests(tmp_path / "copy.jpg")) == tmp_path / "2.png"
    assert index.find(picture_digests(tmp_path / "1.png")) == tmp_path / "1.png"
    assert index.find(picture_digests(tmp_path / "new.jpg")) is None
    assert PictureIndex([]).find(picture_digests(tmp_path / "new.jpg")) is None


def test_no_picture_has_no_digests(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        picture_digests(tmp_path / "broken.png")
