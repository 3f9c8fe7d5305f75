"""A control loop that never acts on what is too old: fixed rate, newest result only, a deadline for its age.

The camera and the detector run at their own speed in the background. When the detector is slower than the camera, the
oldest frames are dropped, so that what arrives is recent; when even the newest result is older than the deadline, the
loop does what is safe without eyes. Here it steers a cart that stops for anything large in front of it.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterable

import numpy as np

from yolo12edge import Detections, Frame, Runtime, Yolo12EdgeError
from yolo12edge.sources import open_source


class Newest:
    """Keeps the last result of a stream, read in a thread of its own.

    Attributes:
        value: The last frame with its detections; None before the first.
        error: What ended the stream early.
        done: Set at its end.
    """

    def __init__(self, results: Iterable[tuple[Frame, Detections]]) -> None:
        self.value: tuple[Frame, Detections] | None = None
        self.error: Exception | None = None
        self.done = threading.Event()
        threading.Thread(target=self._read, args=(results,), daemon=True).start()

    def _read(self, results: Iterable[tuple[Frame, Detections]]) -> None:
        try:
            for result in results:
                self.value = result
        except Exception as error:
            self.error = error
        finally:
            self.done.set()


def decide(frame: Frame, detections: Detections) -> str:
    """Stop for what fills more than a fifth of the height in the middle third of the picture."""
    height, width = frame.image.shape[:2]
    middle = (detections.xyxy[:, 2] > width / 3) & (detections.xyxy[:, 0] < 2 * width / 3)
    tall = detections.xyxy[:, 3] - detections.xyxy[:, 1] > height / 5
    return "stop" if np.any(middle & tall) else "go"


def main() -> None:
    """Run the loop until the source ends, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact, model file or checkpoint")
    parser.add_argument("source", help="camera, stream or video, which is played at its own speed")
    parser.add_argument("--rate", type=float, default=20.0, help="decisions a second (default: 20)")
    parser.add_argument("--deadline", type=float, default=200.0, help="oldest usable picture in ms (default: 200)")
    options = parser.parse_args()
    if not 0 < options.rate < float("inf"):
        parser.error("--rate must be more than 0")
    ages, late, last = [], 0, ""
    with (
        Runtime(options.model) as runtime,
        open_source(options.source, drop="oldest") as source,
        runtime.stream(source, drop="oldest") as results,
    ):
        newest = Newest(results)
        tick = time.monotonic()
        while not newest.done.is_set():
            command = "wait"
            if newest.value is not None:
                frame, detections = newest.value
                age_ms = (time.time_ns() - (detections.stamp_ns or 0)) / 1e6
                ages.append(age_ms)
                if age_ms <= options.deadline:
                    command = decide(frame, detections)
                else:
                    command, late = "stop, blind", late + 1
            if command != last:
                print(f"{len(ages) / options.rate:6.2f} s  {command}", flush=True)
                last = command
            # The next tick of the clock, not now + period: the loop must not drift. Missed ticks are left out.
            tick = max(tick + 1 / options.rate, time.monotonic() - 1 / options.rate)
            newest.done.wait(max(0.0, tick - time.monotonic()))
        dropped = source.dropped + results.dropped
    if newest.error is not None:
        raise newest.error
    p50, p99 = np.percentile(ages or [np.nan], (50, 99))
    print(f"{len(ages)} decisions, {late} of them past the deadline; {dropped} frames dropped; ", end="")
    print(f"age of what was acted on: p50 {p50:.0f} ms, p99 {p99:.0f} ms")


if __name__ == "__main__":
    try:
        main()
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
