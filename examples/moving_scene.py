"""Draw a small street as a video, for the other examples: ``python examples/moving_scene.py street.mp4``.

In the middle three cars roll up to a standing one, below three vehicles drive off together, a truck comes the other way
above, and a person walks to the kerb and waits. All are things that the bundled demo detector knows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolo12edge.data.scene_backgrounds import backdrop, grain_tile
from yolo12edge.data.scene_drawing import rasterise
from yolo12edge.data.scene_objects import CLASS_PAINTERS
from yolo12edge.errors import InputError, Yolo12EdgeError
from yolo12edge.files import atomic_file

FPS = 10.0


@dataclass(frozen=True)
class Mover:
    """Something that moves along a line; lengths in sides of the picture.

    Attributes:
        name: Class of the demo detector.
        look: Which of the many things of this class, a seed.
        x: Where it is at the start, its middle.
        y: Where its feet or wheels are.
        height: How tall it is.
        speed: Sides a second, negative to the left.
        stop: Where it stops; None for never.
    """

    name: str
    look: int
    x: float
    y: float
    height: float
    speed: float = 0.0
    stop: float | None = None

    def at(self, seconds: float) -> float:
        """Return where it is."""
        x = self.x + self.speed * seconds
        if self.stop is None:
            return x
        return min(x, self.stop) if self.speed > 0 else max(x, self.stop)


STREET = (
    Mover("truck", 4, 1.15, 0.42, 0.13, -0.16),
    Mover("car", 10, 0.86, 0.60, 0.085),
    Mover("car", 8, 0.35, 0.60, 0.085, 0.12, 0.62),
    Mover("car", 4, 0.08, 0.60, 0.085, 0.12, 0.38),
    Mover("car", 6, -0.22, 0.60, 0.085, 0.12, 0.14),
    Mover("car", 2, 0.08, 0.82, 0.09, 0.14),
    Mover("truck", 5, -0.18, 0.82, 0.11, 0.14),
    Mover("car", 4, -0.42, 0.82, 0.09, 0.14),
    Mover("person", 6, 0.05, 0.97, 0.14, 0.10, 0.45),
)


def frames(
    movers: tuple[Mover, ...] = STREET, *, seconds: float = 8.0, size: int = 320
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the pictures, ``FPS`` a second: uint8, shape (size, size, 3), BGR."""
    ground = np.ascontiguousarray(backdrop(np.random.default_rng(10), size)[0])  # a lawn, and a street across it
    ground[round(0.31 * size) : round(0.88 * size)] = (92, 90, 90)
    for y in (0.46, 0.66):
        for x in np.arange(0.0, 1.0, 0.12):
            start = (round(x * size), round(y * size))
            cv2.line(ground, start, (start[0] + size // 20, start[1]), (225, 225, 225), max(1, size // 160))
    sprites = [
        rasterise(
            CLASS_PAINTERS[mover.name](np.random.default_rng(mover.look)),
            height=mover.height * size,
            angle=0.0,
            mirror=mover.speed < 0,
            light=(0.1, 0.1),
            grain=grain_tile(size),
        )
        for mover in movers
    ]
    noise = np.random.default_rng(0)
    for index in range(round(seconds * FPS)):
        image = ground.copy()
        for mover, sprite in sorted(zip(movers, sprites, strict=True), key=lambda pair: pair[0].y):
            left = round(mover.at(index / FPS) * size) - sprite.foot[0]
            paste(image, sprite.bgra, left, round(mover.y * size) - sprite.foot[1])
        grain = noise.normal(0, 2, image.shape).astype(np.float32)
        yield np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), np.uint8)


def paste(image: npt.NDArray[np.uint8], bgra: npt.NDArray[np.uint8], left: int, top: int) -> None:
    """Lay a sprite with premultiplied alpha on the picture, in place; what is outside is cut off."""
    rows, columns = bgra.shape[:2]
    inside = (slice(max(0, top), max(0, top + rows)), slice(max(0, left), max(0, left + columns)))
    height, width = image[inside].shape[:2]
    start = (max(0, -top), max(0, -left))
    own = bgra[start[0] : start[0] + height, start[1] : start[1] + width]
    if own.size:
        behind = image[inside] * (1 - own[..., 3:] / np.float32(255))
        image[inside] = np.minimum(behind + own[..., :3], 255).astype(np.uint8)


def write_video(path: Path, pictures: Iterable[npt.NDArray[np.uint8]], *, fps: float) -> int:
    """Write pictures as a video, and return how many they were; the file appears when it is complete."""
    count, writer = 0, cv2.VideoWriter()
    with atomic_file(path) as temporary:
        for picture in pictures:
            size = (picture.shape[1], picture.shape[0])
            if not count and not writer.open(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size):
                raise InputError(f"{path} cannot be written as a video", expected="a name that ends in .mp4")
            writer.write(picture)
            count += 1
        writer.release()
    return count


def main() -> None:
    """Write the video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="video to write, .mp4")
    parser.add_argument("--seconds", type=float, default=8.0, help="length (default: 8)")
    parser.add_argument("--size", type=int, default=320, help="side of the square picture in pixels (default: 320)")
    options = parser.parse_args()
    if not 1 / FPS <= options.seconds <= 3600 or not 32 <= options.size <= 4096:
        parser.error("--seconds must be from 0.1 to 3600, and --size from 32 to 4096")
    count = write_video(options.out, frames(seconds=options.seconds, size=options.size), fps=FPS)
    print(f"{options.out}: {count} frames, {FPS:g} a second")


if __name__ == "__main__":
    try:
        main()
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
