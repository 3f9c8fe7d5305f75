"""Pictures for people: detections drawn into an image, images tiled into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..keypoints import KeypointSpec
from . import draw_detect, draw_obb, draw_pose, draw_segment
from .draw_classify import classes_shown
from .drawing import Color, Image, class_color, corners_in

__all__ = ["class_color", "draw_detections", "evenly", "label_grid"]

_FONT = cv2.FONT_HERSHEY_DUPLEX
# OpenCV 5 draws real letters, whose weight belongs to the font; before, strokes must grow with the text.
_STROKE_PER_SCALE = 0.0 if hasattr(cv2, "FontFace") else 1.6


class Paint(Protocol):
    """How an object of a task is drawn; what a label says of it comes later."""

    def __call__(
        self, canvas: Image, found: Detections, index: int, color: Color, line: int, spec: KeypointSpec | None
    ) -> None:
        """Draw one object into a picture, in place.

        Args:
            canvas: uint8, shape (height, width, 3), BGR.
            found: In pixels of the picture.
            index: Which of the objects.
            color: Of its class.
            line: Width of a line, pixels.
            spec: Which keypoints an object has, if it has any.
        """


# What detections hold says of which task they are; without any of these they are boxes.
_LABELLED = 0.25  # of the picture that labels may hide: without the objects, they say nothing
_PAINTERS: dict[str, Paint] = {"mask": draw_segment.paint, "keypoints": draw_pose.paint, "obb": draw_obb.paint}


def draw_detections(
    image: Image,
    detections: Detections,
    class_names: Sequence[str],
    *,
    keypoints: KeypointSpec | None = None,
    labels: bool = True,
    confidence: bool = True,
) -> Image:
    """Return a copy of an image with objects and labels, sized to be read at the size of the image.

    Masks are tinted, oriented boxes turned, keypoints joined; else it is boxes. The most confident objects and labels
    lie on top. A label sits above its box where there is room, else at another edge of it, and always inside the image;
    where there are very many, only the best are labelled, until a quarter of the picture is covered.
    Classes of the whole image are written into its corner.

    Args:
        image: uint8, shape (height, width, 3), BGR.
        detections: In pixels of the image.
        class_names: By class index; a class without a name shows its index.
        keypoints: The manifest's; which of the points are joined.
        labels: Whether to write class names.
        confidence: Whether to write the confidence behind the class name.

    Raises:
        InputError: If there are masks, and of another size than the image.
    """
    canvas = np.array(image, np.uint8, order="C")
    style = _Style.of(canvas)
    whole = detections.probs is not None
    # Best last, so that it is on top; stable, so that equal ones keep their order.
    order = np.argsort(detections.confidence, kind="stable")
    colors = [class_color(int(class_id)) for class_id in detections.class_id]
    if not whole:
        paint = next((way for name, way in _PAINTERS.items() if getattr(detections, name) is not None), None)
        for i in order.tolist():
            (paint or draw_detect.paint)(canvas, detections, i, colors[i], style.line, keypoints)
    if not labels:
        return canvas

    def text(class_id: int, value: float) -> str:
        name = class_names[class_id] if class_id < len(class_names) else str(class_id)
        return f"{name} {value:.2f}" if confidence else name

    if whole:
        _write_corner([(text(*one), class_color(one[0])) for one in classes_shown(detections)], canvas, style)
        return canvas
    tags: list[_Tag] = []
    corners = corners_in(detections.xyxy, canvas)
    busy = _Busy(corners, len(corners))
    room = _LABELLED * canvas.shape[0] * canvas.shape[1]
    for i in order[::-1].tolist():  # the best chooses its place first
        if tags:
            left, top, right, bottom = tags[-1].box
            room -= (right - left) * (bottom - top)
        if room <= 0:
            break
        label = text(int(detections.class_id[i]), float(detections.confidence[i]))
        tags.append(_place(label, corners[i], colors[i], (canvas.shape[0], canvas.shape[1]), style, busy))
    for tag in reversed(tags):
        tag.draw(canvas, style)
    return canvas


def _write_corner(lines: Sequence[tuple[str, Color]], canvas: Image, style: _Style) -> None:
    """Write texts below each other into the top left corner, as many as cover half of the picture, at least one."""
    image_hw = canvas.shape[0], canvas.shape[1]
    above = np.zeros(4, np.int64)
    busy = _Busy(above[None], len(lines))
    for number, (text, color) in enumerate(lines):
        tag = _place(text, above, color, image_hw, style, busy)
        if number and tag.box[3] > image_hw[0] / 2:
            return
        tag.draw(canvas, style)
        above = np.array(tag.box)


def label_grid(
    images: Sequence[Image], *, titles: Sequence[str] | None = None, columns: int | None = None, cell: int = 320
) -> Image:
    """Tile images into one picture, each scaled to fit a square cell.

    Args:
        images: At least one; uint8, shape (height, width, 3), BGR, of any sizes.
        titles: One for each image, written into its corner; None for none.
        columns: Images in a row; None makes the picture about square.
        cell: Side of a cell, pixels.

    Returns:
        uint8, shape (rows * (cell + gap) + gap, columns * (cell + gap) + gap, 3), BGR.

    Raises:
        InputError: If there is no image, or the number of titles is another.
    """
    if not len(images):
        raise InputError("there is no image to tile", expected="at least one")
    if titles is not None and len(titles) != len(images):
        raise InputError(f"there are {len(titles)} titles for {len(images)} images", expected="one each")
    columns = min(columns or int(np.ceil(np.sqrt(len(images)))), len(images))
    rows = -(-len(images) // columns)
    gap = max(2, cell // 64)
    step = cell + gap
    grid = np.full((rows * step + gap, columns * step + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * step, gap + i % columns * step
        scale = cell / max(image.shape[:2])
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        y, x = top + (cell - height) // 2, left + (cell - width) // 2
        grid[top : top + cell, left : left + cell] = 235
        grid[y : y + height, x : x + width] = small
        if titles is not None and titles[i]:
            tile = np.ascontiguousarray(grid[top : top + cell, left : left + cell])
            style = _Style.of(tile)
            nowhere = np.zeros(4, np.int64)
            _place(titles[i], nowhere, (40, 40, 40), (cell, cell), style, _Busy(nowhere[None], 1)).draw(tile, style)
            grid[top : top + cell, left : left + cell] = tile
    return grid


def evenly(total: int, count: int) -> list[int]:
    """Return the indices of up to ``count`` of ``total`` pictures, spread evenly over all: they may be in any order."""
    return [int(index) for index in np.linspace(0, total - 1, min(count, total)).round()]


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes that fit the image.

    Attributes:
        line: Width of a box line, pixels.
        font_scale: Scale for ``cv2.putText``.
        weight: Stroke width of the text, pixels.
        pad: Space around the text inside its label, pixels.
    """

    line: int
    font_scale: float
    weight: int
    pad: int

    @classmethod
    def of(cls, image: Image) -> _Style:
        # Text must not shrink below what can be read, but grows slower than the image.
        side = (image.shape[0] * image.shape[1]) ** 0.5
        font_scale = max(0.36, 0.36 * (side / 320) ** 0.75)
        return cls(
            line=max(1, round((side / 320) ** 0.85)),
            font_scale=font_scale,
            weight=max(1, round(font_scale * _STROKE_PER_SCALE)),
            pad=max(2, round(7 * font_scale)),
        )


