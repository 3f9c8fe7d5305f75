"""Label files, a line an object: the class and what the task's ``LabelForm`` reads, made into arrays and problems."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..keypoints import KeypointSpec
from ..manifest import Task
from .form_detect import FORM as BOXES
from .form_segment import Rings
from .label_form import OVERSHOOT, LabelForm, NoAreaError, OtherTaskError, Shape

__all__ = ["OVERSHOOT", "Labels", "Problem", "decode_text", "lines_of", "parse_labels", "read_labels"]

_ROUNDING = 1e-5  # what writing five decimals can do to an edge; clipped without a word
_MAX_BYTES = 32 << 20
_SHOWN = 40
_DOTA = (
    "this is a line of DOTA's format, corners in pixels and the name of a category; expected numbers: the class, then "
    "x and y of 4 corners as shares of the image's sides"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a dataset.

    Attributes:
        severity: An "error" must be repaired before training; a "warning" says what is ignored or clipped.
        path: The file that is wrong.
        line: Line in a text file, from 1; None for other files.
        message: What is wrong with it.
        tasks: The other tasks whose labels it looks like, if it does.
    """

    severity: Literal["error", "warning"]
    path: Path
    line: int | None
    message: str
    tasks: tuple[Task, ...] = ()

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line is not None else f"{self.path}"
        return f"{place}: {self.severity}: {self.message}"


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The objects of one image; everything is in shares of the image's sides.

    Attributes:
        class_id: int64 (n,).
        boxes: float32 (n, 4), left, top, right, bottom, in [0, 1]: around polygons and oriented boxes; all of the image
            for a class of the image.
        problems: What was wrong; lines with an error have no object here.
        polygons: Of each object its rings, float32 (m, 2), in [0, 1]; None unless the task is segment.
        keypoints: float32 (n, K, 3), x, y, visibility 0, 1 or 2; None unless the task is pose.
        corners: float32 (n, 4, 2) of oriented boxes, which may lie out of the image; None unless the task is obb.
    """

    class_id: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    problems: tuple[Problem, ...] = ()
    polygons: tuple[Rings, ...] | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    corners: npt.NDArray[np.float32] | None = None

    @classmethod
    def build(
        cls,
        objects: Iterable[tuple[int, Shape]],
        problems: Iterable[Problem] = (),
        *,
        form: LabelForm = BOXES,
        keypoints: KeypointSpec | None = None,
    ) -> Labels:
        """Make labels of (class, shape) pairs in a task's form."""
        pairs = list(objects)
        shapes = [shape for _, shape in pairs]
        class_id = np.array([class_id for class_id, _ in pairs], np.int64)
        boxes = np.array([shape.box for shape in shapes], np.float32).reshape(-1, 4)
        more: dict[str, Any] = {} if form.field is None else {form.field: form.gather(shapes, keypoints)}
        return cls(class_id, boxes, tuple(problems), **more)


def decode_text(data: bytes) -> str:
    """Decode text of unknown origin: UTF-8 or UTF-16 with or without a mark; bytes that are neither become U+FFFD."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def lines_of(text: str) -> list[str]:
    """Split into lines as editors number them (``str.splitlines`` also splits at form feeds and the like)."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_labels(
    path: Path, *, num_classes: int, form: LabelForm = BOXES, keypoints: KeypointSpec | None = None
) -> Labels:
    """Read a label file; a missing one means an image without objects.

    Args:
        path: The ``.txt`` file.
        num_classes: Class indices run from 0 to this, exclusive.
        form: What a line holds.
        keypoints: Which keypoints it holds, if any.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise OSError(f"more than {_MAX_BYTES >> 20} MiB, which no label file needs")
        data = path.read_bytes()
    except FileNotFoundError:
        return Labels.build((), form=form, keypoints=keypoints)
    except OSError as error:
        problem = Problem("error", path, None, f"cannot be read: {error.strerror or error}")
        return Labels.build((), [problem], form=form, keypoints=keypoints)
    return parse_labels(decode_text(data), path, num_classes=num_classes, form=form, keypoints=keypoints)


def parse_labels(
    text: str, path: Path, *, num_classes: int, form: LabelForm = BOXES, keypoints: KeypointSpec | None = None
) -> Labels:
    """Read label lines. Never raises: whatever is wrong becomes a problem with its line.

    Args:
        text: The lines.
        path: Where they are from, for the problems.
        num_classes: Class indices run from 0 to this, exclusive.
        form: What a line holds.
        keypoints: Which keypoints it holds, if any.
    """
    objects: list[tuple[int, Shape]] = []
    lines: dict[tuple[Any, ...], int] = {}  # object → its line
    problems: list[Problem] = []
    for number, line in enumerate(lines_of(text), start=1):
        tokens = line.split()
        if not tokens:
            continue
        if _of_dota(tokens):
            problems.append(Problem("error", path, number, _DOTA))
            break  # and so is the rest of the file
        try:
            class_id, shape = _parse_line(tokens, num_classes, form, keypoints)
        except NoAreaError as error:  # outlines of masks hold a few of these
            problems.append(Problem("warning", path, number, f"{error}; it is left out"))
            continue
        except ValueError as error:
            tasks = error.tasks if isinstance(error, OtherTaskError) else ()
            problems.append(Problem("error", path, number, str(error), tasks))
            continue
        if shape.overshoot > _ROUNDING:
            message = f"{form.noun} reaches {shape.overshoot:.5f} out of the image; it is clipped"
            problems.append(Problem("warning", path, number, message))
        first = lines.setdefault((class_id, shape.key), number)
        if first == number:
            objects.append((class_id, shape))
        else:
            problems.append(Problem("warning", path, number, f"the same object as line {first}; it is counted once"))
    return Labels.build(objects, problems, form=form, keypoints=keypoints)


def _parse_line(
    tokens: list[str], num_classes: int, form: LabelForm, keypoints: KeypointSpec | None
) -> tuple[int, Shape]:
    """Return class and shape; ValueError says what is wrong."""
    values = [_number(token) for token in tokens]
    if not values[0].is_integer():
        raise ValueError(f"class {_shown(tokens[0])} is not a whole number")
    if not 0 <= values[0] < num_classes:
        raise ValueError(f"class {values[0]:.0f} is out of range; the dataset names classes 0 to {num_classes - 1}")
    return int(values[0]), form.parse(values[1:], keypoints)


def _of_dota(tokens: list[str]) -> bool:
    """Tell whether this is ``x1 y1 x2 y2 x3 y3 x4 y4 category difficult`` or the head of a file of such lines."""
    if tokens[0].startswith(("imagesource:", "gsd:")):
        return True
    return len(tokens) in (9, 10) and all(map(_is_number, tokens[:8])) and not _is_number(tokens[8])


def _is_number(token: str) -> bool:
    try:
        _number(token)
    except ValueError:
        return False
    return True


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
