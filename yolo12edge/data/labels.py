"""Label lines in YOLO's form, ``class centre-x centre-y width height``, read into arrays and problems."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "OVERSHOOT",
    "Labels",
    "Problem",
    "decode_text",
    "fit_box",
    "lines_of",
    "parse_labels",
    "read_labels",
]

OVERSHOOT = 1e-3
"""How far a box may reach out of its image, as a share of the side, and still be clipped and used."""

_ROUNDING = 5e-6  # what writing six decimals can do to an edge; clipped without a word
_MAX_BYTES = 32 << 20
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a dataset.

    Attributes:
        severity: An "error" must be repaired before training; a "warning" says what is ignored or clipped.
        path: The file that is wrong.
        line: Line in a text file, from 1; None for other files.
        message: What is wrong with it.
    """

    severity: Literal["error", "warning"]
    path: Path
    line: int | None
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line is not None else f"{self.path}"
        return f"{place}: {self.severity}: {self.message}"


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The objects of one image.

    Attributes:
        class_id: int64 (n,).
        boxes: float32 (n, 4), left, top, right, bottom as shares of the image's sides, in [0, 1].
        problems: What was wrong; lines with an error have no object here.
    """

    class_id: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    problems: tuple[Problem, ...] = ()

    @classmethod
    def build(cls, objects: Iterable[tuple[int, tuple[float, ...]]], problems: Iterable[Problem] = ()) -> Labels:
        """Make labels from (class, box) pairs."""
        pairs = list(objects)
        class_id = np.array([class_id for class_id, _ in pairs], np.int64)
        boxes = np.array([box for _, box in pairs], np.float32).reshape(-1, 4)
        return cls(class_id, boxes, tuple(problems))


def decode_text(data: bytes) -> str:
    """Decode text of unknown origin: UTF-8 or UTF-16 with or without a mark; bytes that are neither become U+FFFD."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def lines_of(text: str) -> list[str]:
    """Split into lines as editors number them (``str.splitlines`` also splits at form feeds and the like)."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_labels(path: Path, *, num_classes: int) -> Labels:
    """Read a label file; a missing one means an image without objects.

    Args:
        path: The ``.txt`` file.
        num_classes: Class indices run from 0 to this, exclusive.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise OSError(f"more than {_MAX_BYTES >> 20} MiB, which no label file needs")
        data = path.read_bytes()
    except FileNotFoundError:
        return Labels.build(())
    except OSError as error:
        return Labels.build((), [Problem("error", path, None, f"cannot be read: {error.strerror or error}")])
    return parse_labels(decode_text(data), path, num_classes=num_classes)


def parse_labels(text: str, path: Path, *, num_classes: int) -> Labels:
    """Read label lines. Never raises: whatever is wrong becomes a problem with its line.

    Args:
        text: The lines.
        path: Where they are from, for the problems.
        num_classes: Class indices run from 0 to this, exclusive.
    """
    objects: dict[tuple[int, tuple[float, ...]], int] = {}  # object → its line; the order is the file's
    problems: list[Problem] = []
    for number, line in enumerate(lines_of(text), start=1):
        tokens = line.split()
        if not tokens:
            continue
        try:
            class_id, box, overshoot = _parse_line(tokens, num_classes)
        except ValueError as error:
            problems.append(Problem("error", path, number, str(error)))
            continue
        if overshoot > _ROUNDING:
            problems.append(
                Problem("warning", path, number, f"the box reaches {overshoot:.5f} out of the image; it is clipped")
            )
        first = objects.setdefault((class_id, box), number)
        if first != number:
            problems.append(Problem("warning", path, number, f"the same object as line {first}; it is counted once"))
    return Labels.build(objects, problems)


def _parse_line(tokens: list[str], num_classes: int) -> tuple[int, tuple[float, ...], float]:
    """Return class, box and how far the box reached out of the image; ValueError says what is wrong."""
    if len(tokens) != 5:
        raise ValueError(_count_message(tokens))
    values = [_number(token) for token in tokens]
    if not values[0].is_integer():
        raise ValueError(f"class {_shown(tokens[0])} is not a whole number")
    if not 0 <= values[0] < num_classes:
        raise ValueError(f"class {values[0]:.0f} is out of range; the dataset names classes 0 to {num_classes - 1}")
    return (int(values[0]), *fit_box(*values[1:]))


def fit_box(
    x: float, y: float, width: float, height: float, *, tolerance: float = OVERSHOOT
) -> tuple[tuple[float, ...], float]:
    """Turn a normalised centre box into clipped corners.

    Args:
        x: Centre, as a share of the image's width.
        y: Centre, as a share of the image's height.
        width: Width, as a share of the image's width.
        height: Height, as a share of the image's height.
        tolerance: How far it may reach out of the image.

    Returns:
        (left, top, right, bottom) in [0, 1], and how far the box reached out of the image.

    Raises:
        ValueError: If it has no area or reaches out of the image by more than the tolerance.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f"the box has no area: width {width:g}, height {height:g}")
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    overshoot = max(0.0, -corners[0], -corners[1], corners[2] - 1, corners[3] - 1)
    if overshoot > tolerance:
        edges = ", ".join(f"{value:g}" for value in corners)
        hint = "; these look like pixels, labels are shares of the image's sides" if max(corners) > 2 else ""
        raise ValueError(f"the box reaches out of the image: left, top, right, bottom = {edges}{hint}")
    left, top, right, bottom = (min(1.0, max(0.0, value)) for value in corners)
    # Widths below float32's resolution near 1 collapse to no area when stored.
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):
        raise ValueError(f"the box has no area inside the image: width {width:g}, height {height:g}")
    return (left, top, right, bottom), overshoot


def _count_message(tokens: list[str]) -> str:
    expected = "expected 5: class, centre x, centre y, width, height"
    if len(tokens) >= 7 and len(tokens) % 2 == 1:
        corners = (len(tokens) - 1) // 2
        what = "a polygon or an oriented box" if corners == 4 else "a polygon"
        return f"{len(tokens)} values, {what} of {corners} points; detection takes boxes, {expected}"
    if len(tokens) > 7:
        return f"{len(tokens)} values, as keypoint labels have; detection takes boxes, {expected}"
    return f"{len(tokens)} values, {expected}"


def _number(token: str) -> float:
    try:
        value = float(token)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in token:  # float() takes 1_0 for 10
        raise ValueError(f"{_shown(token)} is not a finite number")
    return value


def _shown(token: str) -> str:
    return repr(token if len(token) <= _SHOWN else token[:_SHOWN] + "…")
