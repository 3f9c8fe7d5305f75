"""Rounding the weights of a layer together, so that its output changes least."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["adaround", "round_with_feedback"]

Floats = npt.NDArray[np.floating[Any]]

_ITERATIONS = 500
_RATE = 0.05
_WARMUP = 0.2  # share of the iterations without regulariser
_BETAS = (20.0, 2.0)  # from a regulariser that acts near 0 and 1 only to one that acts everywhere
_LAMBDA = 0.1
_STRETCH, _SHIFT = 1.2, -0.1  # of the sigmoid, so that it reaches 0 and 1
_DAMPING = 0.01  # share of the mean energy that is added to each input's, against chance in the sample


def adaround(
    weight: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], gram: npt.NDArray[np.float32], *, largest: int
) -> npt.NDArray[np.int8]:
    """Learn whether to round each weight up or down (AdaRound, Nagel et al. 2020, arXiv:2004.10568).

    A soft rounding between the two is optimised by Adam on the squared change of the layer's output, while a
    regulariser that tightens step by step drives it to one of them. Output channels that do not gain keep the nearest
    rounding.

    Args:
        weight: Shape (out, in / groups, height, width).
        scales: Shape (out,).
        gram: E[patch patchᵀ] of the layer's input, see ``grams.observe_grams``, shape (groups, K, K).
        largest: Largest magnitude of an integer.

    Returns:
        int8, of the shape of ``weight``.
    """
    units, nearest = _in_steps(weight, scales, gram, largest)
    unit_gram = gram / np.maximum(_energy(gram), np.finfo(np.float32).tiny)
    floor = np.floor(units)
    free = (floor >= -largest) & (floor < largest)  # the rest is clipped, and stays
    floor = np.clip(floor, -largest, largest)
    share = np.clip(units - floor, 0.01, 0.99)
    logits = -np.log(_STRETCH / (share - _SHIFT) - 1)
    mean, square = np.zeros_like(logits), np.zeros_like(logits)
    for step in range(1, _ITERATIONS + 1):
        sigmoid = 1 / (1 + np.exp(-logits))
        soft = np.clip(sigmoid * _STRETCH + _SHIFT, 0, 1)
        gradient = (floor + soft * free - units) @ unit_gram
        if (passed := (step / _ITERATIONS - _WARMUP) / (1 - _WARMUP)) > 0:
            beta = _BETAS[1] + (_BETAS[0] - _BETAS[1]) * (1 + np.cos(passed * np.pi)) / 2
            side = 2 * soft - 1
            gradient -= 2 * _LAMBDA * beta * np.sign(side) * np.abs(side) ** (beta - 1)
        gradient *= sigmoid * (1 - sigmoid) * _STRETCH * free * ((soft > 0) & (soft < 1))
        mean += 0.1 * (gradient - mean)
        square += 0.001 * (gradient**2 - square)
        logits -= _RATE * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    learned = floor + free * (logits > 0)
    return _better(units, learned, nearest, gram).reshape(weight.shape)


def round_with_feedback(
    weight: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], gram: npt.NDArray[np.float32], *, largest: int
) -> npt.NDArray[np.int8]:
    """Round one weight after the other to the nearest, and let those to come make up for its error.

    The method of OPTQ (Frantar et al. 2022, arXiv:2210.17323), from the inputs of most energy to those of least. It
    solves what ``adaround`` solves, in one pass over the weights instead of hundreds. Output channels that do not gain
    keep the nearest rounding.

    Args:
        weight: As for ``adaround``, and so are the others.
        scales: Shape (out,).
        gram: Shape (groups, K, K).
        largest: Largest magnitude of an integer.

    Returns:
        int8, of the shape of ``weight``.
    """
    units, nearest = _in_steps(weight, scales, gram, largest)
    rounded = nearest.copy()
    for rows, result, square in zip(units.astype(np.float64), rounded, gram.astype(np.float64), strict=True):
        energy = np.diagonal(square)
        if not energy.any():
            continue
        order = np.argsort(energy)
        damped = square[np.ix_(order, order)] + _DAMPING * energy.mean() * np.eye(len(order))
        # dᵀ gram d = |root d|²: what later weights must make up for is known once those behind them are rounded.
        root = np.linalg.cholesky(damped).T
        columns = rows.T[order]
        change = np.zeros_like(columns)
        for k in reversed(range(len(order))):
            target = columns[k] - root[k, k + 1 :] @ change[k + 1 :] / root[k, k]
            change[k] = np.clip(np.rint(target), -largest, largest) - columns[k]
        result[:, order] = np.rint(change + columns).T
    return _better(units, rounded, nearest, gram).reshape(weight.shape)


def _in_steps(weight: Floats, scales: Floats, gram: Floats, largest: int) -> tuple[Floats, Floats]:
    """Return the weights in units of their scale, and rounded to the nearest, both (groups, out / groups, K)."""
    units = weight.reshape(len(scales), -1) / scales[:, None]
    units = units.reshape(len(gram), -1, units.shape[1])
    return units, np.clip(np.rint(units), -largest, largest)


def _energy(gram: Floats) -> Floats:
    """Return the mean of each diagonal, shape (groups, 1, 1)."""
    energy: Floats = np.diagonal(gram, axis1=1, axis2=2).mean(1)[:, None, None]
    return energy


def _better(units: Floats, rounded: Floats, nearest: Floats, gram: Floats) -> npt.NDArray[np.int8]:
    """Choose by output channel what changes the output less."""

    def error(integers: Floats) -> Floats:
        change = (integers - units).astype(np.float64)
        result: Floats = (change @ gram * change).sum(-1, keepdims=True)
        return result

    return np.where(error(rounded) < error(nearest), rounded, nearest).astype(np.int8)
