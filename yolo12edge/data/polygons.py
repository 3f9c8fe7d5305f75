"""Polygons: their area, and clipping them to a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["clip_ring", "ring_area"]

Ring = npt.NDArray[Any]


def ring_area(ring: Ring) -> float:
    """Return the area that a ring, (m, 2), encloses; parts that run the other way round count against it."""
    x, y = (ring - ring[:1]).astype(np.float64).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def clip_ring(ring: Ring, size: float) -> Ring:
    """Cut a ring, (m, 2), to the square from 0 to ``size`` (Sutherland and Hodgman, 1974); (0, 2) if nothing is left.

    Of a ring that the border cuts into several pieces, the pieces stay joined by edges that run along the border.
    """
    for axis in (0, 1):
        for bound, sign in ((0.0, 1.0), (size, -1.0)):
            depth = sign * (ring[:, axis] - bound)
            inside = depth >= 0
            if inside.all():
                continue
            if not inside.any():
                return ring[:0]
            following, next_depth = np.roll(ring, -1, axis=0), np.roll(depth, -1)
            crosses = inside != np.roll(inside, -1)
            share = np.divide(depth, depth - next_depth, out=np.zeros_like(depth), where=crosses)
            cut = ring + share[:, None] * (following - ring)
            cut[:, axis] = bound
            ring = np.stack([ring, cut], axis=1)[np.stack([inside, crosses], axis=1)]
    return ring
