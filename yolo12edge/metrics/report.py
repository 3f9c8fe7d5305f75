"""The pictures that belong to an evaluation, written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..imaging.draw import draw_detections, evenly, label_grid
from ..imaging.images import read_image, write_image
from .evaluate import Evaluation
from .plots import plot_confidence_curves, plot_confusion_matrix, plot_pr_curve
from .target import Target
from .tasks import Measure

__all__ = ["sample_grids", "write_plots"]

Image = npt.NDArray[np.uint8]


def write_plots(out: Path, evaluation: Evaluation, *, images: Sequence[Path]) -> list[Path]:
    """Write curves, confusion matrix and grids of labelled and predicted images.

    Args:
        out: Folder to write into; files of the same names are replaced.
        evaluation: What was found, labelled and measured.
        images: The image files, in the same order.

    Returns:
        The files written.

    Raises:
        InputError: If an image cannot be read.
        MissingDependencyError: If matplotlib is not installed.
    """
    names = ("pr_curve.png", "confidence_curves.png", "confusion_matrix.png", "labelled.jpg", "predicted.jpg")
    files = [out / name for name in names]
    measure, curves = evaluation.measure, evaluation.metrics.curves
    plot_pr_curve(curves, files[0])
    plot_confidence_curves(curves, files[1])
    plot_confusion_matrix(measure.confusion(evaluation.predictions, evaluation.targets), files[2])
    if not images:
        return files[:3]
    grids = sample_grids(images, evaluation.targets, evaluation.predictions, measure)
    for file, grid in zip(files[3:], grids, strict=True):
        write_image(file, grid)
    return files


def sample_grids(
    images: Sequence[Path],
    targets: Sequence[Target],
    predictions: Sequence[Detections],
    measure: Measure,
    *,
    count: int = 16,
) -> tuple[Image, Image]:
    """Tile the same images twice: with what is labelled, and with what was found.

    Args:
        images: The image files; at least one.
        targets: Labelled objects per image, in source pixels.
        predictions: Detections per image, in source pixels.
        measure: What is drawn: which classes and keypoints there are, and what counts as found.
        count: How many images to show, spread evenly over all.
    """
    labelled, predicted = [], []
    for index in evenly(len(images), count):
        image, target, found = read_image(images[index]), targets[index], predictions[index]
        draw = partial(draw_detections, image, class_names=measure.class_names, keypoints=measure.keypoints)
        labelled.append(draw(measure.labelled(target), confidence=False))
        predicted.append(draw(measure.found(found)))
    return label_grid(labelled), label_grid(predicted)
