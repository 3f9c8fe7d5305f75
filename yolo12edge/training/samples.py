"""A picture of what the network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data.loader import DetectionDataset
from ..detections import Detections
from ..imaging.draw import draw_detections, label_grid
from ..imaging.images import write_image

__all__ = ["draw_training_samples"]

_SHOWN = 16


def draw_training_samples(dataset: DetectionDataset, class_names: Sequence[str], out: Path) -> None:
    """Draw the first augmented images of epoch 0 with their labels.

    Args:
        dataset: The training set.
        class_names: Names by class index.
        out: The image file.
    """
    cells = []
    for index in range(min(_SHOWN, len(dataset))):
        item = dataset[0, index]
        image = cv2.cvtColor(np.ascontiguousarray(item.image.numpy().transpose(1, 2, 0)), cv2.COLOR_RGB2BGR)
        certain = np.ones(len(item.class_id), np.float32)
        found = Detections(item.boxes.numpy(), certain, item.class_id.numpy())
        cells.append(draw_detections(np.asarray(image, np.uint8), found, class_names, confidence=False))
    write_image(out, label_grid(cells))
