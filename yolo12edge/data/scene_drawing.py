"""Vector drawings and how they become pixels.

A drawing is made in unit coordinates: x to the right, y **down**, feet on y = 0, top near y = -1. It
is rasterised at the size and angle at which it stands in the scene, so that its mask is exact there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "CIRCLE",
    "DARK",
    "WHITE",
    "Colour",
    "Drawing",
    "Sprite",
    "any_colour",
    "near",
    "pick",
    "rasterise",
    "shaded",
]

Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]]

CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 33)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 33)[:-1])], 1)
DARK = (30.0, 28.0, 28.0)
WHITE = (238.0, 240.0, 240.0)


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
        self.polygon(CIRCLE * (rx, ry) + (x, y), colour)

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


def shaded(colour: Colour, factor: float) -> Colour:
    """Return a colour made darker (factor below 1) or lighter."""
    b, g, r = (min(255.0, max(0.0, channel * factor)) for channel in colour)
    return b, g, r


def any_colour(rng: np.random.Generator, *, low: float = 25, high: float = 245) -> Colour:
    """Return a random colour, now and then a grey."""
    b, g, r = rng.uniform(low, high, 3)
    if rng.random() < 0.25:  # greys, white, black are common on the road
        return (b, b, b)
    return float(b), float(g), float(r)


def near(rng: np.random.Generator, colour: Colour, spread: float = 22) -> Colour:
    """Return a colour that differs by at most ``spread`` in each channel."""
    b, g, r = (float(np.clip(channel + rng.uniform(-spread, spread), 0, 255)) for channel in colour)
    return b, g, r


def pick(rng: np.random.Generator, colours: Sequence[Colour], spread: float = 18) -> Colour:
    """Return something near one of several colours."""
    return near(rng, colours[int(rng.integers(len(colours)))], spread)
