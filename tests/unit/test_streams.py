"""Network streams and cameras: a real stream over HTTP, and a camera played by a fake capture."""

from __future__ import annotations

import gc
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from yolo12edge.errors import InputError
from yolo12edge.frame import Frame
from yolo12edge.sources import open_source, source, stream

ROOT = Path(__file__).parents[2]


def number_in(frame: Frame) -> int:
    return round(frame.image.mean() / 5)


def test_frames_are_numbered_and_stamped(camera: Any) -> None:
    before = time.time_ns()
    with open_source(camera.url, drop="none") as frames:
        first = list(islice(frames, 10))
        assert (frames.live, frames.dropped, frames.reconnects) == (True, 0, 0)
    assert [frame.index for frame in first] == [number_in(frame) for frame in first] == list(range(10))
    assert {frame.source for frame in first} == {f"http://admin:***@127.0.0.1:{camera.port}/live?pwd=***&channel=1"}
    stamps = [frame.stamp_ns for frame in first]
    assert stamps == sorted(stamps)
    assert before < stamps[0] < stamps[-1] < time.time_ns()
    assert list(frames) == []  # closed


def test_a_live_stream_keeps_only_the_newest_frame(camera: Any, wait_until: Any) -> None:
    camera.allowed = 40
    with open_source(camera.url) as frames:
        wait_until(lambda: frames.dropped == 39)
        newest = next(frames)
    assert (newest.index, number_in(newest)) == (39, 39)


def test_waiting_for_the_caller_loses_nothing(camera: Any, wait_until: Any) -> None:
    camera.pause_s = 0
    with open_source(camera.url, drop="none") as frames:
        wait_until(lambda: len(frames._buffer._items) == 2)
        assert [number_in(frame) for frame in islice(frames, 120)] == [index % 50 for index in range(120)]
        assert frames.dropped == 0


def test_a_lost_stream_is_found_again(camera: Any, capfd: Any) -> None:
    with open_source(camera.url, drop="none") as frames:
        begin = list(islice(frames, 3))
        camera.stop()
        threading.Timer(0.15, camera.start).start()
        after = next(frame for frame in frames if frames.reconnects)
        assert frames.reconnects == 1
        camera.stop()
        camera.start()
        again = next(frame for frame in frames if frames.reconnects == 2)
    assert [begin[-1].index < after.index, after.index < again.index] == [True, True]
    assert number_in(after) <= 2  # the new connection counts from 0
    printed = capfd.readouterr()
    assert "s3cret" not in printed.out + printed.err


def test_a_stream_that_stays_away_is_given_up(camera: Any) -> None:
    with open_source(camera.url, drop="none", reconnect_s=0.3) as frames:
        next(frames)
        camera.stop()
        with pytest.raises(InputError, match=r"was lost after \d+ frames and not found again within 0.3 s") as lost:
            list(frames)
        assert list(frames) == []
    assert "s3cret" not in str(lost.value)
    assert frames.reconnects == 0


def test_a_silent_stream_is_lost(camera: Any) -> None:
    camera.allowed = 8
    with open_source(camera.url, drop="none", timeout_s=0.3, reconnect_s=0) as frames:
        assert len(list(islice(frames, 8))) == 8
        with pytest.raises(InputError, match=r"lost after 8 frames.*no frame came for 0.3 s"):
            next(frames)


def test_close_from_another_thread_ends_the_iteration(camera: Any) -> None:
    camera.allowed = 3
    with open_source(camera.url, drop="none", timeout_s=30) as frames:
        threading.Timer(0.1, frames.close).start()
        begin = time.monotonic()
        assert len(list(frames)) <= 3
        assert time.monotonic() - begin < 10


def test_a_source_that_is_forgotten_closes_itself(camera: Any, wait_until: Any) -> None:
    frames = open_source(camera.url)
    buffer = frames._buffer
    next(frames)
    del frames
    gc.collect()
    assert buffer._closed
    wait_until(lambda: not [thread for thread in threading.enumerate() if str(camera.port) in thread.name])


def test_a_program_may_end_without_closing(camera: Any) -> None:
    code = f"from yolo12edge.sources import open_source\nframes = open_source({camera.url!r})\nnext(frames)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_there(capfd: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}/live"
        for scheme in ("http", "rtsp"):
            with pytest.raises(InputError, match=rf"^{scheme}://me:\*\*\*@127.* cannot be opened") as refused:
                open_source(f"{scheme}://me:s3cret@{address}")
            assert "s3cret" not in str(refused.value)
        silent.listen()  # takes the connection, and never says a word
        for scheme in ("http", "rtsp"):
            with pytest.raises(InputError, match=r"did not answer within 0.3 s"):
                open_source(f"{scheme}://me:s3cret@{address}", timeout_s=0.3)
    printed = capfd.readouterr()
    assert "s3cret" not in printed.out + printed.err


def test_a_name_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(source, "_GRACE_S", 0.05)
    monkeypatch.setattr(source, "connect", lambda *_: over.wait(10))
    with pytest.raises(InputError, match="did not answer"):
        open_source("rtsp://host/live", timeout_s=0.05)
    over.set()