@dataclass(frozen=True, slots=True)
class _Tag:
    """One label: text on a filled rectangle, (left, top, right, bottom) in pixels, right and bottom excluded."""

    text: str
    color: Color
    box: tuple[int, int, int, int]
    baseline: int

    def draw(self, canvas: Image, style: _Style) -> None:
        left, top, right, bottom = self.box
        canvas[max(top, 0) : bottom, max(left, 0) : right] = self.color
        origin = (left + style.pad, bottom - style.pad - self.baseline)
        cv2.putText(canvas, self.text, origin, _FONT, style.font_scale, _ink(self.color), style.weight, cv2.LINE_AA)


def _place(
    text: str, corner: npt.NDArray[np.int64], color: Color, image_hw: tuple[int, int], style: _Style, busy: _Busy
) -> _Tag:
    """Find the place for a label where it hides least, and mark it as taken.

    Args:
        text: What it says.
        corner: int64, shape (4,), the box it belongs to.
        color: Of the box.
        image_hw: Height and width of the image.
        style: Sizes.
        busy: What should not be hidden.
    """
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, style.font_scale, style.weight)
    baseline = round(baseline * 0.5)  # descenders reach into the padding
    size = np.array((text_width, text_height + baseline)) + 2 * style.pad
    (left, top, right, bottom), (width, height) = corner, size
    wanted = np.array(
        (
            (left, top - height),  # above, below, inside at the top, and the same at the right edge
            (left, bottom),
            (left, top),
            (right - width, top - height),
            (right - width, bottom - height),
        )
    )
    room = np.array(image_hw[::-1])
    inside = np.clip(wanted, 0, np.maximum(room - size, 0))
    places = np.concatenate((inside, np.minimum(inside + size, room)), axis=1)
    moved = np.abs(inside - wanted)[:, 1] / height  # pushed away from its edge, a label reads as another box's
    best = places[np.argmin(busy.hidden(places) + moved + 0.1 * np.arange(len(places)))]
    busy.take(best)
    return _Tag(text, color, (int(best[0]), int(best[1]), int(best[2]), int(best[3])), baseline)


class _Busy:
    """Boxes and labels that a new label should not hide; a hidden label is worse than a hidden box."""

    def __init__(self, boxes: npt.NDArray[np.int64], labels: int) -> None:
        self._areas = np.concatenate((boxes, np.zeros((labels, 4), np.int64)))
        self._weights = np.repeat((1.0, 5.0), (len(boxes), labels))
        self._used = len(boxes)

    def hidden(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return, for each place (k, 4), what it hides: a weighted sum of fractions of boxes and labels."""
        areas = self._areas[: self._used]
        corner = np.maximum(places[:, None, :2], areas[None, :, :2])
        overlap = np.maximum(np.minimum(places[:, None, 2:], areas[None, :, 2:]) - corner, 0).prod(axis=2)
        whole = np.maximum((areas[:, 2:] - areas[:, :2]).prod(axis=1), 1)
        return np.asarray((overlap / whole) @ self._weights[: self._used], np.float64)

    def take(self, place: npt.NDArray[np.int64]) -> None:
        self._areas[self._used] = place
        self._used += 1


def _ink(color: Color) -> Color:
    """Return black or white for text on a colour, by the colour's relative luminance (WCAG 2)."""
    blue, green, red = (((side / 255 + 0.055) / 1.055) ** 2.4 if side > 10 else side / 3295 for side in color)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    # At 0.25 both have contrast enough (white 3.5, black 6); above, only black has. White on red and blue looks better.
    return (0, 0, 0) if luminance > 0.25 else (255, 255, 255)
