"""Learning from a teacher beside the labels: ``Taught`` adds one part to the loss of a task.

Both networks have the same candidates at any scale, so that outputs are compared candidate by candidate, where the
teacher sees something. What agrees with it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checkpoint import Checkpoint, CheckpointMeta
from ..data.loader import Batch
from ..errors import CheckpointError
from ..manifest import Task
from ..nn import YOLO12, HeadOutput, ModelConfig, decode_boxes
from ..nn.config import REG_MAX
from ..nn.heads import decode_angles, expected_distances
from .collectives import shared_divisor
from .losses import LossSettings, Parts, TaskLoss
from .losses.common import in_full_precision
from .losses.detect import bins_like
from .losses.entropy import binary_entropy

__all__ = ["IMITATIONS", "Taught", "check_teacher", "load_teacher"]

_BIN_TEMPERATURE = 10.0
_CLASS_TEMPERATURE = 4.0
_MASKS = 16  # of a picture, those of its most certain candidates
_EPS = 1e-9


class Taught:
    """The loss of a task with one more part, ``distill``: how far the network is from its teacher.

    Args:
        loss: What is learnt from labels.
        teacher: In evaluation mode.
        order: Index of each of the network's classes among those of the teacher.
        imitate: The entry of ``IMITATIONS``.
        settings: Its gains weigh what is imitated as they weigh what is learnt.
        gain: Weight of the whole part.
    """

    def __init__(
        self,
        loss: TaskLoss,
        teacher: YOLO12,
        order: Sequence[int],
        imitate: Callable[[Any, Any, LossSettings], Tensor],
        settings: LossSettings,
        gain: float,
    ) -> None:
        self.parts = (*loss.parts, "distill")
        self.summed, self.uses = loss.summed, loss.uses
        self._loss, self._teacher, self._imitate = loss, teacher.requires_grad_(False), imitate
        self._settings, self._gain = settings, gain
        self._order = list(order)

    def __call__(self, output: Any, batch: Batch) -> Parts:
        """Compute the parts; see ``TaskLoss``. The teacher looks at the batch's pictures."""
        with torch.no_grad():
            said = self._teacher.to(batch.images.device)(batch.images.float() / 255)
        if isinstance(said, HeadOutput):
            said = in_full_precision(said._replace(cls=said.cls[:, self._order]))
            seen: Any = in_full_precision(output)
        else:
            said, seen = said[:, self._order].float(), output.float()
        return {**self._loss(output, batch), "distill": self._imitate(seen, said, self._settings) * self._gain}


def load_teacher(checkpoint: Checkpoint, config: ModelConfig, class_names: Sequence[str]) -> tuple[YOLO12, list[int]]:
    """Return the network of a teacher, and where it has the classes of its pupil.

    Args:
        checkpoint: The teacher, of any scale and variant.
        config: The pupil.
        class_names: Those of the pupil.

    Raises:
        CheckpointError: If task, classes or keypoints of the two differ.
    """
    check_teacher(checkpoint.meta, config, class_names)
    return checkpoint.model(), [checkpoint.meta.class_names.index(name) for name in class_names]


def check_teacher(meta: CheckpointMeta, config: ModelConfig, class_names: Sequence[str]) -> None:
    """Refuse a teacher that does not fit; see ``load_teacher``."""
    facts = {
        "task": (meta.task, config.task),
        "classes": (sorted(meta.class_names), sorted(class_names)),
        "keypoints": (meta.keypoints, config.keypoints),
        "multi_label": (meta.multi_label, config.multi_label),
    }
    for name, (theirs, mine) in facts.items():
        if theirs != mine:
            raise CheckpointError(
                f"the teacher's {name}: {_brief(theirs)}",
                expected=f"those of the network that it teaches: {_brief(mine)}",
                remedy="train the teacher on the same dataset first",
            )


def imitate_boxes(pupil: HeadOutput, teacher: HeadOutput, settings: LossSettings) -> Tensor:
    """Compare class probabilities and the distributions of distances.

    Classes: binary cross entropy with the teacher's probability, weighed by how far the two are apart (Yang et al.,
    arXiv 2308.14286). Distances: divergence of the distributions at a temperature of 10 (Zheng et al.,
    arXiv 2102.12252), weighed by how certain the teacher is of its best class.
    """
    certain, divisor = _certainty(teacher)
    classes = binary_entropy(pupil.cls, teacher.cls.sigmoid(), focal=1.0).sum() / divisor
    shape = (len(certain), 4, REG_MAX, -1)
    mine, theirs = ((x.box.view(shape) / _BIN_TEMPERATURE).log_softmax(2) for x in (pupil, teacher))
    apart = (theirs.exp() * (theirs - mine)).sum(2).mean(1) * _BIN_TEMPERATURE**2
    return classes * settings.gains.cls + (apart * certain).sum() / divisor * settings.gains.dfl


