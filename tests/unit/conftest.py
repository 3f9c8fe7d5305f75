"""A camera on the network, for the tests of sources and of the commands that read them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest


class Camera:
    """Motion JPEG over HTTP: each connection gets pictures of 64 x 48, whose grey value says their number."""

    def __init__(self) -> None:
        self.port = 0
        self.allowed = 10**9  # pictures sent to one connection before it falls silent
        self.pause_s = 0.005
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://admin:s3cret@127.0.0.1:{self.port}/live?pwd=s3cret&channel=1"

    def start(self) -> None:
        camera, on = self, threading.Event()
        on.set()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                sent = 0
                while on.is_set():
                    time.sleep(camera.pause_s)
                    if sent < camera.allowed:
                        data = cv2.imencode(".jpg", np.full((48, 64, 3), sent % 50 * 5, np.uint8))[1].tobytes()
                        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        try:
                            self.wfile.write(head + data + b"\r\n")
                        except OSError:
                            return
                        sent += 1

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        server.daemon_threads, server.block_on_close, server.allow_reuse_address = True, False, True
        server.server_bind()
        server.server_activate()
        self.port = server.server_address[1]
        self._server, self._on = server, on
        threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()

    def stop(self) -> None:
        """Break all connections and refuse new ones."""
        self._on.clear()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.stop()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds; fail after ten seconds."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.005)

    return wait
