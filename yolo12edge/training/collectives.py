"""What the processes of a run tell each other; in a run of one process each of these does nothing."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

__all__ = ["broadcast_from_first", "gather_to_first", "mean_of_all", "process_count", "sum_of_all", "take_from_first"]

T = TypeVar("T")


def process_count() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if _together() else 1


def sum_of_all(values: Tensor) -> Tensor:
    """Return the sum of the processes' tensors, which have one shape; no gradient flows through it."""
    if not _together():
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def mean_of_all(count: Tensor) -> Tensor:
    """Return the mean of the processes' values of what a loss is divided by.

    A loss that is divided by it has, as mean over the processes, the very value that one process with all their
    pictures would have found; so have its gradients, which are averaged in the same way. Where nothing is learnt the
    value stays: processes may validate different numbers of batches, and must not wait for each other.

    Args:
        count: Of any shape; no gradient flows through it.
    """
    return sum_of_all(count) / process_count() if torch.is_grad_enabled() and _together() else count


def gather_to_first(value: T) -> list[T]:
    """Return the values of all processes, by rank, in the first process, and nothing in the others."""
    if not _together():
        return [value]
    first = distributed.get_rank() == 0
    values: list[Any] = [None] * process_count()
    distributed.gather_object(value, values if first else None)
    return values if first else []


def broadcast_from_first(value: T) -> T:
    """Return the value of the first process."""
    if not _together():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def take_from_first(tensors: list[Tensor]) -> None:
    """Replace tensors by those of the first process, in place."""
    if _together():
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
