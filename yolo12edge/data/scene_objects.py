"""Vector drawings of the things in synthetic scenes: six classes and the clutter that is none of them.

A drawing is made in unit coordinates: x to the right, y **down**, feet on y = 0, top near y = -1. It
is rasterised at the size and angle at which it stands in the scene, so that its mask is exact there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["CLASS_NAMES", "CLASS_PAINTERS", "CLUTTER_PAINTERS", "RELATIVE_HEIGHT", "Drawing", "Sprite", "rasterise"]

Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]]

CLASS_NAMES = ("person", "car", "truck", "cone", "ball", "box")
RELATIVE_HEIGHT = {"person": 1.0, "car": 0.82, "truck": 1.4, "cone": 0.55, "ball": 0.45, "box": 0.6}

_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 33)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 33)[:-1])], 1)
_DARK = (30.0, 28.0, 28.0)
_GLASS = (92.0, 78.0, 62.0)
_WHITE = (238.0, 240.0, 240.0)


@dataclass(slots=True)
class Drawing:
    """A list of filled polygons and strokes in unit coordinates, painted in order.

    Attributes:
        parts: (points of shape (k, 2), BGR colour, stroke width or 0 for a filled polygon).
        max_angle: Largest rotation in degrees that the thing stands at.
        round: Whether it is lit as a sphere and not as a flat front.
        grain: Amplitude of its surface texture, as a fraction of its brightness.
    """

    parts: list[tuple[npt.NDArray[np.float64], Colour, float]] = field(default_factory=list)
    max_angle: float = 6.0
    round: bool = False
    grain: float = 0.1

    def polygon(self, points: Points | npt.NDArray[np.float64], colour: Colour) -> None:
        """Add a filled polygon."""
        self.parts.append((np.asarray(points, np.float64), colour, 0.0))

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Add an upright filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Add a filled ellipse around (x, y)."""
        self.polygon(_CIRCLE * (rx, ry) + (x, y), colour)

    def stroke(self, points: Points, width: float, colour: Colour) -> None:
        """Add an open line of a width in unit coordinates, with round ends."""
        self.parts.append((np.asarray(points, np.float64), colour, width))


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawing in pixels.

    Attributes:
        bgra: uint8 (h, w, 4), colour premultiplied by alpha.
        foot: Pixel (x, y) in the sprite of the point (0, 0) of the drawing.
    """

    bgra: npt.NDArray[Any]
    foot: tuple[int, int]


def rasterise(
    drawing: Drawing,
    *,
    height: float,
    angle: float,
    mirror: bool,
    light: tuple[float, float],
    grain: npt.NDArray[np.float32],
) -> Sprite:
    """Draw at a size.

    Args:
        drawing: What to draw.
        height: Pixels of one unit of the drawing.
        angle: Rotation in degrees around the foot.
        mirror: Whether left and right are exchanged.
        light: Brightness change from the centre to the right edge and to the top edge.
        grain: float32 (a, b) noise around 0, larger than the drawing, laid over its surface.
    """
    oversample = 2 if height < 72 else 1  # small things need it, large ones have enough pixels
    unit = height * oversample
    cos, sin = math.cos(math.radians(angle)) * unit, math.sin(math.radians(angle)) * unit
    matrix = np.array([[cos, sin], [-sin, cos]]).T
    if mirror:
        matrix[0] *= -1
    corners = np.concatenate([points for points, _, _ in drawing.parts]) @ matrix
    reach = max(stroke for _, _, stroke in drawing.parts) * unit / 2
    origin = np.floor((corners.min(0) - reach) / oversample - 1) * oversample
    width, tall = (int(v) * oversample for v in np.ceil((corners.max(0) + reach - origin) / oversample + 1))
    fixed = np.round((corners - origin) * 16).astype(np.int32)  # OpenCV's fixed point, 4 bits
    canvas: npt.NDArray[Any] = np.zeros((tall, width, 4), np.uint8)
    start = 0
    for points, colour, stroke in drawing.parts:
        part = fixed[start : start + len(points)]
        start += len(points)
        if stroke:
            thickness = max(1, round(stroke * unit))
            cv2.polylines(canvas, [part], False, (*colour, 255.0), thickness, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(canvas, [part], (*colour, 255.0), cv2.LINE_AA, 4)
    if oversample > 1:
        canvas = cv2.resize(canvas, (width // oversample, tall // oversample), interpolation=cv2.INTER_AREA)
    rows, columns = canvas.shape[:2]
    across = np.linspace(-1, 1, columns, dtype=np.float32)
    down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    if drawing.round:
        away = (across - light[0] * 1.6) ** 2 + (down + 0.45) ** 2
        shade = np.clip(1.3 - 0.36 * away, 0.3, 1.4)
    else:
        shade = 1 + light[0] * across - light[1] * down
    shade = shade * (1 + drawing.grain * grain[:rows, :columns])
    opaque = np.ones_like(shade)
    canvas = cv2.multiply(canvas, cv2.merge([shade, shade, shade, opaque]), dtype=cv2.CV_8U)
    foot = np.round(-origin / oversample).astype(int)
    return Sprite(canvas, (int(foot[0]), int(foot[1])))


def _shaded(colour: Colour, factor: float) -> Colour:
    b, g, r = (min(255.0, max(0.0, channel * factor)) for channel in colour)
    return b, g, r


def _any_colour(rng: np.random.Generator, *, low: float = 25, high: float = 245) -> Colour:
    """A random colour, saturated more often than not."""
    b, g, r = rng.uniform(low, high, 3)
    if rng.random() < 0.25:  # greys, white, black are common on the road
        return (b, b, b)
    return float(b), float(g), float(r)


def _near(rng: np.random.Generator, colour: Colour, spread: float = 22) -> Colour:
    b, g, r = (float(np.clip(channel + rng.uniform(-spread, spread), 0, 255)) for channel in colour)
    return b, g, r


def _pick(rng: np.random.Generator, colours: Sequence[Colour], spread: float = 18) -> Colour:
    return _near(rng, colours[int(rng.integers(len(colours)))], spread)


def _wheel(drawing: Drawing, x: float, radius: float) -> None:
    drawing.ellipse(x, -radius, radius, radius, _DARK)
    drawing.ellipse(x, -radius, radius * 0.58, radius * 0.58, (150, 150, 150))
    drawing.ellipse(x, -radius, radius * 0.2, radius * 0.2, (60, 60, 60))


def _car(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=7, grain=0.03)
    paint = _any_colour(rng)
    dark, bright = _shaded(paint, 0.65), _shaded(paint, 1.2)
    if rng.random() < 0.35:  # seen from the front or the back
        w, front = rng.uniform(0.58, 0.72), rng.random() < 0.5
        for side in (-1, 1):
            d.rectangle(side * w * 0.72 - 0.11, -0.3, side * w * 0.72 + 0.11, 0, _DARK)
        d.polygon([(-w * 0.7, -1), (w * 0.7, -1), (w * 0.88, -0.6), (-w * 0.88, -0.6)], bright)
        d.polygon([(-w * 0.6, -0.94), (w * 0.6, -0.94), (w * 0.74, -0.62), (-w * 0.74, -0.62)], _GLASS)
        d.polygon([(-w * 0.5, -0.94), (-w * 0.25, -0.94), (-w * 0.45, -0.62), (-w * 0.66, -0.62)], (150, 138, 120))
        d.polygon(
            [(-w * 0.88, -0.62), (w * 0.88, -0.62), (w, -0.5), (w, -0.14), (-w, -0.14), (-w, -0.5)],
            paint,
        )
        d.rectangle(-w, -0.24, w, -0.13, dark)
        lamp: Colour = (205, 245, 250) if front else (40, 35, 215)
        for side in (-1, 1):
            d.ellipse(side * w * 0.74, -0.42, 0.13, 0.075, lamp)
        d.rectangle(-w * 0.42, -0.47, w * 0.42, -0.35, _DARK if front else dark)
        d.rectangle(-0.16, -0.31, 0.16, -0.22, _WHITE)
        return d
    half = rng.uniform(1.05, 1.35)
    wheel = rng.uniform(0.19, 0.23)
    hood = rng.uniform(0.3, 0.62)  # where the cabin starts and ends tells a hatchback from a saloon
    boot = rng.choice([0.06, 0.12, 0.45]) * half
    roof_back, roof_front = -half + boot + 0.22, half * hood - 0.3
    belt = -rng.uniform(0.56, 0.62)
    d.polygon([(-half + boot, belt), (roof_back, -1), (roof_front, -1), (half * hood, belt)], bright)
    window = [
        (-half + boot + 0.1, belt),
        (roof_back + 0.06, -0.94),
        (roof_front - 0.03, -0.94),
        (half * hood - 0.1, belt),
    ]
    d.polygon(window, _GLASS)
    middle = (roof_back + roof_front) / 2
    d.polygon(
        [(middle + 0.1, -0.94), (middle + 0.28, -0.94), (middle + 0.14, belt), (middle - 0.06, belt)], (150, 138, 120)
    )
    d.stroke([(middle, -0.97), (middle, belt)], 0.06, bright)
    nose = rng.uniform(0.1, 0.18)
    d.polygon(
        [(-half, belt + 0.06), (-half + 0.08, belt), (half * hood, belt), (half - 0.08, belt + nose),
         (half, belt + nose + 0.1), (half, -0.16), (-half, -0.16)],
        paint,
    )  # fmt: skip
    d.rectangle(-half, -0.26, half, -0.15, dark)
    d.stroke([(middle, belt), (middle, -0.22)], 0.02, dark)
    d.stroke([(middle - 0.2, belt + 0.1), (middle - 0.08, belt + 0.1)], 0.035, dark)
    d.ellipse(half - 0.07, belt + nose + 0.08, 0.07, 0.055, (190, 240, 250))
    d.rectangle(-half, belt + 0.07, -half + 0.08, belt + 0.19, (40, 35, 205))
    for x in (-half * 0.6, half * 0.62):
        d.ellipse(x, -wheel - 0.02, wheel + 0.05, wheel + 0.05, _shaded(paint, 0.35))
        _wheel(d, x, wheel)
    return d


def _truck(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=5, grain=0.04)
    cab, load = _any_colour(rng), _pick(rng, [_WHITE, (200, 200, 205), _any_colour(rng), _any_colour(rng)])
    trim = _any_colour(rng)
    if rng.random() < 0.3:  # seen from the back
        w = rng.uniform(0.4, 0.48)
        for side in (-1, 1):
            d.rectangle(side * w * 0.7 - 0.1, -0.2, side * w * 0.7 + 0.1, 0, _DARK)
        d.rectangle(-w, -0.2, w, -0.1, (55, 55, 60))
        d.rectangle(-w, -1, w, -0.19, load)
        d.rectangle(-w, -1, w, -0.95, _shaded(load, 0.75))
        d.stroke([(0, -0.95), (0, -0.2)], 0.022, _shaded(load, 0.5))
        for side in (-1, 1):
            d.stroke([(side * 0.12, -0.9), (side * 0.12, -0.24)], 0.02, _shaded(load, 0.7))
            d.rectangle(side * w * 0.78 - 0.07, -0.18, side * w * 0.78 + 0.07, -0.12, (40, 35, 215))
        d.rectangle(-w * 0.7, -0.7, w * 0.7, -0.6, trim)
        return d
    half, wheel = rng.uniform(0.9, 1.2), rng.uniform(0.125, 0.15)
    split = half - rng.uniform(0.42, 0.52)
    d.rectangle(-half, -0.25, half - 0.05, -0.13, (55, 52, 50))
    if rng.random() < 0.3:  # a tipper with an open, lower load bed
        top = -rng.uniform(0.62, 0.75)
        d.polygon([(-half - 0.05, top), (split - 0.02, top), (split - 0.1, -0.22), (-half + 0.12, -0.22)], load)
        d.polygon(
            [(-half + 0.1, top), (-half * 0.5, top - 0.16), (0, top - 0.08), (split - 0.2, top)],
            _pick(rng, [(60, 90, 120), (90, 100, 105)]),
        )
        for x in np.linspace(-half + 0.15, split - 0.15, 5):
            d.stroke([(x, top + 0.04), (x, -0.26)], 0.03, _shaded(load, 0.7))
    else:
        d.rectangle(-half, -1, split - 0.04, -0.22, load)
        d.rectangle(-half, -1, split - 0.04, -0.95, _shaded(load, 0.8))
        d.rectangle(-half, -0.3, split - 0.04, -0.22, _shaded(load, 0.7))
        style = rng.integers(3)
        if style == 0:
            d.rectangle(-half, -0.62, split - 0.04, -0.5, trim)
        elif style == 1:
            d.ellipse((split - half) / 2, -0.6, 0.22, 0.18, trim)
        else:
            for x in np.linspace(-half + 0.08, split - 0.12, 7):
                d.stroke([(x, -0.92), (x, -0.32)], 0.015, _shaded(load, 0.8))
    height = -rng.uniform(0.74, 0.88)
    d.polygon([(split, height), (half - 0.12, height), (half, -0.5), (half, -0.16), (split, -0.16)], cab)
    d.polygon(
        [(split + 0.12, height + 0.07), (half - 0.14, height + 0.07), (half - 0.05, -0.5), (split + 0.12, -0.5)], _GLASS
    )
    d.stroke([(split + 0.08, height + 0.05), (split + 0.08, -0.18)], 0.015, _shaded(cab, 0.6))
    d.rectangle(split, -0.22, half, -0.15, _shaded(cab, 0.6))
    d.ellipse(half - 0.04, -0.3, 0.045, 0.04, (190, 240, 250))
    for x in (-half + 0.2, -half + 0.2 + 2.1 * wheel, half - 0.27):
        _wheel(d, x, wheel)
    return d


def _person(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=10, grain=0.05)
    skin = _pick(rng, [(165, 190, 232), (120, 155, 205), (70, 105, 155), (45, 65, 100)], 10)
    shirt, trousers = _any_colour(rng), _any_colour(rng, high=170)
    hair = _pick(rng, [(25, 25, 28), (35, 60, 95), (90, 150, 200), (150, 150, 155)], 12)
    gait, swing = rng.uniform(0.0, 0.17), rng.uniform(-0.16, 0.2)
    hip, shoulder, w = -0.48, -0.82, rng.uniform(0.1, 0.14)
    if rng.random() < 0.25:  # a rucksack
        d.ellipse(-w - 0.02, -0.7, 0.09, 0.13, _any_colour(rng))
    arm = _shaded(shirt, 0.75)
    d.stroke([(w * 0.7, shoulder + 0.03), (w + swing * 0.6, -0.62), (w + swing, -0.5)], 0.062, arm)
    d.ellipse(w + swing, -0.48, 0.03, 0.03, skin)
    for side, tone in ((-1, 0.75), (1, 1.0)):
        foot = side * gait + side * 0.045
        d.stroke([(side * 0.04, hip), (foot * 0.8, -0.25), (foot, -0.03)], 0.085, _shaded(trousers, tone))
        d.polygon([(foot - 0.05, 0), (foot - 0.045, -0.055), (foot + 0.04, -0.05), (foot + 0.1, 0)], _DARK)
    d.polygon(
        [(-w, shoulder + 0.03), (-w * 0.6, shoulder - 0.01), (w * 0.6, shoulder - 0.01), (w, shoulder + 0.03),
         (w * 0.85, hip + 0.03), (-w * 0.85, hip + 0.03)],
        shirt,
    )  # fmt: skip
    if rng.random() < 0.35:
        d.polygon([(-w * 0.93, -0.7), (w * 0.93, -0.7), (w * 0.9, -0.63), (-w * 0.9, -0.63)], _any_colour(rng))
    d.rectangle(-0.032, shoulder - 0.05, 0.032, shoulder + 0.02, _shaded(skin, 0.85))
    d.ellipse(0, -0.91, 0.068, 0.085, hair)
    d.ellipse(0.012, -0.895, 0.056, 0.068, skin)
    if rng.random() < 0.3:
        cap = _any_colour(rng)
        d.polygon([(-0.075, -0.93), (-0.05, -1.0), (0.04, -1.0), (0.07, -0.94), (0.13, -0.925)], cap)
    d.stroke(
        [(-w * 0.8, shoulder + 0.04), (-w - swing * 0.5, -0.63), (-w - swing * 0.7, -0.51)], 0.062, _shaded(shirt, 0.9)
    )
    d.ellipse(-w - swing * 0.7, -0.49, 0.03, 0.03, skin)
    return d


def _cone(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=92 if rng.random() < 0.15 else 12, grain=0.06)
    body = _pick(rng, [(20, 95, 240), (20, 95, 240), (35, 40, 215), (30, 200, 235), (60, 210, 130)], 15)
    w = rng.uniform(0.27, 0.34)

    def band(low: float, high: float, colour: Colour) -> None:
        at = [w * (1 - h) + 0.045 * h for h in (low, high)]  # half width of the cone at both heights
        y = [-0.08 - 0.92 * h for h in (low, high)]
        d.polygon([(-at[0], y[0]), (-at[1], y[1]), (at[1], y[1]), (at[0], y[0])], colour)
        d.polygon([(at[0] * 0.35, y[0]), (at[1] * 0.35, y[1]), (at[1], y[1]), (at[0], y[0])], _shaded(colour, 0.78))

    d.polygon([(-w - 0.13, 0), (-w - 0.08, -0.1), (w + 0.08, -0.1), (w + 0.13, 0)], _pick(rng, [body, _DARK], 5))
    band(0, 1, body)
    stripe = _pick(rng, [_WHITE, _WHITE, (60, 220, 245)], 10)
    for low, high in ((0.28, 0.5), (0.66, 0.8))[: int(rng.integers(1, 3))]:
        band(low, high, stripe)
    return d


def _ball(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=180, round=True, grain=0.04)
    base, other = _any_colour(rng, low=60), _any_colour(rng)
    centre, r = -0.5, 0.5
    style = rng.integers(4)
    if style == 0:  # football
        d.ellipse(0, centre, r, r, _WHITE)
        for k in range(5):
            a = 2 * math.pi * k / 5 + 0.3
            x, y = 0.38 * math.cos(a), centre + 0.38 * math.sin(a)
            d.ellipse(x, y, 0.1, 0.1, _DARK)
            d.stroke([(0, centre), (x, y)], 0.02, (110, 110, 110))
        d.polygon([(0.17 * math.cos(t), centre + 0.17 * math.sin(t)) for t in np.arange(5) * 1.2566 + 0.3], _DARK)
    elif style == 1:  # beach ball
        d.ellipse(0, centre, r, r, _WHITE)
        hub = (rng.uniform(-0.15, 0.15), centre + rng.uniform(-0.15, 0.15))
        for k in range(3):
            t = np.linspace(0, math.pi / 3, 9) + 2 * math.pi * k / 3
            rim = [(r * math.cos(a), centre + r * math.sin(a)) for a in t]
            d.polygon([hub, *rim], (base, other, _shaded(base, 0.5))[k])
        d.ellipse(*hub, 0.06, 0.06, _WHITE)
    elif style == 2:  # basketball
        d.ellipse(0, centre, r, r, _near(rng, (40, 105, 215)))
        d.stroke([(-0.49, centre), (0, centre + 0.05), (0.49, centre)], 0.03, _DARK)
        d.stroke([(0, centre - 0.49), (0.05, centre), (0, centre + 0.49)], 0.03, _DARK)
        for side in (-1, 1):
            curve = [
                (side * (0.4 - 0.22 * math.cos(t)), centre + 0.36 * math.sin(t)) for t in np.linspace(-1.4, 1.4, 7)
            ]
            d.stroke(curve, 0.03, _DARK)
    else:  # one colour and a band
        d.ellipse(0, centre, r, r, base)
        t = np.linspace(-0.35, 0.35, 7)
        right = [(r * math.cos(a), centre + r * math.sin(a)) for a in t]
        d.polygon([*right, *((-x, y) for x, y in reversed(right))], other)
    return d


def _box(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=14, grain=0.1)
    board = _pick(
        rng, [(105, 155, 195), (105, 155, 195), (80, 120, 160), (190, 140, 90), (120, 150, 110), (140, 140, 150)]
    )
    w, depth = rng.uniform(0.4, 0.75), rng.uniform(0.16, 0.36)
    rise = depth * rng.uniform(0.4, 0.9)
    top = -1 + rise
    side, lid = _shaded(board, 0.66), _shaded(board, 1.22)
    d.rectangle(-w, top, w, 0, board)
    d.polygon([(w, top), (w + depth, top - rise), (w + depth, -rise), (w, 0)], side)
    d.polygon([(-w, top), (w, top), (w + depth, top - rise), (-w + depth, top - rise)], lid)
    tape = _pick(rng, [(150, 190, 215), (60, 90, 120), _WHITE])
    if rng.random() < 0.75:
        d.polygon([(-0.06, top), (0.06, top), (0.06 + depth, top - rise), (-0.06 + depth, top - rise)], tape)
        d.rectangle(-0.06, top, 0.06, top * 0.72, tape)
    style = rng.integers(3)
    if style == 0:  # a label with lines of text
        d.rectangle(-w * 0.85, top * 0.55, -w * 0.2, top * 0.15, _WHITE)
        for k in range(3):
            y = top * (0.45 - 0.11 * k)
            d.stroke([(-w * 0.75, y), (-w * 0.3, y)], 0.025, (90, 90, 90))
    elif style == 1:  # this way up
        for x in (w * 0.35, w * 0.65):
            d.stroke([(x, top * 0.15), (x, top * 0.55)], 0.035, _DARK)
            d.polygon([(x - 0.08, top * 0.45), (x, top * 0.65), (x + 0.08, top * 0.45)], _DARK)
    d.stroke([(-w, top), (w, top), (w, 0)], 0.018, _shaded(board, 0.5))
    return d


def _tree(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=4, grain=0.18)
    leaf = _pick(rng, [(45, 110, 60), (40, 90, 40), (40, 120, 150), (60, 140, 110)])
    d.polygon([(-0.06, 0), (-0.035, -0.6), (0.035, -0.6), (0.06, 0)], _near(rng, (45, 65, 90)))
    if rng.random() < 0.5:  # a fir, whose outline is a cone's
        for low, high, w in ((-0.15, -0.55, 0.34), (-0.38, -0.8, 0.26), (-0.62, -1.0, 0.17)):
            d.polygon([(-w, low), (0, high), (w, low)], _shaded(leaf, rng.uniform(0.8, 1.1)))
        return d
    for _ in range(9):
        x, y = rng.uniform(-0.25, 0.25), rng.uniform(-0.82, -0.5)
        d.ellipse(x, y, rng.uniform(0.12, 0.2), rng.uniform(0.12, 0.18), _shaded(leaf, rng.uniform(0.7, 1.2)))
    return d


def _bush(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=0, grain=0.21)
    leaf = _pick(rng, [(45, 110, 60), (50, 130, 90), (40, 100, 130)])
    for _ in range(10):
        x, y = rng.uniform(-0.7, 0.7), rng.uniform(-0.7, -0.2)
        d.ellipse(x, y, rng.uniform(0.2, 0.35), rng.uniform(0.18, 0.3), _shaded(leaf, rng.uniform(0.65, 1.2)))
    return d


def _rock(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=20, grain=0.18)
    grey = _pick(rng, [(120, 125, 130), (95, 105, 120), (90, 90, 90)])
    angles = np.linspace(0, 2 * np.pi, 10)[:-1]
    radius = rng.uniform(0.7, 1.05, len(angles))
    outline = np.stack([0.7 * radius * np.cos(angles), -0.45 + 0.45 * radius * np.sin(angles)], 1)
    d.polygon(outline, grey)
    d.polygon(outline * (0.6, 0.55) + (-0.1, -0.3), _shaded(grey, 1.25))
    return d


def _post(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=4, grain=0.06)
    d.rectangle(-0.025, -1, 0.025, 0, _near(rng, (120, 120, 120)))
    kind = rng.integers(4)
    plate = _pick(rng, [(40, 40, 210), (190, 110, 40), (60, 200, 235), (80, 150, 60)])
    if kind == 0:
        d.ellipse(0, -0.84, 0.16, 0.16, plate)
        d.ellipse(0, -0.84, 0.11, 0.11, _WHITE)
    elif kind == 1:
        d.polygon([(-0.19, -0.68), (0, -1), (0.19, -0.68)], plate)
        d.polygon([(-0.11, -0.73), (0, -0.91), (0.11, -0.73)], _WHITE)
    elif kind == 2:
        d.rectangle(-0.2, -1, 0.2, -0.7, plate)
        d.rectangle(-0.15, -0.9, 0.15, -0.86, _WHITE)
    else:
        d.stroke([(0, -0.98), (0.25, -1), (0.3, -0.95)], 0.035, (110, 110, 110))
    return d


def _barrel(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=8, grain=0.07)
    paint = _any_colour(rng)
    d.rectangle(-0.33, -0.9, 0.33, -0.1, paint)
    d.ellipse(0, -0.1, 0.33, 0.09, paint)
    d.rectangle(0.12, -0.9, 0.33, -0.1, _shaded(paint, 0.75))
    for y in (-0.65, -0.35):
        d.rectangle(-0.34, y - 0.03, 0.34, y + 0.03, _shaded(paint, 0.6))
    d.ellipse(0, -0.9, 0.33, 0.1, _shaded(paint, 1.2))
    return d


def _shape(rng: np.random.Generator) -> Drawing:
    """A flat abstract shape: ring, star, triangle, disc, plate. Colour alone must not decide a class."""
    d = Drawing(max_angle=180, grain=0.07)
    colour = _any_colour(rng)
    kind = rng.integers(5)
    if kind == 0:
        d.stroke(_CIRCLE[[*range(32), 0]] * 0.4 + (0, -0.5), 0.13, colour)  # type: ignore[arg-type]
    elif kind == 1:
        t = np.arange(10) * math.pi / 5
        radius = np.where(np.arange(10) % 2, 0.22, 0.5)
        d.polygon(np.stack([radius * np.sin(t), -0.5 - radius * np.cos(t)], 1), colour)
    elif kind == 2:
        d.polygon([(-0.5, -0.05), (rng.uniform(-0.4, 0.4), -1), (0.5, -0.05)], colour)
    elif kind == 3:
        d.ellipse(0, -0.5, 0.5, rng.uniform(0.2, 0.35), colour)
    else:
        d.rectangle(-0.5, -0.5 - rng.uniform(0.1, 0.45), 0.5, -0.5 + rng.uniform(0.1, 0.45), colour)
    return d


def _bench(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=4, grain=0.12)
    wood = _pick(rng, [(60, 100, 140), (80, 120, 90), (100, 100, 110)])
    for side in (-0.75, 0.75):
        d.stroke([(side, 0), (side, -0.95)], 0.07, (60, 60, 60))
    for y in (-0.95, -0.75, -0.45):
        d.rectangle(-0.95, y - 0.06, 0.95, y + 0.06, _shaded(wood, rng.uniform(0.8, 1.1)))
    return d


CLASS_PAINTERS: dict[str, Callable[[np.random.Generator], Drawing]] = {
    "person": _person,
    "car": _car,
    "truck": _truck,
    "cone": _cone,
    "ball": _ball,
    "box": _box,
}
CLUTTER_PAINTERS: tuple[Callable[[np.random.Generator], Drawing], ...] = (
    _tree,
    _bush,
    _rock,
    _post,
    _barrel,
    _shape,
    _bench,
)
