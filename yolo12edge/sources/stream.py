"""Cameras and network streams: connecting within a time limit, reading, and finding them again."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from ..errors import InputError
from .address import is_url, masked
from .buffer import FrameBuffer
from .video import check_whole

__all__ = ["connect", "read_stream"]

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0


def connect(address: str, timeout_s: float) -> cv2.VideoCapture:
    """Open a camera or network stream.

    Args:
        address: A URL, or a camera's device file.
        timeout_s: Longest wait for an answer, and later for each frame, in seconds. Looking up a host's name and
            opening a camera are not limited by it; callers that must not wait call this in a thread.

    Raises:
        InputError: If there is nothing that can be read; the message holds no password.
    """
    if not is_url(address):
        return _open_camera(address)
    if cv2.CAP_FFMPEG not in cv2.videoio_registry.getStreamBackends():
        raise InputError("this OpenCV reads no network streams", remedy="install an OpenCV built with FFmpeg")
    limit = max(1, round(timeout_s * 1000))
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    begin = time.monotonic()
    # The engine is named: the time limits are FFmpeg's, and no other should be tried after it.
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, options)
    if capture.isOpened():
        return capture
    if time.monotonic() - begin >= timeout_s:
        raise InputError(
            f"{masked(address)} did not answer within {timeout_s:g} s",
            expected="a stream that delivers frames",
            remedy="look whether the camera is on and the address and port are right; a slow one needs a larger "
            "timeout_s",
        )
    raise InputError(
        f"{masked(address)} cannot be opened",
        expected="a video stream that this OpenCV reads",
        remedy="check address, port, path, user and password, for example with a video player",
    )


def _open_camera(path: str) -> cv2.VideoCapture:
    if not Path(path).exists():
        cameras = ", ".join(str(found) for found in sorted(Path("/dev").glob("video*"))) or "no camera"
        raise InputError(f"there is no camera {path}", expected=f"this machine has {cameras}", remedy="plug it in")
    capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise InputError(
            f"{path} cannot be opened as a camera",
            expected="a Video4Linux capture device that no other program has open",
            remedy="close other programs, try the neighbouring number (a camera has several), and see that you may "
            "read it: groups should list 'video'",
        )
    return capture


def read_stream(
    address: str,
    capture: cv2.VideoCapture,
    buffer: FrameBuffer,
    *,
    timeout_s: float,
    reconnect_s: float,
    frame_count: int | None,
) -> None:
    """Put the frames of a stream into a buffer until that is closed.

    A stream that ends or falls silent is let go and connected to again: at once, then after 0.1 s, 0.2 s and so on
    to 5 s between attempts, until ``reconnect_s`` have passed since the last frame.

    Args:
        address: As for ``connect``.
        capture: The first connection, which this closes.
        buffer: Where the frames go.
        timeout_s: As for ``connect``.
        reconnect_s: Seconds without a frame after which the stream is given up.
        frame_count: How many frames there are, if it is a file behind a URL: then its end is the end.

    Raises:
        InputError: If the stream is given up, or such a file ended early.
    """
    name = masked(address)
    connection: cv2.VideoCapture | None = capture
    read, fresh = 0, True  # fresh: this connection has delivered no frame yet
    delay = 0.0
    reason = "it ended"
    last = time.monotonic()
    try:
        while True:
            if connection is not None:
                begin = time.monotonic()
                while connection.grab():
                    stamp_ns = _stamp(connection, address)
                    done, image = connection.retrieve()
                    if not done:
                        break
                    if fresh and read:
                        buffer.reconnects += 1
                    read, fresh, delay = read + 1, False, 0.0
                    if not buffer.put(np.asarray(image, np.uint8), stamp_ns, name):
                        return
                    last = begin = time.monotonic()
                silent = time.monotonic() - begin >= timeout_s
                reason = f"no frame came for {timeout_s:g} s" if silent else "it ended"
                connection.release()
                connection = None
                if frame_count is not None:
                    check_whole(urlsplit(name)._replace(query="", fragment="").geturl(), read, frame_count)
                    return
            left = last + reconnect_s - time.monotonic()
            if left <= 0:
                raise InputError(
                    f"{name} was lost after {read} frames and not found again within {reconnect_s:g} s: {reason}",
                    remedy="look at the camera, its power and its network; a larger reconnect_s waits longer",
                )
            if buffer.closed_within(min(delay, left)):
                return
            delay = min(max(2 * delay, _FIRST_DELAY_S), _LONGEST_DELAY_S)
            try:
                connection, fresh = connect(address, min(timeout_s, max(left, 1.0))), True
            except InputError as error:
                reason = error.fact.removeprefix(name).strip()
    finally:
        if connection is not None:
            connection.release()


def _stamp(capture: cv2.VideoCapture, address: str) -> int:
    """Return when the frame just grabbed was taken, or now: nanoseconds since 1970."""
    now = time.time_ns()
    if not is_url(address):
        # Video4Linux says when the driver filled the buffer, on the clock that begins when the machine starts.
        age_ms = time.monotonic() * 1e3 - capture.get(cv2.CAP_PROP_POS_MSEC)
        if 0 <= age_ms < 5000:
            return now - int(age_ms * 1e6)
    return now
