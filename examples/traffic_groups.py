"""Group vehicles into queues, platoons and clusters, by where they are and how they move.

Two vehicles belong together where the gap between them is small (``--gap``: across in widths of a vehicle, up and down
in heights, so that far and near ones are judged alike) and they move alike (``--alike``, in heights a second); so do
all vehicles of a chain of such pairs. A group that stands or crawls in a line is a queue, one that drives behind one
another a platoon, any other a cluster: side by side, a jam over several lanes, a car park. The camera must stand still,
and all is measured in the picture: what stands side by side cannot be told from what stands behind one another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from moving_scene import write_video
from tracking import Track, Tracker, seconds_of

from yolo12edge import Runtime, Thresholds, Yolo12EdgeError
from yolo12edge.sources import Source, open_source

VEHICLES = ("car", "truck", "bus", "motorcycle")
SETTLED = 0.5  # seconds after which the velocity of a new track is known
BORDER = 2  # pixels
CRAWL = 0.3  # vehicle heights a second, below which a vehicle stands
IN_LINE = 0.6  # vehicle heights that the vehicles of a line may be beside it
COLORS = {"queue": (60, 60, 230), "platoon": (90, 190, 60), "cluster": (0, 170, 255)}


@dataclass(frozen=True)
class Group:
    """Vehicles that belong together.

    Attributes:
        kind: What they look like.
        members: At least two.
        speed: Vehicle heights a second, of their mean velocity.
    """

    kind: Literal["queue", "platoon", "cluster"]
    members: tuple[Track, ...]
    speed: float


def group_vehicles(tracks: Sequence[Track], *, gap: float, alike: float) -> list[Group]:
    """Return groups of two and more, those of most members first.

    Args:
        tracks: Vehicles of one frame.
        gap: Largest gap between neighbours, vehicle widths across and heights up and down.
        alike: Largest difference of their velocities, vehicle heights a second.
    """
    groups: list[list[Track]] = []
    for track in tracks:  # a vehicle joins all the groups that it is near to into one
        joined = [group for group in groups if any(_belong(track, other, gap, alike) for other in group)]
        groups = [group for group in groups if not any(group is other for other in joined)]
        groups.append([track, *(other for group in joined for other in group)])
    found = [_describe(sorted(group, key=lambda track: track.number)) for group in groups if len(group) > 1]
    return sorted(found, key=lambda group: -len(group.members))


def _belong(a: Track, b: Track, gap: float, alike: float) -> bool:
    size = (a.box[2:] - a.box[:2] + b.box[2:] - b.box[:2]) / 2
    apart = np.maximum(np.maximum(a.box[:2] - b.box[2:], b.box[:2] - a.box[2:]), 0) / size
    return bool(np.hypot(*apart) <= gap and np.hypot(*(a.velocity - b.velocity)) <= alike * size[1])


def _describe(members: list[Track]) -> Group:
    boxes = np.array([track.box for track in members])
    height = float((boxes[:, 3] - boxes[:, 1]).mean())
    feet = np.array([track.foot for track in members])
    velocity = np.mean([track.velocity for track in members], axis=0)
    speed = float(np.hypot(*velocity)) / height
    stands = speed < CRAWL
    # A line has the direction in which its vehicles drive; where they stand, the one in which they are spread most.
    away = feet - feet.mean(axis=0)
    along = np.linalg.svd(away)[2][0] if stands else velocity / np.hypot(*velocity)
    beside = np.abs(away @ np.array((-along[1], along[0])))
    if beside.max() > IN_LINE * height:
        return Group("cluster", tuple(members), speed)
    return Group("queue" if stands else "platoon", tuple(members), speed)


def motion_is_known(track: Track, image: npt.NDArray[np.uint8], seconds: float) -> bool:
    """Say whether a vehicle has been seen for a while and is not cut off by the border, where only one end moves."""
    height, width = image.shape[:2]
    left, top, right, bottom = track.box.tolist()
    inside = left > BORDER and top > BORDER and right < width - BORDER and bottom < height - BORDER
    return inside and seconds - track.first_seen >= SETTLED


def draw_groups(image: npt.NDArray[np.uint8], groups: Sequence[Group]) -> npt.NDArray[np.uint8]:
    """Return a copy of the picture with a frame and a line of text around each group."""
    canvas = image.copy()
    scale = max(0.4, image.shape[0] / 900)
    for group in groups:
        boxes = np.array([track.box for track in group.members])
        left, top = (int(value) - 3 for value in boxes[:, :2].min(axis=0))
        right, bottom = (int(value) + 3 for value in boxes[:, 2:].max(axis=0))
        color = COLORS[group.kind]
        for track in group.members:
            box = [round(float(side)) for side in track.box]
            cv2.rectangle(canvas, (box[0], box[1]), (box[2], box[3]), color, 1)
        cv2.rectangle(canvas, (left, top), (right, bottom), color, 2)
        text = f"{group.kind} of {len(group.members)}"
        place = (max(left, 2), max(top - 5, round(22 * scale)))
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_DUPLEX, scale, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_DUPLEX, scale, color, 1, cv2.LINE_AA)
    return canvas


def groups_over_time(
    source: Source, runtime: Runtime, *, thresholds: Thresholds, gap: float, alike: float
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield each frame with its groups drawn, and print when they change."""
    tracker, said = Tracker(), ""
    with runtime.stream(source, thresholds=thresholds) as results:
        for frame, detections in results:
            seconds = seconds_of(frame, source)
            tracks = tracker.update(detections, seconds)
            known = [track for track in tracks if motion_is_known(track, frame.image, seconds)]
            groups = group_vehicles(known, gap=gap, alike=alike)
            text = ", ".join(f"{group.kind} of {len(group.members)}" for group in groups) or "no group"
            if text != said:
                print(f"frame {frame.index}: {text}", flush=True)
                said = text
            yield draw_groups(frame.image, groups)


def main() -> None:
    """Watch a source; print when the groups change, and write a video of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact, model file or checkpoint")
    parser.add_argument("source", help="camera, stream or video")
    parser.add_argument("--classes", nargs="+", default=VEHICLES, help="names of what counts as a vehicle")
    parser.add_argument("--gap", type=float, default=0.75, help="largest gap in vehicle sizes (default: 0.75)")
    parser.add_argument("--alike", type=float, default=0.8, help="largest difference in speed (default: 0.8)")
    parser.add_argument("--confidence", type=float, default=0.45, help="lowest confidence (default: 0.45)")
    parser.add_argument("--out", type=Path, help="video to write, .mp4")
    options = parser.parse_args()
    with Runtime(options.model) as runtime, open_source(options.source) as source:
        names = runtime.manifest.class_names
        classes = tuple(index for index, name in enumerate(names) if name in options.classes)
        if not classes:
            parser.error(f"the model knows none of {', '.join(options.classes)}; it knows {', '.join(names)}")
        pictures = groups_over_time(
            source,
            runtime,
            thresholds=Thresholds(options.confidence, iou=0.5, classes=classes, class_agnostic=True),
            gap=options.gap,
            alike=options.alike,
        )
        if options.out:
            write_video(options.out, pictures, fps=source.fps or 10.0)
        else:
            for _ in pictures:
                pass


if __name__ == "__main__":
    try:
        main()
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