def imitate_masks(pupil: HeadOutput, teacher: HeadOutput, settings: LossSettings) -> Tensor:
    """Compare boxes, and the masks of the teacher's most certain candidates within their boxes.

    Coefficients and prototypes by themselves mean nothing to another network; the masks that they give do.
    """
    certain, divisor = _certainty(teacher)
    best = certain.topk(min(_MASKS, certain.shape[1]), dim=1)
    mine, theirs = (_masks(x, best.indices) for x in (pupil, teacher))
    boxes = decode_boxes(teacher, bins_like(teacher)).gather(2, best.indices.unsqueeze(1).expand(-1, 4, -1))
    height, width = theirs.shape[2:]
    scale = teacher.strides[0] / 2  # prototypes are twice as fine as the finest candidates
    left, top, right, bottom = (boxes / scale).unsqueeze(3).unbind(1)
    x, y = (torch.arange(size, device=boxes.device) + 0.5 for size in (width, height))
    inside = ((y > top) & (y < bottom)).unsqueeze(3) & ((x > left) & (x < right)).unsqueeze(2)
    entropy = binary_entropy(mine, theirs.sigmoid(), focal=1.0) * inside
    mean = entropy.sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
    return imitate_boxes(pupil, teacher, settings) + (mean * best.values).sum() / divisor * settings.gains.box


def imitate_points(pupil: HeadOutput, teacher: HeadOutput, settings: LossSettings) -> Tensor:
    """Compare boxes, places of keypoints as the loss does (1 - OKS) and their visibility."""
    assert settings.keypoints is not None
    assert pupil.branch is not None
    assert teacher.branch is not None
    certain, divisor = _certainty(teacher)
    shape = (len(certain), settings.keypoints.count, settings.keypoints.dimensions, -1)
    mine, theirs = pupil.branch.view(shape), teacher.branch.view(shape)
    left_top, right_bottom = expected_distances(teacher.box, bins_like(teacher)).chunk(2, 1)
    area = (left_top + right_bottom).prod(1).unsqueeze(1)
    sigmas = torch.from_numpy(settings.keypoints.sigmas).to(mine)
    distance = (2 * (mine[:, :, :2] - theirs[:, :, :2])).square().sum(2)
    apart = 1 - (-distance / (2 * (2 * sigmas).square()[:, None] * (area + _EPS))).exp()
    visible = theirs[:, :, 2:].sigmoid()
    total = (apart * visible.squeeze(2) if visible.shape[2] else apart).mean(1) * settings.gains.keypoint
    if visible.shape[2]:
        total = total + binary_entropy(mine[:, :, 2:], visible, focal=1.0).mean((1, 2)) * settings.gains.visibility
    return imitate_boxes(pupil, teacher, settings) + (total * certain).sum() / divisor


def imitate_angles(pupil: HeadOutput, teacher: HeadOutput, settings: LossSettings) -> Tensor:
    """Compare distances along the box's own axes, and its angle, by the squared sine of the difference."""
    certain, divisor = _certainty(teacher)
    apart = (decode_angles(pupil) - decode_angles(teacher)).sin().square().squeeze(1)
    return imitate_boxes(pupil, teacher, settings) + (apart * certain).sum() / divisor * settings.gains.box


def imitate_classes(pupil: Tensor, teacher: Tensor, settings: LossSettings) -> Tensor:
    """Compare the distribution over classes at a temperature of 4 (Hinton et al., arXiv 1503.02531)."""
    if settings.multi_label:
        return binary_entropy(pupil, teacher.sigmoid(), focal=1.0).mean()
    mine, theirs = ((logits / _CLASS_TEMPERATURE).log_softmax(1) for logits in (pupil, teacher))
    return F.kl_div(mine, theirs, log_target=True, reduction="batchmean") * _CLASS_TEMPERATURE**2


IMITATIONS: dict[Task, Callable[[Any, Any, LossSettings], Tensor]] = {
    "detect": imitate_boxes,
    "segment": imitate_masks,
    "classify": imitate_classes,
    "pose": imitate_points,
    "obb": imitate_angles,
}


def _certainty(teacher: HeadOutput) -> tuple[Tensor, Tensor]:
    """Return the probability of each candidate's best class, (B, A), and their sum, at least 1."""
    certain = teacher.cls.amax(1).sigmoid()
    return certain, shared_divisor(certain.sum(), certain, least=1)


def _masks(output: HeadOutput, chosen: Tensor) -> Tensor:
    """Return mask logits (B, n, h, w) of chosen candidates (B, n)."""
    assert output.branch is not None
    assert output.prototypes is not None
    rows = output.branch.shape[1]
    mine = output.branch.gather(2, chosen.unsqueeze(1).expand(-1, rows, -1))
    return torch.einsum("bcn,bchw->bnhw", mine, output.prototypes)


def _brief(value: object) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) < 80 else f"{text[:77]}…"
