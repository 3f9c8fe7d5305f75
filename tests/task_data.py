"""A small generated dataset for each task: darts and discs on noise, labelled in that task's form.

The pictures of all tasks but classify are the same, so that what is compared between tasks is the labels alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

CLASS_NAMES = ("dart", "disc")
KEYPOINT_NAMES = ("nose", "left_wing", "tail", "right_wing")
FLIP = (0, 3, 2, 1)
SKELETON = ((0, 1), (1, 2), (2, 3), (3, 0))
_COLOURS = ((60, 200, 240), (220, 120, 60))  # BGR of each class
_DART = np.array([[1.0, 0.0], [-0.7, -0.6], [-0.35, 0.0], [-0.7, 0.6]])  # the keypoints of a dart, also its outline


class Shape(NamedTuple):
    """One object, in pixels.

    Attributes:
        class_id: 0 for a dart, 1 for a disc.
        outline: float64 (m, 2).
        keypoints: float64 (4, 2): nose, left wing, tail, right wing; those of a disc lie on its rim.
        corners: float64 (4, 2): an oriented box around it.
    """

    class_id: int
    outline: npt.NDArray[np.float64]
    keypoints: npt.NDArray[np.float64]
    corners: npt.NDArray[np.float64]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the outline."""
        left, top, right, bottom = (*self.outline.min(0), *self.outline.max(0))
        return float(left), float(top), float(right), float(bottom)


def make_picture(index: int, *, split: str, size: int = 96) -> tuple[npt.NDArray[np.uint8], list[Shape]]:
    """Draw a picture, uint8 BGR (size, size, 3), of one to four objects that do not touch each other."""
    rng = np.random.default_rng([{"train": 0, "val": 1, "test": 2}[split], index])
    image = rng.integers(20, 70, (size, size, 3), dtype=np.uint8)
    cells = rng.permutation(4)[: 1 + index % 4]
    shapes = []
    for number, cell in enumerate(cells.tolist()):
        radius = size * rng.uniform(0.13, 0.2)
        centre = size * (np.array([cell % 2, cell // 2]) * 0.5 + 0.25 + rng.uniform(-0.04, 0.04, 2))
        shapes.append(_shape((index + number) % 2, centre, radius, float(rng.uniform(-math.pi, math.pi))))
    for shape in shapes:
        points = np.round((shape.outline - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(image, [points], _COLOURS[shape.class_id], lineType=cv2.LINE_AA, shift=4)
    return image, shapes


def _shape(class_id: int, centre: npt.NDArray[np.float64], radius: float, angle: float) -> Shape:
    cos, sin = math.cos(angle), math.sin(angle)

    def place(points: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) * radius + centre, np.float64)

    if class_id == 0:
        box = np.array([[1.0, -0.6], [1.0, 0.6], [-0.7, 0.6], [-0.7, -0.6]])
        return Shape(0, place(_DART), place(_DART), place(box))
    turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    rim = np.stack([np.cos(turn), np.sin(turn)], axis=1) * 0.8
    box = np.array([[0.8, -0.8], [0.8, 0.8], [-0.8, 0.8], [-0.8, -0.8]])
    return Shape(1, place(rim), place(rim[[0, 18, 12, 6]]), place(box))


def label_line(task: str, shape: Shape, size: int) -> str:
    """Write the label of one object in the form of a task."""
    left, top, right, bottom = shape.box
    box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    if task == "segment":
        values = (shape.outline / size).ravel().tolist()
    elif task == "obb":
        values = (shape.corners / size).ravel().tolist()
    else:
        values = [value / size for value in box]
    text = [str(shape.class_id), *(f"{value:.6f}" for value in values)]
    if task == "pose":
        for x, y in (shape.keypoints / size).tolist():
            text += [f"{x:.6f}", f"{y:.6f}", "2"]
    return " ".join(text)


def make_dataset(task: str, folder: Path, images: int = 8, size: int = 96) -> Path:
    """Write a dataset of ``images`` training and half as many (at least two) validation pictures.

    Args:
        task: One of the five.
        folder: Where to; made if it is not there.
        images: Number of training pictures.
        size: Side of the pictures.

    Returns:
        What ``read_dataset`` takes: the ``data.yaml``, or the folder of class folders for classify.
    """
    for split, count in (("train", images), ("val", max(2, images // 2))):
        for index in range(count):
            if task == "classify":
                _write_classified(folder / split, split, index, size)
                continue
            image, shapes = make_picture(index, split=split, size=size)
            pictures, labels = folder / "images" / split, folder / "labels" / split
            pictures.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(pictures / f"{index:03d}.png"), image)
            lines = "".join(label_line(task, shape, size) + "\n" for shape in shapes)
            (labels / f"{index:03d}.txt").write_text(lines)
    if task == "classify":
        return folder
    path = folder / "data.yaml"
    path.write_text(_description(task))
    return path


def _write_classified(folder: Path, split: str, index: int, size: int) -> None:
    """Write a picture of one object, a little wider than high, into the folder of its class."""
    rng = np.random.default_rng([7, {"train": 0, "val": 1}[split], index])
    image = rng.integers(20, 70, (size, size + size // 4, 3), dtype=np.uint8)
    centre = np.array([image.shape[1] / 2, size / 2]) + rng.uniform(-0.08, 0.08, 2) * size
    shape = _shape(index % 2, centre, size * float(rng.uniform(0.2, 0.35)), float(rng.uniform(-math.pi, math.pi)))
    points = np.round((shape.outline - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(image, [points], _COLOURS[shape.class_id], lineType=cv2.LINE_AA, shift=4)
    place = folder / CLASS_NAMES[shape.class_id]
    place.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(place / f"{index:03d}.png"), image)


def _description(task: str) -> str:
    lines = [f"task: {task}", "path: .", "train: images/train", "val: images/val"]
    if task == "pose":
        pairs = ", ".join(f"[{a}, {b}]" for a, b in SKELETON)
        lines += ["kpt_shape: [4, 3]", f"kpt_names: [{', '.join(KEYPOINT_NAMES)}]"]
        lines += [f"flip_idx: [{', '.join(map(str, FLIP))}]", f"skeleton: [{pairs}]"]
    return "\n".join([*lines, f"names: [{', '.join(CLASS_NAMES)}]"]) + "\n"
