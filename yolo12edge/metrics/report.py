"""The pictures that belong to an evaluation, written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..imaging.draw import draw_detections, label_grid
from ..imaging.images import read_image, write_image
from .confusion import confusion_matrix
from .curves import DetectionCurves
from .plots import plot_confidence_curves, plot_confusion_matrix, plot_pr_curve
from .target import Target

__all__ = ["sample_grids", "write_plots"]

Image = npt.NDArray[np.uint8]


def write_plots(
    out: Path,
    *,
    curves: DetectionCurves,
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    images: Sequence[Path],
) -> list[Path]:
    """Write curves, confusion matrix and grids of labelled and predicted images.

    Args:
        out: Folder to write into; files of the same names are replaced.
        curves: Of the predictions, as ``DetectionMetrics.curves`` has them.
        predictions: Detections per image, in source pixels.
        targets: Labelled objects per image, in source pixels.
        images: The image files, in the same order.

    Returns:
        The files written.

    Raises:
        InputError: If an image cannot be read.
        MissingDependencyError: If matplotlib is not installed.
    """
    names = ("pr_curve.png", "confidence_curves.png", "confusion_matrix.png", "labelled.jpg", "predicted.jpg")
    files = [out / name for name in names]
    plot_pr_curve(curves, files[0])
    plot_confidence_curves(curves, files[1])
    plot_confusion_matrix(confusion_matrix(predictions, targets, curves.class_names), files[2])
    if not images:
        return files[:3]
    for file, grid in zip(
        files[3:], sample_grids(images, targets, predictions, class_names=curves.class_names), strict=True
    ):
        write_image(file, grid)
    return files


def sample_grids(
    images: Sequence[Path],
    targets: Sequence[Target],
    predictions: Sequence[Detections],
    *,
    class_names: Sequence[str],
    count: int = 16,
    confidence: float = 0.25,
) -> tuple[Image, Image]:
    """Tile the same images twice: with what is labelled, and with what was found.

    Args:
        images: The image files; at least one.
        targets: Labelled objects per image, in source pixels.
        predictions: Detections per image, in source pixels.
        class_names: Names by class index.
        count: How many images to show, spread evenly over all.
        confidence: Detections below it are not drawn.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    labelled, predicted = [], []
    for index in chosen:
        image, target, found = read_image(images[index]), targets[index], predictions[index]
        truth = Detections(target.boxes, np.ones(len(target), np.float32), target.class_id)
        labelled.append(draw_detections(image, truth, class_names, confidence=False))
        predicted.append(draw_detections(image, found[found.confidence >= confidence], class_names))
    return label_grid(labelled), label_grid(predicted)
