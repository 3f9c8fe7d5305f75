"""Drawings of the six classes of the synthetic scenes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .scene_drawing import DARK, WHITE, Colour, Drawing, any_colour, near, pick, shaded

__all__ = ["CLASS_NAMES", "CLASS_PAINTERS", "RELATIVE_HEIGHT"]

CLASS_NAMES = ("person", "car", "truck", "cone", "ball", "box")
RELATIVE_HEIGHT = {"person": 1.0, "car": 0.82, "truck": 1.4, "cone": 0.55, "ball": 0.45, "box": 0.6}

_GLASS = (92.0, 78.0, 62.0)


def _wheel(drawing: Drawing, x: float, radius: float) -> None:
    drawing.ellipse(x, -radius, radius, radius, DARK)
    drawing.ellipse(x, -radius, radius * 0.58, radius * 0.58, (150, 150, 150))
    drawing.ellipse(x, -radius, radius * 0.2, radius * 0.2, (60, 60, 60))


def _car(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=7, grain=0.03)
    paint = any_colour(rng)
    dark, bright = shaded(paint, 0.65), shaded(paint, 1.2)
    if rng.random() < 0.35:  # seen from the front or the back
        w, front = rng.uniform(0.58, 0.72), rng.random() < 0.5
        for side in (-1, 1):
            d.rectangle(side * w * 0.72 - 0.11, -0.3, side * w * 0.72 + 0.11, 0, DARK)
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
        d.rectangle(-w * 0.42, -0.47, w * 0.42, -0.35, DARK if front else dark)
        d.rectangle(-0.16, -0.31, 0.16, -0.22, WHITE)
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
        d.ellipse(x, -wheel - 0.02, wheel + 0.05, wheel + 0.05, shaded(paint, 0.35))
        _wheel(d, x, wheel)
    return d


def _truck(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=5, grain=0.04)
    cab, load = any_colour(rng), pick(rng, [WHITE, (200, 200, 205), any_colour(rng), any_colour(rng)])
    trim = any_colour(rng)
    if rng.random() < 0.3:  # seen from the back
        w = rng.uniform(0.4, 0.48)
        for side in (-1, 1):
            d.rectangle(side * w * 0.7 - 0.1, -0.2, side * w * 0.7 + 0.1, 0, DARK)
        d.rectangle(-w, -0.2, w, -0.1, (55, 55, 60))
        d.rectangle(-w, -1, w, -0.19, load)
        d.rectangle(-w, -1, w, -0.95, shaded(load, 0.75))
        d.stroke([(0, -0.95), (0, -0.2)], 0.022, shaded(load, 0.5))
        for side in (-1, 1):
            d.stroke([(side * 0.12, -0.9), (side * 0.12, -0.24)], 0.02, shaded(load, 0.7))
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
            pick(rng, [(60, 90, 120), (90, 100, 105)]),
        )
        for x in np.linspace(-half + 0.15, split - 0.15, 5):
            d.stroke([(x, top + 0.04), (x, -0.26)], 0.03, shaded(load, 0.7))
    else:
        d.rectangle(-half, -1, split - 0.04, -0.22, load)
        d.rectangle(-half, -1, split - 0.04, -0.95, shaded(load, 0.8))
        d.rectangle(-half, -0.3, split - 0.04, -0.22, shaded(load, 0.7))
        style = rng.integers(3)
        if style == 0:
            d.rectangle(-half, -0.62, split - 0.04, -0.5, trim)
        elif style == 1:
            d.ellipse((split - half) / 2, -0.6, 0.22, 0.18, trim)
        else:
            for x in np.linspace(-half + 0.08, split - 0.12, 7):
                d.stroke([(x, -0.92), (x, -0.32)], 0.015, shaded(load, 0.8))
    height = -rng.uniform(0.74, 0.88)
    d.polygon([(split, height), (half - 0.12, height), (half, -0.5), (half, -0.16), (split, -0.16)], cab)
    d.polygon(
        [(split + 0.12, height + 0.07), (half - 0.14, height + 0.07), (half - 0.05, -0.5), (split + 0.12, -0.5)], _GLASS
    )
    d.stroke([(split + 0.08, height + 0.05), (split + 0.08, -0.18)], 0.015, shaded(cab, 0.6))
    d.rectangle(split, -0.22, half, -0.15, shaded(cab, 0.6))
    d.ellipse(half - 0.04, -0.3, 0.045, 0.04, (190, 240, 250))
    for x in (-half + 0.2, -half + 0.2 + 2.1 * wheel, half - 0.27):
        _wheel(d, x, wheel)
    return d


def _person(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=10, grain=0.05)
    skin = pick(rng, [(165, 190, 232), (120, 155, 205), (70, 105, 155), (45, 65, 100)], 10)
    shirt, trousers = any_colour(rng), any_colour(rng, high=170)
    hair = pick(rng, [(25, 25, 28), (35, 60, 95), (90, 150, 200), (150, 150, 155)], 12)
    gait, swing = rng.uniform(0.0, 0.17), rng.uniform(-0.16, 0.2)
    hip, shoulder, w = -0.48, -0.82, rng.uniform(0.1, 0.14)
    if rng.random() < 0.25:  # a rucksack
        d.ellipse(-w - 0.02, -0.7, 0.09, 0.13, any_colour(rng))
    arm = shaded(shirt, 0.75)
    d.stroke([(w * 0.7, shoulder + 0.03), (w + swing * 0.6, -0.62), (w + swing, -0.5)], 0.062, arm)
    d.ellipse(w + swing, -0.48, 0.03, 0.03, skin)
    for side, tone in ((-1, 0.75), (1, 1.0)):
        foot = side * gait + side * 0.045
        d.stroke([(side * 0.04, hip), (foot * 0.8, -0.25), (foot, -0.03)], 0.085, shaded(trousers, tone))
        d.polygon([(foot - 0.05, 0), (foot - 0.045, -0.055), (foot + 0.04, -0.05), (foot + 0.1, 0)], DARK)
    d.polygon(
        [(-w, shoulder + 0.03), (-w * 0.6, shoulder - 0.01), (w * 0.6, shoulder - 0.01), (w, shoulder + 0.03),
         (w * 0.85, hip + 0.03), (-w * 0.85, hip + 0.03)],
        shirt,
    )  # fmt: skip
    if rng.random() < 0.35:
        d.polygon([(-w * 0.93, -0.7), (w * 0.93, -0.7), (w * 0.9, -0.63), (-w * 0.9, -0.63)], any_colour(rng))
    d.rectangle(-0.032, shoulder - 0.05, 0.032, shoulder + 0.02, shaded(skin, 0.85))
    d.ellipse(0, -0.91, 0.068, 0.085, hair)
    d.ellipse(0.012, -0.895, 0.056, 0.068, skin)
    if rng.random() < 0.3:
        cap = any_colour(rng)
        d.polygon([(-0.075, -0.93), (-0.05, -1.0), (0.04, -1.0), (0.07, -0.94), (0.13, -0.925)], cap)
    d.stroke(
        [(-w * 0.8, shoulder + 0.04), (-w - swing * 0.5, -0.63), (-w - swing * 0.7, -0.51)], 0.062, shaded(shirt, 0.9)
    )
    d.ellipse(-w - swing * 0.7, -0.49, 0.03, 0.03, skin)
    return d


def _cone(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=92 if rng.random() < 0.15 else 12, grain=0.06)
    body = pick(rng, [(20, 95, 240), (20, 95, 240), (35, 40, 215), (30, 200, 235), (60, 210, 130)], 15)
    w = rng.uniform(0.27, 0.34)

    def band(low: float, high: float, colour: Colour) -> None:
        at = [w * (1 - h) + 0.045 * h for h in (low, high)]  # half width of the cone at both heights
        y = [-0.08 - 0.92 * h for h in (low, high)]
        d.polygon([(-at[0], y[0]), (-at[1], y[1]), (at[1], y[1]), (at[0], y[0])], colour)
        d.polygon([(at[0] * 0.35, y[0]), (at[1] * 0.35, y[1]), (at[1], y[1]), (at[0], y[0])], shaded(colour, 0.78))

    d.polygon([(-w - 0.13, 0), (-w - 0.08, -0.1), (w + 0.08, -0.1), (w + 0.13, 0)], pick(rng, [body, DARK], 5))
    band(0, 1, body)
    stripe = pick(rng, [WHITE, WHITE, (60, 220, 245)], 10)
    for low, high in ((0.28, 0.5), (0.66, 0.8))[: int(rng.integers(1, 3))]:
        band(low, high, stripe)
    return d


def _ball(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=180, round=True, grain=0.04)
    base, other = any_colour(rng, low=60), any_colour(rng)
    centre, r = -0.5, 0.5
    style = rng.integers(4)
    if style == 0:  # football
        d.ellipse(0, centre, r, r, WHITE)
        for k in range(5):
            a = 2 * math.pi * k / 5 + 0.3
            x, y = 0.38 * math.cos(a), centre + 0.38 * math.sin(a)
            d.ellipse(x, y, 0.1, 0.1, DARK)
            d.stroke([(0, centre), (x, y)], 0.02, (110, 110, 110))
        d.polygon([(0.17 * math.cos(t), centre + 0.17 * math.sin(t)) for t in np.arange(5) * 1.2566 + 0.3], DARK)
    elif style == 1:  # beach ball
        d.ellipse(0, centre, r, r, WHITE)
        hub = (rng.uniform(-0.15, 0.15), centre + rng.uniform(-0.15, 0.15))
        for k in range(3):
            t = np.linspace(0, math.pi / 3, 9) + 2 * math.pi * k / 3
            rim = [(r * math.cos(a), centre + r * math.sin(a)) for a in t]
            d.polygon([hub, *rim], (base, other, shaded(base, 0.5))[k])
        d.ellipse(*hub, 0.06, 0.06, WHITE)
    elif style == 2:  # basketball
        d.ellipse(0, centre, r, r, near(rng, (40, 105, 215)))
        d.stroke([(-0.49, centre), (0, centre + 0.05), (0.49, centre)], 0.03, DARK)
        d.stroke([(0, centre - 0.49), (0.05, centre), (0, centre + 0.49)], 0.03, DARK)
        for side in (-1, 1):
            curve = [
                (side * (0.4 - 0.22 * math.cos(t)), centre + 0.36 * math.sin(t)) for t in np.linspace(-1.4, 1.4, 7)
            ]
            d.stroke(curve, 0.03, DARK)
    else:  # one colour and a band
        d.ellipse(0, centre, r, r, base)
        t = np.linspace(-0.35, 0.35, 7)
        right = [(r * math.cos(a), centre + r * math.sin(a)) for a in t]
        d.polygon([*right, *((-x, y) for x, y in reversed(right))], other)
    return d


def _box(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=14, grain=0.1)
    board = pick(
        rng, [(105, 155, 195), (105, 155, 195), (80, 120, 160), (190, 140, 90), (120, 150, 110), (140, 140, 150)]
    )
    w, depth = rng.uniform(0.4, 0.75), rng.uniform(0.16, 0.36)
    rise = depth * rng.uniform(0.4, 0.9)
    top = -1 + rise
    side, lid = shaded(board, 0.66), shaded(board, 1.22)
    d.rectangle(-w, top, w, 0, board)
    d.polygon([(w, top), (w + depth, top - rise), (w + depth, -rise), (w, 0)], side)
    d.polygon([(-w, top), (w, top), (w + depth, top - rise), (-w + depth, top - rise)], lid)
    tape = pick(rng, [(150, 190, 215), (60, 90, 120), WHITE])
    if rng.random() < 0.75:
        d.polygon([(-0.06, top), (0.06, top), (0.06 + depth, top - rise), (-0.06 + depth, top - rise)], tape)
        d.rectangle(-0.06, top, 0.06, top * 0.72, tape)
    style = rng.integers(3)
    if style == 0:  # a label with lines of text
        d.rectangle(-w * 0.85, top * 0.55, -w * 0.2, top * 0.15, WHITE)
        for k in range(3):
            y = top * (0.45 - 0.11 * k)
            d.stroke([(-w * 0.75, y), (-w * 0.3, y)], 0.025, (90, 90, 90))
    elif style == 1:  # this way up
        for x in (w * 0.35, w * 0.65):
            d.stroke([(x, top * 0.15), (x, top * 0.55)], 0.035, DARK)
            d.polygon([(x - 0.08, top * 0.45), (x, top * 0.65), (x + 0.08, top * 0.45)], DARK)
    d.stroke([(-w, top), (w, top), (w, 0)], 0.018, shaded(board, 0.5))
    return d


CLASS_PAINTERS: dict[str, Callable[[np.random.Generator], Drawing]] = {
    "person": _person,
    "car": _car,
    "truck": _truck,
    "cone": _cone,
    "ball": _ball,
    "box": _box,
}
