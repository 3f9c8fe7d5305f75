"""Tell when something stays in a zone: each object once, when it has been inside for the dwell time.

An object is where the middle of its lower edge is. Leaving for less than ``--forgive`` seconds does not start its time
anew, because boxes jitter. Each alert is a line and, with ``--out``, a picture.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tracking import Track, Tracker, seconds_of

from yolo12edge import Runtime, Thresholds, Yolo12EdgeError
from yolo12edge.imaging import draw_detections, write_image
from yolo12edge.sources import open_source


class DwellZone:
    """A polygon that knows who has been inside for how long.

    Args:
        corners: float32 (n, 2), x and y in pixels.
        dwell: Seconds inside after which there is an alert.
        forgive: Seconds outside that are overlooked.
    """

    def __init__(self, corners: npt.NDArray[np.float32], *, dwell: float, forgive: float) -> None:
        self.corners = corners
        self.dwell = dwell
        self.forgive = forgive
        self._inside: dict[int, tuple[float, float]] = {}  # track → entered, last inside
        self._told: set[int] = set()

    def update(self, tracks: list[Track], seconds: float) -> list[Track]:
        """Return the tracks that reach the dwell time now; each is returned once."""
        for track in tracks:
            if cv2.pointPolygonTest(self.corners, track.foot, False) >= 0:
                entered, _ = self._inside.get(track.number, (seconds, seconds))
                self._inside[track.number] = (entered, seconds)
        gone = [number for number, (_, last) in self._inside.items() if seconds - last > self.forgive]
        for number in gone:
            del self._inside[number]
            self._told.discard(number)
        due = [
            track
            for track in tracks
            if track.number in self._inside
            and track.number not in self._told
            and seconds - self._inside[track.number][0] >= self.dwell
        ]
        self._told.update(track.number for track in due)
        return due


def main() -> None:
    """Watch a source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact, model file or checkpoint")
    parser.add_argument("source", help="camera, stream or video")
    parser.add_argument(
        "--zone",
        type=float,
        nargs="+",
        default=[0.3, 0.88, 0.7, 0.88, 0.7, 1.0, 0.3, 1.0],
        help="corners x y x y …, as shares of width and height (default: a strip at the lower edge)",
    )
    parser.add_argument("--dwell", type=float, default=2.0, help="seconds inside before an alert (default: 2)")
    parser.add_argument("--forgive", type=float, default=0.5, help="seconds outside that do not count (default: 0.5)")
    parser.add_argument("--confidence", type=float, default=0.25, help="lowest confidence (default: 0.25)")
    parser.add_argument("--out", type=Path, help="folder for a picture of each alert")
    options = parser.parse_args()
    if len(options.zone) < 6 or len(options.zone) % 2:
        parser.error("--zone needs x and y of at least three corners")
    thresholds, tracker, zone, alerts = Thresholds(confidence=options.confidence, iou=0.5), Tracker(), None, 0
    with Runtime(options.model) as runtime, open_source(options.source) as source:
        names, keypoints = runtime.manifest.class_names, runtime.manifest.keypoints
        with runtime.stream(source, thresholds=thresholds) as results:
            for frame, detections in results:
                if zone is None:
                    extent = (frame.image.shape[1], frame.image.shape[0])
                    corners = np.array(options.zone, np.float32).reshape(-1, 2) * np.array(extent, np.float32)
                    zone = DwellZone(corners, dwell=options.dwell, forgive=options.forgive)
                seconds = seconds_of(frame, source)
                for track in zone.update(tracker.update(detections, seconds), seconds):
                    alerts += 1
                    print(f"frame {frame.index}: {names[track.class_id]} {track.number} stays in the zone", flush=True)
                    if options.out:
                        picture = draw_detections(frame.image, detections, names, keypoints=keypoints)
                        cv2.polylines(picture, [zone.corners.round().astype(np.int32)], True, (0, 0, 255), 2)
                        left, top, right, bottom = (round(float(side)) for side in track.box)
                        cv2.rectangle(picture, (left - 3, top - 3), (right + 3, bottom + 3), (0, 0, 255), 2)
                        write_image(options.out / f"alert-{alerts:03d}-frame-{frame.index:06d}.jpg", picture)
    print(f"{alerts} alert{'' if alerts == 1 else 's'}")


if __name__ == "__main__":
    try:
        main()
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
