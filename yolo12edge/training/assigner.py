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
    scores: Tensor, inside: Tensor, overlap_of: Overlap, target_image: Tensor, target_class: Tensor
) -> Assignment:
    """Choose the candidates that learn each object.

    The ten candidates with the highest ``score^0.5 * overlap^6`` whose centre lies inside the object
    learn it; one that several objects want goes to the object that it overlaps most. Overlaps are
    computed for candidates inside objects only, which keeps the work proportional to their number.

    Args:
        scores: (B, classes, A), predicted class probabilities.
        inside: (G, A), bool, which candidates' centres lie inside which objects.
        overlap_of: Measures predictions against objects; below 0 counts as 0.
        target_image: (G,), image of each object.
        target_class: (G,), class of each object.

    Returns:
        The positives, ordered by image and candidate.
    """
    batch, _, count = scores.shape
    objects = len(target_image)
    object_, candidate = inside.nonzero(as_tuple=True)
    image = target_image[object_]

    # A diverged network predicts NaN; the run then ends with the checkpoint's own message.
    overlap = overlap_of(image, candidate, object_).nan_to_num(nan=0.0).clamp_(min=0)
    score = scores[image, target_class[object_], candidate]
    metric = torch.zeros((objects, count), dtype=overlap.dtype, device=overlap.device)
    metric[object_, candidate] = score.pow(_ALPHA) * overlap.pow(_BETA)
    overlaps = torch.zeros_like(metric)
    overlaps[object_, candidate] = overlap

    wanted = torch.zeros_like(inside)
    if objects:
        wanted.scatter_(1, metric.topk(min(_TOP_K, count), dim=1).indices, True)
    want_object, want_candidate = (wanted & inside).nonzero(as_tuple=True)
    want_cell = target_image[want_object] * count + want_candidate

    # Conflicts: among all objects around the candidate, the largest overlap wins; ties go to the first object.
    cells = batch * count
    cell = image * count + candidate
    rivals = torch.bincount(want_cell, minlength=cells)
    best_overlap = overlap.new_zeros(cells).scatter_reduce_(0, cell, overlap, "amax")
    winner = torch.full((cells,), objects, dtype=torch.long, device=scores.device)
    is_best = overlap >= best_overlap[cell]
    winner.scatter_reduce_(0, cell[is_best], object_[is_best], "amin")
    assigned = torch.full((cells,), -1, dtype=torch.long, device=scores.device)
    assigned[want_cell] = want_object
    assigned = torch.where(rivals > 1, winner, assigned)

    positive = (assigned >= 0).nonzero().squeeze(1)
    target = assigned[positive]
    chosen = positive % count
    metric_at, overlap_at = metric[target, chosen], overlaps[target, chosen]
    best_metric = metric.new_zeros(objects).scatter_reduce_(0, target, metric_at, "amax")
    best_iou = metric.new_zeros(objects).scatter_reduce_(0, target, overlap_at, "amax")
    soft = metric_at * best_iou[target] / (best_metric[target] + _EPS)
    return Assignment(positive // count, chosen, target, soft)
