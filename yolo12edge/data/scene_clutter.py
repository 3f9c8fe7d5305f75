"""Drawings of what is in the synthetic scenes and none of the classes: some of it looks like one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .scene_drawing import CIRCLE, WHITE, Drawing, any_colour, near, pick, shaded

__all__ = ["CLUTTER_PAINTERS"]


def _tree(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=4, grain=0.18)
    leaf = pick(rng, [(45, 110, 60), (40, 90, 40), (40, 120, 150), (60, 140, 110)])
    d.polygon([(-0.06, 0), (-0.035, -0.6), (0.035, -0.6), (0.06, 0)], near(rng, (45, 65, 90)))
    if rng.random() < 0.5:  # a fir, whose outline is a cone's
        for low, high, w in ((-0.15, -0.55, 0.34), (-0.38, -0.8, 0.26), (-0.62, -1.0, 0.17)):
            d.polygon([(-w, low), (0, high), (w, low)], shaded(leaf, rng.uniform(0.8, 1.1)))
        return d
    for _ in range(9):
        x, y = rng.uniform(-0.25, 0.25), rng.uniform(-0.82, -0.5)
        d.ellipse(x, y, rng.uniform(0.12, 0.2), rng.uniform(0.12, 0.18), shaded(leaf, rng.uniform(0.7, 1.2)))
    return d


def _bush(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=0, grain=0.21)
    leaf = pick(rng, [(45, 110, 60), (50, 130, 90), (40, 100, 130)])
    for _ in range(10):
        x, y = rng.uniform(-0.7, 0.7), rng.uniform(-0.7, -0.2)
        d.ellipse(x, y, rng.uniform(0.2, 0.35), rng.uniform(0.18, 0.3), shaded(leaf, rng.uniform(0.65, 1.2)))
    return d


def _rock(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=20, grain=0.18)
    grey = pick(rng, [(120, 125, 130), (95, 105, 120), (90, 90, 90)])
    angles = np.linspace(0, 2 * np.pi, 10)[:-1]
    radius = rng.uniform(0.7, 1.05, len(angles))
    outline = np.stack([0.7 * radius * np.cos(angles), -0.45 + 0.45 * radius * np.sin(angles)], 1)
    d.polygon(outline, grey)
    d.polygon(outline * (0.6, 0.55) + (-0.1, -0.3), shaded(grey, 1.25))
    return d


def _post(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=4, grain=0.06)
    d.rectangle(-0.025, -1, 0.025, 0, near(rng, (120, 120, 120)))
    kind = rng.integers(4)
    plate = pick(rng, [(40, 40, 210), (190, 110, 40), (60, 200, 235), (80, 150, 60)])
    if kind == 0:
        d.ellipse(0, -0.84, 0.16, 0.16, plate)
        d.ellipse(0, -0.84, 0.11, 0.11, WHITE)
    elif kind == 1:
        d.polygon([(-0.19, -0.68), (0, -1), (0.19, -0.68)], plate)
        d.polygon([(-0.11, -0.73), (0, -0.91), (0.11, -0.73)], WHITE)
    elif kind == 2:
        d.rectangle(-0.2, -1, 0.2, -0.7, plate)
        d.rectangle(-0.15, -0.9, 0.15, -0.86, WHITE)
    else:
        d.stroke([(0, -0.98), (0.25, -1), (0.3, -0.95)], 0.035, (110, 110, 110))
    return d


def _barrel(rng: np.random.Generator) -> Drawing:
    d = Drawing(max_angle=8, grain=0.07)
    paint = any_colour(rng)
    d.rectangle(-0.33, -0.9, 0.33, -0.1, paint)
    d.ellipse(0, -0.1, 0.33, 0.09, paint)
    d.rectangle(0.12, -0.9, 0.33, -0.1, shaded(paint, 0.75))
    for y in (-0.65, -0.35):
        d.rectangle(-0.34, y - 0.03, 0.34, y + 0.03, shaded(paint, 0.6))
    d.ellipse(0, -0.9, 0.33, 0.1, shaded(paint, 1.2))
    return d


def _shape(rng: np.random.Generator) -> Drawing:
    """A flat abstract shape: ring, star, triangle, disc, plate. Colour alone must not decide a class."""
    d = Drawing(max_angle=180, grain=0.07)
    colour = any_colour(rng)
    kind = rng.integers(5)
    if kind == 0:
        d.stroke(CIRCLE[[*range(32), 0]] * 0.4 + (0, -0.5), 0.13, colour)  # type: ignore[arg-type]
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
    wood = pick(rng, [(60, 100, 140), (80, 120, 90), (100, 100, 110)])
    for side in (-0.75, 0.75):
        d.stroke([(side, 0), (side, -0.95)], 0.07, (60, 60, 60))
    for y in (-0.95, -0.75, -0.45):
        d.rectangle(-0.95, y - 0.06, 0.95, y + 0.06, shaded(wood, rng.uniform(0.8, 1.1)))
    return d


CLUTTER_PAINTERS: tuple[Callable[[np.random.Generator], Drawing], ...] = (
    _tree,
    _bush,
    _rock,
    _post,
    _barrel,
    _shape,
    _bench,
)
