"""Files as sources, the buffer between the threads, and addresses without passwords."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.errors import InputError
from yolo12edge.frame import Frame
from yolo12edge.imaging import write_image
from yolo12edge.sources import is_stream, open_source, source
from yolo12edge.sources.address import masked
from yolo12edge.sources.buffer import FrameBuffer
from yolo12edge.sources.video import check_whole

PICTURE = np.zeros((2, 3, 3), np.uint8)


def write_video(path: Path, frames: int, *, fps: float = 20.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((48, 64, 3), number % 50 * 5, np.uint8))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", np.full((8, 9, 3), number, np.uint8))
    write_video(tmp_path / "in" / "video.avi", 4)
    return tmp_path / "in"


def test_a_folder_gives_its_images_and_videos(folder: Path) -> None:
    with open_source(folder) as frames:
        assert (frames.live, frames.fps, frames.name) == (False, None, str(folder))
        found = list(frames)
        assert list(frames) == []
    assert [frame.index for frame in found] == list(range(7))
    assert [Path(frame.source).name for frame in found] == ["0.png", "1.png", "2.png"] + ["video.avi"] * 4
    assert [int(frame.image[0, 0, 0]) for frame in found[:3]] == [0, 1, 2]
    assert all(frame.stamp_ns for frame in found)
    with open_source(f"{folder}/[12].png") as frames:
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2]


def test_a_file_that_cannot_be_read_is_told_and_the_rest_follows(folder: Path) -> None:
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:50])
    with open_source(folder) as frames:
        assert next(frames).source.endswith("0.png")
        with pytest.raises(InputError, match=r"1\.png is a damaged PNG"):
            next(frames)
        rest = list(frames)
    assert [frame.index for frame in rest] == [1, 2, 3, 4, 5]
    assert frames.dropped == 0


def test_a_truncated_video_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen: list[int] = []
    with open_source(path) as frames:
        with pytest.raises(InputError, match=r"ends after \d+ of \d+ frames"):
            seen.extend(frame.index for frame in frames)
        assert list(frames) == []
    assert 0 < len(seen) < 200


def test_a_video_that_drops_plays_at_its_own_speed(tmp_path: Path, wait_until: Any) -> None:
    path = write_video(tmp_path / "clip.avi", 30, fps=100.0)
    begin = time.monotonic()
    with open_source(path, drop="oldest") as frames:
        first = next(frames)
        wait_until(lambda: frames.dropped >= 5)  # meanwhile it plays on
        later = list(frames)
    assert time.monotonic() - begin >= 0.29
    assert first.index <= 1
    assert later[-1].index == 29
    assert 1 + len(later) + frames.dropped == 30


def test_what_cannot_be_a_source(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "text.mp4").write_text("not a video")
    for name, message in (
        (tmp_path / "empty", "no image or video"),
        (tmp_path / "missing.mp4", "does not exist"),
        (tmp_path / "pipe.png", "neither a file nor a folder"),  # reading it would wait for a writer
        (tmp_path / "text.mp4", "cannot be opened as a video"),
        (f"{tmp_path}/*.webp", "no image or video matches"),
        ("", "the source is empty"),  # and not the working directory
        ("\0", "does not exist"),
        ("concat://a.mp4|b.mp4", "has the scheme 'concat'"),
        ("file:///etc/passwd", "name a local file by its path"),
        ("/dev/video99", "there is no camera /dev/video99"),
        ("/dev/null", "cannot be opened as a camera"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(name)
    with pytest.raises(InputError, match="images, which have no speed"):
        open_source(folder, drop="oldest")
    for options in ({"drop": "newest"}, {"timeout_s": 0}, {"timeout_s": float("nan")}, {"reconnect_s": -1}):
        with pytest.raises(InputError, match=f"{next(iter(options))} is "):
            open_source(folder, **options)


def test_a_video_on_the_web_without_a_frame_names_the_likely_cause() -> None:
    with pytest.raises(InputError, match=r"byte ranges.*faststart"):
        check_whole("http://host/clip.mp4", 0, 200)
    with pytest.raises(InputError, match=r"H\.264"):
        check_whole("clip.mp4", 0, 200)


def test_which_sources_are_streams(tmp_path: Path) -> None:
    streams = ["rtsp://host/x", "RTSP://host/x", "udp://@:5000", "/dev/video0", "/dev/v4l/by-id/usb-camera"]
    files = ["clip.mp4", "/dev/shm/clip.mp4", str(tmp_path), "C:\\clips\\a.mp4", "a:b", "shots/**/*.jpg"]
    assert [is_stream(name) for name in streams + files] == [True] * len(streams) + [False] * len(files)


@given(st.lists(st.sampled_from(["put", "take", "fail"]), max_size=40))
def test_every_frame_is_taken_or_counted(steps: list[str]) -> None:
    buffer, taken, put, failed, raised = FrameBuffer("oldest"), [], 0, 0, 0
    waiting = False  # whether something is there to take
    for step in [*steps, *["take"] * 41]:
        if step == "put":
            assert buffer.put(PICTURE, 0, "")
            put, waiting = put + 1, True
        elif step == "fail":
            buffer.fail(InputError("broken"))
            failed, waiting = failed + 1, True
        elif waiting:
            try:
                frame = buffer.take(0)
                assert frame is not None
                taken.append(frame.index)
            except InputError:
                raised += 1
            waiting = bool(buffer._items)
    gaps = sum(after - before - 1 for before, after in zip([-1, *taken], taken, strict=False))
    assert taken == sorted(set(taken))
    assert len(taken) + buffer.dropped == put
    assert gaps == buffer.dropped  # the newest frame is never dropped, so every gap is before a frame
    assert raised == failed


def test_a_full_buffer_waits_and_closing_frees_the_reader() -> None:
    buffer, done = FrameBuffer("none"), []
    reader = threading.Thread(target=lambda: done.extend(buffer.put(PICTURE, 0, "") for _ in range(9)))
    reader.start()
    taken = [buffer.take(5) for _ in range(4)]
    assert [frame.index for frame in taken if frame] == [0, 1, 2, 3]
    buffer.close()
    reader.join(5)
    assert not reader.is_alive()
    assert (done.count(True), done.count(False)) in ((6, 3), (5, 4), (4, 5))
    assert buffer.take(None) is None
    with pytest.raises(TimeoutError):
        FrameBuffer("none").take(0)


def test_the_last_frame_is_kept_at_the_end() -> None:
    buffer = FrameBuffer("oldest")
    for _ in range(3):
        buffer.put(PICTURE, 7, "camera")
    buffer.finish()
    last = buffer.take(None)
    assert isinstance(last, Frame)
    assert (last.index, last.stamp_ns, last.source, buffer.dropped) == (2, 7, "camera", 2)
    assert buffer.take(None) is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:pw@10.0.0.2:554/s1?channel=1", "rtsp://admin:***@10.0.0.2:554/s1?channel=1"),
        ("rtsp://admin:p@s/w?o#r:d@host/s", "rtsp://admin:***@host/s"),
        ("http://host/cgi?user=me&pwd=x_y&n=1", "http://host/cgi?user=me&pwd=***&n=1"),
        ("http://host/a?api_key=x#top", "http://host/a?api_key=***#top"),
        ("rtsp://host/user=admin_password=x_channel=1_stream=0.sdp", "rtsp://host/user=admin_password=***_channel=1_stream=0.sdp"),
        ("rtsp://host:554/path", "rtsp://host:554/path"),
        ("udp://@:5000", "udp://@:5000"),
        ("shots/a@b:c.jpg", "shots/a@b:c.jpg"),
    ],
)  # fmt: skip
def test_passwords_are_masked(address: str, shown: str) -> None:
    assert masked(address) == shown


@given(st.text(), st.text(), st.sampled_from(["rtsp", "http", "x"]), st.sampled_from(["password", "Token", "pwd"]))
def test_no_password_is_ever_shown(before: str, after: str, scheme: str, key: str) -> None:
    secret = f"{before}S3CRET{after}"
    assert "S3CRET" not in masked(f"{scheme}://user:{secret}@host/path")
    assert "S3CRET" not in masked(f"{scheme}://:{secret}@host")
    quoted = secret.replace("&", "%26").replace(";", "").replace("/", "").replace("#", "").replace("_", "")
    assert "S3CRET" not in masked(f"{scheme}://host/path?{key}={quoted}&n=1")


def test_a_source_opened_in_vain_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        source.open_source(tmp_path / "none.png")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("source")]
