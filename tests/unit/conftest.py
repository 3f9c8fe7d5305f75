"""What several unit tests share: a camera on the network, a folder of pictures, a guard that takes a second."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

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


@pytest.fixture
def folder(tmp_path: Path, scene_frames: list[np.ndarray]) -> Path:
    """Three rendered scenes as files."""
    path = tmp_path / "pictures"
    path.mkdir()
    for index, frame in enumerate(scene_frames[:3]):
        cv2.imwrite(str(path / f"{index}.png"), frame)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One range method, two layers to rank and three timed calls: what is left of the guard takes a second."""
    ranges = importlib.import_module("yolo12edge.calibration.tournament")
    monkeypatch.setattr(ranges, "METHODS", ("minmax",))
    monkeypatch.setattr(ranges, "_REPEATS", 2)
    exporter = importlib.import_module("yolo12edge.exporters.int8")
    monkeypatch.setattr(exporter, "_REPEATS", 3)
    monkeypatch.setattr(exporter, "_LOSS_IMAGES", 2)
    rank = ranges.rank_groups

    def few(bench, recipe, **options):
        readers = frozenset({"model.2.cv2.conv", "model.21.cv3.0.0.0.conv"})
        keep = replace(bench.quantizer.placement(recipe), reads={"images": readers})
        quantizer = SimpleNamespace(placement=lambda recipe: keep)
        plain = bench.measure_loss

        class Few:
            def __init__(self):
                self.quantizer, self.simulate = quantizer, bench.simulate

            measure_loss = staticmethod(plain)

        return rank(Few(), recipe, **options)

    monkeypatch.setattr(exporter, "rank_groups", few)
