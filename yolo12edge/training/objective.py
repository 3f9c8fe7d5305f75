"""What a run learns by: the loss of its task, with the weights of its classes and its teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.dataset import Dataset, Sample
from ..nn import ModelConfig
from .config import TrainConfig
from .distillation import IMITATIONS, Taught, load_teacher
from .losses import LossSettings, TaskLoss, class_weights, make_loss

__all__ = ["make_objective"]


def make_objective(config: TrainConfig, dataset: Dataset, samples: Sequence[Sample], network: ModelConfig) -> TaskLoss:
    """Return the loss of a run.

    Args:
        config: The run.
        dataset: What it is labelled for.
        samples: Its training split.
        network: What learns by it.

    Raises:
        CheckpointError: If the teacher does not fit the network.
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
    loss = make_loss(dataset.task, settings)
    if config.teacher is None:
        return loss
    from ..checkpoint import Checkpoint  # needs PyTorch by its name alone

    teacher, order = load_teacher(Checkpoint.load(config.teacher), network, dataset.class_names)
    return Taught(loss, teacher, order, IMITATIONS[dataset.task], settings, config.distill)
