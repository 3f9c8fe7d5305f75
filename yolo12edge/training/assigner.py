"""Task-aligned assignment of candidates to objects (Feng et al., TOOD, arXiv 2108.07755)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Assignment", "Overlap", "assign"]

Overlap = Callable[[Tensor, Tensor, Tensor], Tensor]
"""How well candidates match objects, (n,), from their image, candidate and object, (n,) indices each."""

_TOP_K = 10
_ALPHA = 0.5  # weight of the class score in the alignment metric
_BETA = 6.0  # weight of the overlap
_EPS = 1e-9
_CHUNK = 1 << 22  # pairs of object and candidate that are looked at together


class Assignment(NamedTuple):
    """The positives of a batch: P candidates and the object each one learns.

    Attributes:
        image: (P,), image index of the candidate.
        candidate: (P,), index into the A candidates of that image.
        target: (P,), index into the G objects of the batch.
        score: (P,), soft class target in [0, 1], also the weight of the box losses.
    """

    image: Tensor
    candidate: Tensor
    target: Tensor
    score: Tensor


@torch.no_grad()
def assign(
    scores: Tensor,
    inside: Callable[[Tensor], Tensor],
    boxes: Tensor,
    overlap_of: Overlap,
    target_image: Tensor,
    target_class: Tensor,
) -> Assignment:
    """Choose the candidates that learn each object.

    The ten candidates with the highest ``score^0.5 * overlap^6`` whose centre lies inside the object
    learn it; one that several objects want goes to the object that it overlaps most. Only pairs of an object and a
    candidate inside it are kept, so memory and work follow the objects' areas, however many objects there are.

    Args:
        scores: (B, classes, A), predicted class probabilities.
        inside: Tells which candidates' centres lie inside some of the boxes, (g, ...) to bool (g, A).
        boxes: (G, ...), where the objects are, as ``inside`` takes them.
        overlap_of: Measures predictions against objects; below 0 counts as 0.
        target_image: (G,), image of each object.
        target_class: (G,), class of each object.

    Returns:
        The positives, ordered by image and candidate.
    """
    batch, _, count = scores.shape
    objects = len(target_image)
    object_, candidate = _pairs(inside, boxes, count)
    image = target_image[object_]

    # A diverged network predicts NaN; the run then ends with the checkpoint's own message.
    overlap = overlap_of(image, candidate, object_).nan_to_num(nan=0.0).clamp_(min=0)
    metric = scores[image, target_class[object_], candidate].pow(_ALPHA) * overlap.pow(_BETA)
    wanted = _best_of_each(metric.nan_to_num(nan=0.0), object_, objects)

    # Conflicts: among all objects around the candidate, the largest overlap wins; ties go to the first object.
    # Cells are candidates of the batch; what is assigned to them are pairs, which are ordered by object.
    cells, pairs = batch * count, len(object_)
    cell = image * count + candidate
    rivals = torch.bincount(cell[wanted], minlength=cells)
    best_overlap = overlap.new_zeros(cells).scatter_reduce_(0, cell, overlap, "amax")
    best = (overlap >= best_overlap[cell]).nonzero().squeeze(1)
    winner = torch.full((cells,), pairs, dtype=torch.long, device=scores.device)
    winner.scatter_reduce_(0, cell[best], best, "amin")
    assigned = torch.full((cells,), -1, dtype=torch.long, device=scores.device)
    assigned[cell[wanted]] = wanted
    assigned = torch.where(rivals > 1, winner, assigned)

    chosen = assigned[assigned >= 0]
    target, metric, overlap = object_[chosen], metric[chosen], overlap[chosen]
    best_metric = metric.new_zeros(objects).scatter_reduce_(0, target, metric, "amax")
    best_iou = metric.new_zeros(objects).scatter_reduce_(0, target, overlap, "amax")
    soft = metric * best_iou[target] / (best_metric[target] + _EPS)
    return Assignment(image[chosen], candidate[chosen], target, soft)


def _pairs(inside: Callable[[Tensor], Tensor], boxes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return object and candidate of each pair of which the one lies around the other, ordered by object."""
    step = max(1, _CHUNK // count)
    found = [inside(part).nonzero() for part in torch.split(boxes, step)]
    for number, pairs in enumerate(found):
        pairs[:, 0] += number * step
    object_, candidate = torch.cat(found).unbind(1)
    return object_, candidate


def _best_of_each(metric: Tensor, object_: Tensor, objects: int) -> Tensor:
    """Return the indices of the pairs with the largest metrics of each object; of equals, the first candidates."""
    order = metric.argsort(descending=True, stable=True)
    order = order[object_[order].argsort(stable=True)]
    per_object = torch.bincount(object_, minlength=objects)
    starts = per_object.cumsum(0) - per_object
    rank = torch.arange(len(order), device=order.device) - starts[object_[order]]
    return order[rank < _TOP_K]
