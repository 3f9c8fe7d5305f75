"""What a run learns by: the loss of its task, with the weights of its classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.dataset import Dataset, Sample
from .config import TrainConfig
from .losses import LossSettings, TaskLoss, class_weights, make_loss

__all__ = ["make_objective"]


def make_objective(config: TrainConfig, dataset: Dataset, samples: Sequence[Sample]) -> TaskLoss:
    """Return the loss of a run.

    Args:
        config: The run.
        dataset: What it is labelled for.
        samples: Its training split.

    Raises:
        InputError: If a setting does not fit the task or the classes.
    """
    classes = np.concatenate([sample.class_id for sample in samples])
    counts = np.bincount(classes, minlength=len(dataset.class_names)).tolist()
    settings = LossSettings(
        config.gains,
        dataset.keypoints,
        dataset.multi_label,
        config.label_smoothing,
        iou=config.iou,
        focal=config.focal,
        class_weights=class_weights(config.class_weights, counts),
    )
    return make_loss(dataset.task, settings)
