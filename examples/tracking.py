"""A tracker small enough to read, for the other examples; for hard scenes take one of ``supervision`` or your own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolo12edge import Detections, Frame
from yolo12edge.imaging import box_iou
from yolo12edge.sources import Source


@dataclass
class Track:
    """One object over time.

    Attributes:
        number: Its own, from 1.
        class_id: Of its latest detection.
        box: float32 (4,), left, top, right, bottom in pixels, when last seen.
        velocity: float32 (2,), right and down, pixels a second.
        first_seen: Seconds.
        last_seen: Seconds.
    """

    number: int
    class_id: int
    box: npt.NDArray[np.float32]
    velocity: npt.NDArray[np.float32]
    first_seen: float
    last_seen: float

    @property
    def foot(self) -> tuple[float, float]:
        """Where it touches the ground: the middle of the lower edge."""
        return float(self.box[0] + self.box[2]) / 2, float(self.box[3])

    def moved(self, seconds: float) -> npt.NDArray[np.float32]:
        """Return where its box is if it goes on as before."""
        return self.box + np.tile(self.velocity, 2) * np.float32(seconds - self.last_seen)


class Tracker:
    """Joins detections to tracks by the overlap with where each track should be now, best first.

    Args:
        iou: Overlap from which a detection may belong to a track.
        patience: Seconds that a track lives without being seen.
    """

    def __init__(self, *, iou: float = 0.2, patience: float = 1.0) -> None:
        self.iou = iou
        self.patience = patience
        self._tracks: list[Track] = []
        self._count = 0

    def update(self, detections: Detections, seconds: float) -> list[Track]:
        """Take one frame's detections, and return the track of each, in their order.

        Args:
            detections: n objects.
            seconds: When the frame was taken; later than the one before.
        """
        self._tracks = [track for track in self._tracks if seconds - track.last_seen <= self.patience]
        expected = np.array([track.moved(seconds) for track in self._tracks], np.float32).reshape(-1, 4)
        overlap = box_iou(detections.xyxy, expected)
        owner: dict[int, Track] = {}
        while overlap.size and overlap.max() >= self.iou:
            row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
            owner[int(row)] = self._tracks[column]
            overlap[row], overlap[:, column] = -1, -1
        result = []
        for index, (box, class_id) in enumerate(zip(detections.xyxy, detections.class_id.tolist(), strict=True)):
            track = owner.get(index)
            if track is None:
                self._count += 1
                track = Track(self._count, class_id, box, np.zeros(2, np.float32), seconds, seconds)
                self._tracks.append(track)
            else:
                self._follow(track, class_id, box, seconds)
            result.append(track)
        return result

    @staticmethod
    def _follow(track: Track, class_id: int, box: npt.NDArray[np.float32], seconds: float) -> None:
        passed = max(seconds - track.last_seen, 1e-3)
        latest = (box - track.box).reshape(2, 2).mean(axis=0) / passed
        weight = min(1.0, passed / 0.4)  # boxes jitter: forget over 0.4 s
        track.velocity = ((1 - weight) * track.velocity + weight * latest).astype(np.float32)
        track.class_id, track.box, track.last_seen = class_id, box, seconds


def seconds_of(frame: Frame, source: Source) -> float:
    """Return when a frame was taken: by a recording's own speed, else by the frame's stamp."""
    if not source.live and source.fps:
        return frame.index / source.fps
    return (frame.stamp_ns or 0) / 1e9
