"""Where synthetic scenes take place, and the light and the camera that they are seen by."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["backdrop", "camera", "grain_tile", "relight", "window"]

# OpenCV's annotations do not tell element types; the names here do.
Image = npt.NDArray[Any]  # float32 (h, w)
Picture = npt.NDArray[Any]  # uint8 (h, w, 3) BGR
Colour = npt.NDArray[np.float64]
Rng = np.random.Generator


@lru_cache(maxsize=4)
def grain_tile(size: int) -> Image:
    """Return fixed noise of mean 0 and deviation 1, float32 (2·size, 2·size), of which windows are used."""
    rng = np.random.default_rng(20_240_229)
    fine = rng.standard_normal((2 * size, 2 * size), dtype=np.float32)
    return fine.clip(-2.5, 2.5)


def window(tile: Image, rng: Rng, size: int) -> Image:
    """Return a random (size, size) window of the tile."""
    y, x = rng.integers(0, tile.shape[0] - size, 2)
    return tile[y : y + size, x : x + size]


def clouds(rng: Rng, size: int, *, octaves: tuple[int, ...] = (3, 6, 13, 27)) -> Image:
    """Return smooth fractal noise, float32 (size, size), about -1 to 1."""
    half = (size // 2, size // 2)
    total = np.zeros(half, np.float32)
    for power, cells in enumerate(octaves):
        grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(grid * np.float32(0.6**power), half, interpolation=cv2.INTER_CUBIC)
    return cv2.resize(total, (size, size), interpolation=cv2.INTER_LINEAR)


def _colour(rng: Rng, low: float = 30, high: float = 225) -> Colour:
    """A random colour, nearer to grey than to the rainbow."""
    colour: Colour = rng.uniform(low, high, 3)
    colour += (colour.mean() - colour) * rng.uniform(0.2, 0.8)
    return colour


def _mix(first: Colour, second: Colour, weight: Image) -> Picture:
    """Blend two BGR colours by a float32 (h, w) weight of about 0 to 1; returns uint8 (h, w, 3)."""
    channels = zip(first.tolist(), second.tolist(), strict=True)
    return cv2.merge([cv2.convertScaleAbs(weight, alpha=end - start, beta=start) for start, end in channels])


def _surface(rng: Rng, size: int) -> Picture:
    """A ground or wall without perspective: stained, bricked, chequered, striped, tiled or grassy."""
    first = _colour(rng)
    second = np.clip(first + rng.uniform(-55, 55, 3), 10, 245)
    stains = clouds(rng, size)
    cell = max(4, int(rng.uniform(0.06, 0.2) * size))
    x = np.arange(size)
    kind = rng.integers(6)
    if kind == 0:  # stains
        weight = 0.5 + 0.5 * stains
    elif kind == 1:  # bricks
        course, mortar = max(3, cell // 2), max(1, cell // 16)
        row = x // course
        shifted = x + (row[:, None] % 2) * (cell // 2)
        weight = rng.random((64, 64), np.float32)[row[:, None] % 64, shifted // cell % 64] * np.float32(0.7)
        weight[(shifted % cell) < mortar] = 1.6
        weight[(x % course) < mortar] = 1.6
        weight += 0.15 * stains
    elif kind == 2:  # a chequered floor
        weight = ((x // cell + (x // cell)[:, None]) % 2).astype(np.float32) + 0.2 * stains
    elif kind == 3:  # stripes at an angle
        angle, pitch = rng.uniform(0, np.pi), np.float32(6.283 / cell)
        phase = (x * np.cos(angle)).astype(np.float32) + (x * np.sin(angle)).astype(np.float32)[:, None]
        weight = 0.5 + 0.5 * np.sin(phase * pitch) + 0.2 * stains
    elif kind == 4:  # planks
        streak = cv2.resize(rng.random((6, size), np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        tone = rng.random(64, np.float32)[x // cell % 64] * np.float32(0.6)
        tone[x % cell < 2] = 1.4
        weight = tone + 0.3 * streak + 0.15 * stains
    else:  # grass
        first, second = np.array([40.0, 95, 60]), np.array([60.0, 150, 120])
        weight = 0.5 + 0.4 * stains + 0.15 * window(grain_tile(size), rng, size)
    return _mix(first, second, weight)


def _sky(rng: Rng, size: int) -> Picture:
    day = rng.random()
    if day < 0.6:
        top, low = np.array([225.0, 160, 95]), np.array([240.0, 225, 205])
    elif day < 0.8:  # dusk
        top, low = np.array([130.0, 75, 70]), np.array([110.0, 165, 240])
    else:  # overcast
        top, low = np.array([170.0, 165, 160]), np.array([215.0, 212, 210])
    down = np.linspace(0, 1.6, size, dtype=np.float32)[:, None].clip(0, 1)
    sky = _mix(top, low, np.repeat(down, size, axis=1))
    cover = np.clip(clouds(rng, size) - np.float32(rng.uniform(-0.1, 0.7)), 0, 0.7)
    clear = cv2.merge([1 - cover] * 3)
    return cv2.add(cv2.multiply(sky, clear, dtype=cv2.CV_8U), cv2.merge([cv2.convertScaleAbs(cover, alpha=235)] * 3))


def _skyline(rng: Rng, image: Picture, horizon: int) -> None:
    """Hills or houses with lit windows on the horizon."""
    size = len(image)
    if rng.random() < 0.5:
        height = cv2.resize(rng.uniform(0.02, 0.2, (1, 7)).astype(np.float32), (size, 1), interpolation=cv2.INTER_CUBIC)
        line = horizon - height[0] * size
        outline = np.stack([np.arange(size), line], 1).round().astype(np.int32)
        ends = np.array([[size, horizon], [0, horizon]], np.int32)
        colour = rng.uniform(60, 150, 3) * (0.9, 1.0, 0.8)
        cv2.fillPoly(image, [np.concatenate([outline, ends])], colour.tolist())
        return
    x = -int(rng.integers(0, size // 8))
    while x < size:
        wide, tall = (int(v * size) for v in (rng.uniform(0.09, 0.22), rng.uniform(0.06, 0.34)))
        wall = rng.uniform(70, 200, 3)
        cv2.rectangle(image, (x, horizon - tall), (x + wide, horizon), wall.tolist(), -1)
        step = max(5, int(size * rng.uniform(0.025, 0.04)))
        glass = (wall * rng.uniform(0.4, 0.75)).tolist() if rng.random() < 0.8 else (120.0, 210.0, 235.0)
        for wx in range(x + step // 2, x + wide - step // 2, step):
            for wy in range(horizon - tall + step // 2, horizon - step // 2, step):
                cv2.rectangle(image, (wx, wy), (wx + step // 2, wy + step // 2), glass, -1)
        x += wide + int(rng.integers(0, size // 12))


def _street(rng: Rng, size: int) -> tuple[Picture, int]:
    horizon = int(size * rng.uniform(0.22, 0.48))
    image = _sky(rng, size)
    _skyline(rng, image, horizon)
    image[horizon:] = _mix(*_verge(rng), 0.5 + 0.5 * clouds(rng, size)[horizon:])
    vanish, left, right = size * rng.uniform(0.3, 0.7), size * rng.uniform(-0.7, 0.1), size * rng.uniform(0.9, 1.7)
    tar = rng.uniform(70, 130) + rng.uniform(-8, 8, 3)

    def strip(a: float, b: float, near: float, far: float, colour: list[float]) -> None:
        """Fill between two lanes (0 left kerb, 1 right kerb), from a near to a far share of the way down."""
        corners = []
        for lane, t in ((a, near), (b, near), (b, far), (a, far)):
            foot = left + (right - left) * lane
            corners.append((vanish + (foot - vanish) * t, horizon + (size - horizon) * t))
        cv2.fillPoly(image, [np.round(np.array(corners) * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)

    kerb, paint = (tar + 60).tolist(), [225.0, 228.0, 228.0] if rng.random() < 0.8 else [70.0, 200.0, 235.0]
    strip(-0.03, 1.03, 1.0, 0.0, kerb)
    strip(0, 1, 1.0, 0.0, tar.tolist())
    lanes = int(rng.integers(2, 4))
    near = 1.0
    while near > 0.05:
        for lane in range(1, lanes):
            strip(lane / lanes - 0.006, lane / lanes + 0.006, near, near * 0.86, paint)
        near *= 0.72
    if rng.random() < 0.25:  # a zebra crossing
        t = rng.uniform(0.35, 0.8)
        for bar in np.arange(0.03, 1, 0.12).tolist():
            strip(bar, bar + 0.06, t, t * 0.85, paint)
    return image, horizon


def _verge(rng: Rng) -> tuple[Colour, Colour]:
    pairs = (((45, 100, 65), (65, 150, 115)), ((110, 120, 125), (150, 155, 160)), ((95, 140, 170), (130, 170, 200)))
    first, second = pairs[int(rng.integers(len(pairs)))]
    return np.array(first, np.float64), np.array(second, np.float64)


def _room(rng: Rng, size: int) -> tuple[Picture, int]:
    """A wall above a floor whose tiles run to a vanishing point."""
    horizon = int(size * rng.uniform(0.2, 0.5))
    image = _surface(rng, size)
    first, second = _colour(rng, 60, 220), _colour(rng, 60, 220)
    below = np.arange(size - horizon, dtype=np.float32)[:, None]
    depth = size * 0.35 / (below + 4) * np.float32(rng.uniform(3, 8))
    across = (np.arange(size, dtype=np.float32) / size - np.float32(rng.uniform(0.3, 0.7))) * depth
    tiles = (np.floor(across) + np.floor(depth)) % 2
    sharp = np.clip(below / (size * 0.15), 0, 1)  # far tiles melt into their mean instead of flickering
    weight = 0.5 + (tiles - 0.5) * sharp * np.float32(rng.uniform(0.2, 0.7)) + 0.15 * clouds(rng, size)[horizon:]
    image[horizon:] = _mix(first, second, weight)
    cv2.rectangle(image, (0, horizon - 3), (size, horizon), (first * 0.6).tolist(), -1)
    return image, horizon


def backdrop(rng: Rng, size: int) -> tuple[Picture, int | None]:
    """Paint a place.

    Returns:
        uint8 (size, size, 3) BGR, and the row of the horizon; None where there is no ground plane and
        things may be anywhere.
    """
    horizon: int | None
    kind = rng.random()
    if kind < 0.45:
        image, horizon = _street(rng, size)
    elif kind < 0.65:
        image, horizon = _room(rng, size)
    else:
        image, horizon = _surface(rng, size), None
    rough = 1 + rng.uniform(0.01, 0.06) * window(grain_tile(size), rng, size)
    return cv2.multiply(image, cv2.merge([rough] * 3), dtype=cv2.CV_8U), horizon


def relight(rng: Rng, image: Picture) -> Picture:
    """Change the light of a finished scene: exposure, colour, uneven light, cast shadows, haze, night."""
    size = len(image)
    field = np.ones((size, size), np.float32)
    if rng.random() < 0.5:
        slope = np.linspace(-1, 1, size, dtype=np.float32)
        field += np.float32(rng.uniform(-0.3, 0.3)) * slope + np.float32(rng.uniform(-0.2, 0.2)) * slope[:, None]
    if rng.random() < 0.3:  # the shadow of something out of sight
        cast = clouds(rng, size, octaves=(3, 5))
        field *= 1 - np.float32(rng.uniform(0.2, 0.5)) * np.clip(cast * 6, 0, 1)
    gain = rng.uniform(0.9, 1.1, 3) * rng.uniform(0.75, 1.25)
    veil = 0.0
    weather = rng.random()
    if weather < 0.1:  # night
        gain *= rng.uniform(0.35, 0.55) * np.array((1.25, 0.95, 0.9))
    elif weather < 0.2:  # haze
        veil = rng.uniform(0.15, 0.45)
        gain *= 1 - veil
    channels = zip(cv2.split(image), gain.tolist(), strict=True)
    lit = cv2.merge([cv2.multiply(channel, field, scale=factor, dtype=cv2.CV_8U) for channel, factor in channels])
    return cv2.convertScaleAbs(lit, alpha=1, beta=205 * veil) if veil else lit


def camera(rng: Rng, image: Picture) -> Picture:
    """Take the picture: lens or motion blur, sensor noise, 8 bits."""
    size = len(image)
    kind = rng.random()
    if kind < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2) * size / 320)
    elif kind < 0.45:
        length = max(3, int(rng.integers(3, 7) * size / 320)) | 1
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (length // 2)
        a, b = np.round(length // 2 - reach).astype(int), np.round(length // 2 + reach).astype(int)
        cv2.line(kernel, tuple(a.tolist()), tuple(b.tolist()), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    level = float(rng.uniform(0, 8))
    noise = [window(grain_tile(size), rng, size)] * 3
    if level > 4:  # cheap sensors have coloured noise too
        noise[2] = window(grain_tile(size), rng, size)
    grain: Image = cv2.merge(noise)
    return cv2.add(image, grain * np.float32(level), dtype=cv2.CV_8U)
