"""The losses of classes: cross entropies with focus and class weights, soft F1, and weights from counts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

__all__ = ["balanced_weights", "binary_entropy", "categorical_entropy", "soft_f1_loss"]

_EPS = 1e-6


def binary_entropy(logits: Tensor, targets: Tensor, *, focal: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the binary cross entropy of each logit.

    Args:
        logits: Of any shape.
        targets: Of the same shape, in [0, 1].
        focal: Exponent of how far the probability is from its target, by which each term is weighed: the focal loss
            (Lin et al., arXiv 1708.02002) where targets are 0 or 1, and its form for soft targets elsewhere (Li et al.,
            arXiv 2006.04388).
        weights: Weights of the positive terms, to be broadcast over the logits.

    Returns:
        Of the same shape.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    return entropy * _power(targets - logits.sigmoid(), focal) if focal else entropy


def categorical_entropy(
    logits: Tensor, targets: Tensor, *, focal: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the cross entropy of each picture, focal as ``binary_entropy``.

    Args:
        logits: (B, classes).
        targets: (B, classes), in [0, 1], each row of sum 1.
        focal: Exponent of how far the probability of a class is from 1.
        weights: (classes,).

    Returns:
        (B,).
    """
    log_probability = logits.log_softmax(1)
    terms = -log_probability * targets
    if weights is not None:
        terms = terms * weights
    if focal:
        terms = terms * _power(1 - log_probability.exp(), focal)
    return terms.sum(1)


def soft_f1_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - F1, a mean over the classes of the batch, with probabilities in the place of counts.

    Source: Benedict et al., "sigmoidF1", arXiv 2108.10566, without its second sigmoid.

    Args:
        probability: (B, classes).
        truth: (B, classes), 0 or 1.
    """
    present = truth.sum(0) > 0
    if not bool(present.any()):
        return probability.sum() * 0
    hits = (probability * truth).sum(0)
    score = 2 * hits / (probability.sum(0) + truth.sum(0)).clamp(min=_EPS)
    return 1 - score[present].mean()


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return a weight for each class, against the share of its objects; their mean over all objects is 1.

    Args:
        counts: Objects of each class; a class without any gets 1, as nothing is weighed by it.
    """
    there = [count for count in counts if count]
    mean = sum(there) / max(len(there), 1)
    return tuple(mean / count if count else 1.0 for count in counts)


def _power(distance: Tensor, exponent: float) -> Tensor:
    """Return |distance| to the power; the slope of small exponents at 0 is infinite, hence the least distance."""
    return distance.abs().clamp(min=_EPS).pow(exponent)