@pytest.fixture
def web_video(tmp_path: Path) -> Iterator[Callable[[float], str]]:
    """A web server with a video of 200 frames, of which it delivers the first part."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for index in range(200):
        writer.write(np.full((48, 64, 3), index % 50 * 5, np.uint8))
    writer.release()
    data, part = path.read_bytes(), [1.0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: int(len(data) * part[0])])

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()

    def address(share: float) -> str:
        part[0] = share
        return f"http://127.0.0.1:{server.server_address[1]}/clip.avi?token=s3cret"

    yield address
    server.shutdown()
    server.server_close()


def test_a_video_on_the_web_has_an_end(web_video: Callable[[float], str]) -> None:
    with open_source(web_video(1)) as frames:
        assert not frames.live
        assert frames.fps == pytest.approx(20)
        assert [number_in(frame) for frame in frames] == [index % 50 for index in range(200)]
    with (
        open_source(web_video(0.6)) as frames,
        pytest.raises(InputError, match=r"ends after \d+ of 200 frames") as early,
    ):
        list(frames)
    assert "s3cret" not in str(early.value)


class FakeCapture:
    """A camera: ``script`` says of each frame whether it comes; then the camera is unplugged."""

    script: ClassVar[list[bool | BaseException | threading.Event]] = []
    opened = 0

    def __init__(self, *_: object) -> None:
        type(self).opened += 1

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        step = self.script.pop(0) if self.script else False
        if isinstance(step, threading.Event):
            step.wait(10)
            return False
        if isinstance(step, BaseException):
            raise step
        return step

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((4, 6, 3), np.uint8)

    def get(self, prop: int) -> float:
        return (time.monotonic() - 0.25) * 1e3 if prop == cv2.CAP_PROP_POS_MSEC else 30.0

    def release(self) -> None:
        pass


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "opened", 0)
    path = tmp_path / "camera"
    path.symlink_to("/dev/null")  # a device file that is no block device, which is how a camera is told
    return path


def test_a_camera_says_when_a_frame_was_taken(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "script", [True, False])
    with open_source(device, drop="none") as frames:
        stamp = next(frames).stamp_ns
    assert frames.live
    assert stamp is not None
    assert 0.2e9 < time.time_ns() - stamp < 5e9


def test_a_camera_that_is_unplugged_and_plugged_in_again(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unplugged = threading.Event()
    monkeypatch.setattr(FakeCapture, "script", [True, True, unplugged, True])
    with open_source(device, drop="none") as frames:
        assert [frame.index for frame in islice(frames, 2)] == [0, 1]
        device.unlink()
        unplugged.set()
        threading.Timer(0.15, device.symlink_to, ["/dev/null"]).start()
        assert next(frames).index == 2
        assert frames.reconnects == 1
    assert FakeCapture.opened >= 2
    device.unlink()
    monkeypatch.setattr(FakeCapture, "script", [])
    with pytest.raises(InputError, match=r"there is no camera /dev/video99\. Expected: this machine has"):
        open_source("/dev/video99")


def test_a_camera_that_stays_unplugged(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "script", [True, False])
    with open_source(device, drop="none", reconnect_s=0.2) as frames:
        device.unlink()
        with pytest.raises(InputError, match=r"lost after 1 frames .* there is no camera"):
            list(frames)


def test_only_the_time_without_a_frame_counts(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, grab = [0.0], FakeCapture.grab
    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: clock[0], time_ns=time.time_ns))
    monkeypatch.setattr(FakeCapture, "grab", lambda self: clock.__setitem__(0, clock[0] + 10) or grab(self))
    monkeypatch.setattr(FakeCapture, "script", [True] * 5 + [False, True])
    with open_source(device, drop="none", reconnect_s=15) as frames:
        assert len(list(islice(frames, 6))) == 6  # a minute, and never more than 15 s without a frame
        with pytest.raises(InputError, match="lost after 6 frames"):
            next(frames)


def test_attempts_come_ever_less_often(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def closed_within(_: object, seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 10

    monkeypatch.setattr(FakeCapture, "script", [True])
    monkeypatch.setattr(stream.FrameBuffer, "closed_within", closed_within)
    with open_source(device, drop="none", reconnect_s=math.inf) as frames:
        assert len(list(frames)) == 1
    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5])


def test_a_driver_that_hangs(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(FakeCapture, "script", [True, stuck])
    monkeypatch.setattr(source, "_GRACE_S", 0.05)
    with open_source(device, drop="none", timeout_s=0.05, reconnect_s=0.05) as frames:
        next(frames)
        with pytest.raises(InputError, match="hangs: it neither"):
            next(frames)
        assert list(frames) == []
    stuck.set()


@pytest.mark.parametrize(("error", "raised"), [(cv2.error("no more"), InputError), (MemoryError(), MemoryError)])
def test_an_exception_of_the_reading_thread_travels(
    device: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException]
) -> None:
    monkeypatch.setattr(FakeCapture, "script", [True, error])
    with open_source(device, drop="none") as frames:
        next(frames)
        with pytest.raises(raised):
            next(frames)
        assert list(frames) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that a process with threads forks is the point here
def test_a_forked_child_is_told_that_it_has_no_reader(camera: Any) -> None:
    with open_source(camera.url) as frames:
        child = os.fork()
        if not child:
            code = 1
            try:
                next(frames)
            except InputError:
                frames.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert next(frames).image.shape == (48, 64, 3)
