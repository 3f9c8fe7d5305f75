"""Synthetic labelled scenes: an endless detection dataset for demos, tests and measurements.

Every scene is a function of (seed, split, index) alone, so a dataset can be made again bit for bit
(with the same numpy and OpenCV), in any order, and the splits never share a random stream.

What a label means here, so that it is the same everywhere:

- A box encloses the pixels of the object that can be seen: nothing of what is behind something
  else or outside the picture.
- An object of which less than 40 % would be seen, or whose visible box would be smaller than 2 % of
  the picture's side, is not put into the scene at all. So whatever of the six classes is in a
  picture is labelled, and the rest (trees, signs, barrels, plain shapes) is background.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import atomic_directory
from .dataset import Dataset, read_dataset
from .scene_backgrounds import backdrop, camera, grain_tile, relight, window
from .scene_clutter import CLUTTER_PAINTERS
from .scene_drawing import Drawing, Sprite, rasterise
from .scene_objects import CLASS_NAMES, CLASS_PAINTERS, RELATIVE_HEIGHT

__all__ = ["CLASS_NAMES", "MIN_VISIBLE", "Scene", "generate_scenes", "render_scene"]

MIN_VISIBLE = 0.4  # share of an object's own pixels
MIN_SIDE = 0.02  # of the picture's side
MAX_OBJECTS = 10


@dataclass(frozen=True, slots=True)
class Scene:
    """One rendered picture and what is in it.

    Attributes:
        image: uint8 (size, size, 3) BGR.
        class_id: int64 (n,), index into ``CLASS_NAMES``.
        boxes: int64 (n, 4), left, top, right, bottom in pixels; right and bottom are exclusive.
        instance: int16 (size, size): 1 + index of the object that a pixel shows, 0 for background.
        visible: float64 (n,), share of each object's pixels that can be seen.
    """

    image: npt.NDArray[np.uint8]
    class_id: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]
    instance: npt.NDArray[np.int16]
    visible: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Placed:
    sprite: Sprite
    left: int
    top: int
    class_id: int  # -1 for clutter
    distance: float  # 0 near, 1 at the horizon

    def overlap(self, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part that is inside the picture, as slices of the picture and of the sprite."""
        rows, columns = self.sprite.bgra.shape[:2]
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = max(top, min(size, self.top + rows)), max(left, min(size, self.left + columns))
        inside = (slice(top, bottom), slice(left, right))
        own = (slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left))
        return inside, own


def render_scene(*, seed: int, split: str, index: int, size: int = 320) -> Scene:
    """Render one scene.

    Args:
        seed: Seed of the dataset.
        split: Name of the split; another name is another random stream.
        index: Number of the picture in its split.
        size: Side of the square picture in pixels, at least 64.
    """
    stream = int.from_bytes(hashlib.sha256(split.encode()).digest()[:4], "little")
    rng = np.random.default_rng([seed, stream, index])
    image, horizon = backdrop(rng, size)
    placed = _arrange(rng, size, horizon)
    placed.sort(key=lambda item: -item.distance)  # far to near

    # Near to far: what is in front is settled first, and what it hides too much of is left out.
    taken = np.zeros((size, size), bool)
    instance = np.zeros((size, size), np.int16)
    kept: list[_Placed] = []
    boxes: list[list[int]] = []
    visible: list[float] = []
    for item in reversed(placed):
        inside, own = item.overlap(size)
        mask = item.sprite.bgra[..., 3] >= 128
        seen = mask[own] & ~taken[inside]
        if item.class_id >= 0:
            share = int(np.count_nonzero(seen)) / max(1, int(np.count_nonzero(mask)))
            if share < MIN_VISIBLE:
                continue
            rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            top, left = inside[0].start, inside[1].start
            edges = (columns[0] + left, rows[0] + top, columns[-1] + left + 1, rows[-1] + top + 1)
            box = [int(edge) for edge in edges]
            if min(box[2] - box[0], box[3] - box[1]) < MIN_SIDE * size:
                continue
            boxes.append(box)
            visible.append(share)
            instance[inside][seen] = len(boxes)
        taken[inside] |= mask[own]
        kept.append(item)

    air = rng.uniform(0, 0.45)  # how much the distance fades into the colour of the horizon
    fade_to = image[horizon or 0].mean(0)
    for item in reversed(kept):
        _paint(image, item, fade=air * item.distance if horizon is not None else 0.0, fade_to=fade_to)
    picture = np.asarray(camera(rng, relight(rng, image)), np.uint8)
    class_id = np.array([item.class_id for item in kept if item.class_id >= 0], np.int64)
    box_array = np.array(boxes, np.int64).reshape(-1, 4)
    return Scene(picture, class_id, box_array, instance, np.array(visible, np.float64))


