"""Several cameras, one Runtime: each gets its turn, none delays the others, and one that fails does not stop the rest.

A thread a camera takes its newest frame, hands it in (``submit``) and waits for the answer before it takes the next. So
at most one frame of each camera waits for the detector, whatever their rates are: latency is bounded by the number of
cameras, and what a camera sends meanwhile is dropped by its source and counted.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from yolo12edge import Detections, Frame, Runtime, Thresholds, Yolo12EdgeError
from yolo12edge.imaging import draw_detections, label_grid, write_image
from yolo12edge.sources import Source, open_source
from yolo12edge.sources.address import masked


@dataclass
class Camera:
    """One source and what became of it.

    Attributes:
        url: What it is.
        latency_ms: Of each frame, from being handed in to its detections.
        objects: How many were found in all.
        dropped: Frames that were never looked at.
        seconds: From first to last frame.
        last: Its last frame and what was found in it.
        error: What ended it early.
    """

    url: str
    latency_ms: list[float] = field(default_factory=list)
    objects: int = 0
    dropped: int = 0
    seconds: float = 0.0
    last: tuple[Frame, Detections] | None = None
    error: str = ""
    _source: Source | None = None
    _stopped: bool = False

    def watch(self, runtime: Runtime, thresholds: Thresholds) -> None:
        """Look at frames until the source ends or ``stop`` is called."""
        start = time.perf_counter()
        try:
            with open_source(self.url, drop="oldest") as self._source:
                for frame in self._source:
                    if self._stopped:
                        break
                    self._look(frame, runtime, thresholds)
        except Exception as error:  # a thread that dies tells nobody
            self.error = str(error) if isinstance(error, Yolo12EdgeError) else repr(error)
        self.seconds = time.perf_counter() - start
        self.dropped = self._source.dropped if self._source else 0

    def stop(self) -> None:
        """End ``watch``, also where it waits for a camera that is silent."""
        self._stopped = True
        if self._source is not None:
            self._source.close()

    def _look(self, frame: Frame, runtime: Runtime, thresholds: Thresholds) -> None:
        start = time.perf_counter()
        detections = runtime.submit(frame, thresholds=thresholds).result()
        self.latency_ms.append((time.perf_counter() - start) * 1e3)
        self.objects += len(detections)
        self.last = frame, detections

    def __str__(self) -> str:
        count = len(self.latency_ms)
        median = f", p50 {np.median(self.latency_ms):.0f} ms" if count else ""
        text = f"{masked(self.url)}: {count} frames, {count / max(self.seconds, 1e-9):.1f} a second{median}, "
        return f"{text}{self.dropped} dropped, {self.objects} objects" + (f"; {self.error}" if self.error else "")


def main() -> int:
    """Watch all cameras; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact, model file or checkpoint")
    parser.add_argument("sources", nargs="+", help="cameras, streams, videos, which are played at their own speed")
    parser.add_argument("--seconds", type=float, help="stop after this time; without it, when all sources have ended")
    parser.add_argument("--confidence", type=float, default=0.25, help="lowest confidence (default: 0.25)")
    parser.add_argument("--out", type=Path, help="picture with the last frame of each")
    options = parser.parse_args()
    cameras = [Camera(source) for source in options.sources]
    thresholds = Thresholds(confidence=options.confidence)
    with Runtime(options.model) as runtime:
        threads = [threading.Thread(target=camera.watch, args=(runtime, thresholds)) for camera in cameras]
        for thread in threads:
            thread.start()
        end = None if options.seconds is None else time.monotonic() + options.seconds
        try:
            for thread in threads:
                thread.join(None if end is None else max(0.0, end - time.monotonic()))
        finally:
            for camera, thread in zip(cameras, threads, strict=True):
                camera.stop()
                thread.join()
        manifest = runtime.manifest
    print(*cameras, sep="\n")
    lasts = [camera.last for camera in cameras if camera.last is not None]
    pictures = [
        draw_detections(frame.image, detections, manifest.class_names, keypoints=manifest.keypoints)
        for frame, detections in lasts
    ]
    if options.out and pictures:
        write_image(options.out, label_grid(pictures))
    return 1 if any(camera.error for camera in cameras) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