def _arrange(rng: np.random.Generator, size: int, horizon: int | None) -> list[_Placed]:
    """Choose what stands where; some of it may later turn out to be hidden."""
    objects = 0 if rng.random() < 0.05 else int(rng.integers(1, MAX_OBJECTS + 1))
    clutter = int(rng.integers(0, 6))
    tile = grain_tile(size)
    light = (float(rng.uniform(-0.22, 0.22)), float(rng.uniform(0.05, 0.25)))
    items: list[_Placed] = []
    near_x, near_y = 0.5, 0.5
    for number in range(objects + clutter):
        if number < objects:
            class_id = int(rng.integers(len(CLASS_NAMES)))
            name = CLASS_NAMES[class_id]
            drawing, relative = CLASS_PAINTERS[name](rng), RELATIVE_HEIGHT[name]
        else:
            class_id = -1
            drawing = CLUTTER_PAINTERS[int(rng.integers(len(CLUTTER_PAINTERS)))](rng)
            relative = float(rng.uniform(0.4, 1.5))
        if items and rng.random() < 0.3:  # things gather, and hide each other
            x, y = near_x + rng.normal(0, 0.1), near_y + rng.normal(0, 0.05)
        else:
            x, y = rng.uniform(0.02, 0.98), rng.uniform(0.0, 1.0)
        near_x, near_y = x, y
        extent = _extent(drawing)
        if horizon is None:
            foot = (0.08 + 1.0 * y) * size
            height = float(np.exp(rng.uniform(np.log(20), np.log(150)))) * size / 320 / extent
        else:
            foot = horizon + (size - horizon) * float(np.clip(0.05 + 1.05 * y, 0.05, 1.12))
            height = 0.72 * relative * (foot - horizon) * rng.uniform(0.8, 1.25)
        low, high = 18 * size / 320, 175 * size / 320
        height = float(np.clip(height, low / min(1.0, extent), high / extent))
        angle = float(rng.uniform(-drawing.max_angle, drawing.max_angle))
        sprite = rasterise(
            drawing,
            height=height,
            angle=angle,
            mirror=rng.random() < 0.5,
            light=light,
            grain=window(tile, rng, size),
        )
        span = max(1.0, size - (horizon or 0))
        distance = float(np.clip((size - foot) / span, -0.2, 1)) if horizon is not None else float(1 - y)
        left, top = round(x * size) - sprite.foot[0], round(foot) - sprite.foot[1]
        items.append(_Placed(sprite, left, top, class_id, distance))
    return items


def _extent(drawing: Drawing) -> float:
    """Longest side of a drawing, in units."""
    points = np.concatenate([part[0] for part in drawing.parts])
    return float(np.ptp(points, axis=0).max())


def _paint(image: npt.NDArray[Any], item: _Placed, *, fade: float, fade_to: npt.NDArray[np.float64]) -> None:
    """Lay one sprite and its shadow on the picture, in place."""
    size = len(image)
    rows, columns = item.sprite.bgra.shape[:2]
    wide, flat = max(3, int(columns * 1.15)), max(3, int(columns * 0.22))
    shadow = _Placed(
        Sprite(cv2.resize(_shadow(), (wide, flat), interpolation=cv2.INTER_AREA), (0, 0)),
        item.left + (columns - wide) // 2,
        item.top + rows - int(flat * 0.62),
        -1,
        0,
    )
    inside, own = shadow.overlap(size)
    if image[inside].size:
        image[inside] = cv2.multiply(image[inside], shadow.sprite.bgra[own], scale=1 / 255)
    inside, own = item.overlap(size)
    piece: npt.NDArray[Any] = item.sprite.bgra[own]
    if not piece.size:
        return
    if fade:  # towards the colour of the horizon, as much as alpha allows
        matrix = np.diag((1 - fade, 1 - fade, 1 - fade, 1))
        matrix[:3, 3] = fade * fade_to / 255
        piece = cv2.transform(piece, matrix)
    through = cv2.cvtColor(255 - piece[..., 3], cv2.COLOR_GRAY2BGR)
    behind = cv2.multiply(image[inside], through, scale=1 / 255)
    image[inside] = cv2.add(behind, np.ascontiguousarray(piece[..., :3]))


@lru_cache(maxsize=1)
def _shadow() -> npt.NDArray[np.uint8]:
    """A soft dark ellipse, uint8 (32, 64, 3): how much light it lets through."""
    y, x = np.mgrid[-1:1:32j, -1:1:64j]
    dark = np.clip(1.15 - np.sqrt(x * x + y * y), 0, 0.6) * 200
    return np.repeat((255 - dark)[..., None], 3, axis=2).astype(np.uint8)


def generate_scenes(
    out: Path,
    *,
    train: int,
    val: int,
    test: int = 0,
    size: int = 320,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Write a labelled dataset of synthetic scenes in the YOLO layout.

    Args:
        out: Folder to make; it appears only when it is complete and must not hold files yet.
        train: Number of training pictures.
        val: Number of validation pictures.
        test: Number of test pictures.
        size: Side of the square pictures in pixels.
        seed: Other seeds give other scenes.
        progress: Called with (pictures done, pictures in all) after each picture.

    Raises:
        InputError: If a count or the size makes no sense, or the folder is in use.
    """
    counts = {"train": train, "val": val, "test": test}
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise InputError(f"asked for {counts} scenes", expected="counts of at least 0, and one scene in all")
    if not 64 <= size <= 4096 or seed < 0:
        raise InputError(
            f"size {size} with seed {seed}", expected="a size of 64 to 4096 pixels and a seed of at least 0"
        )
    done, total = 0, sum(counts.values())
    with atomic_directory(Path(out), overwrite=False) as folder:
        for split, count in counts.items():
            if not count:
                continue
            images, labels = folder / "images" / split, folder / "labels" / split
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for index in range(count):
                scene = render_scene(seed=seed, split=split, index=index, size=size)
                _, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, 90])
                (images / f"{index:06d}.jpg").write_bytes(data.tobytes())
                (labels / f"{index:06d}.txt").write_text(_label_text(scene), encoding="utf-8")
                done += 1
                if progress is not None:
                    progress(done, total)
        (folder / "data.yaml").write_text(_description(counts, size=size, seed=seed), encoding="utf-8")
    return read_dataset(Path(out) / "data.yaml")


def _label_text(scene: Scene) -> str:
    size = len(scene.image)
    lines = []
    for class_id, (left, top, right, bottom) in zip(scene.class_id.tolist(), scene.boxes.tolist(), strict=True):
        centre = ((left + right) / 2 / size, (top + bottom) / 2 / size)
        extent = ((right - left) / size, (bottom - top) / size)
        lines.append(f"{class_id} {centre[0]:.6f} {centre[1]:.6f} {extent[0]:.6f} {extent[1]:.6f}\n")
    return "".join(lines)


def _description(counts: dict[str, int], *, size: int, seed: int) -> str:
    lines = [f"# Synthetic scenes by yolo12edge: seed {seed}, {size} x {size} pixels.", "path: ."]
    lines += [f"{split}: images/{split}" for split, count in counts.items() if count]
    lines.append("names:")
    lines += [f"  {number}: {name}" for number, name in enumerate(CLASS_NAMES)]
    return "\n".join(lines) + "\n"
