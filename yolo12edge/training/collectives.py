"""What the processes of a run tell each other; in a run of one process each of these does nothing."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

__all__ = [
    "broadcast_from_first",
    "gather_everywhere",
    "gather_to_first",
    "process_count",
    "shared_divisor",
    "sum_of_all",
    "take_from_first",
]

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


def shared_divisor(count: float | Tensor, like: Tensor, *, least: float = 0.0) -> Tensor:
    """Return what a loss is divided by, so that the processes' losses have the right mean.

    That mean, and that of the gradients, is then what one process with all their pictures would have found. Where
    nothing is learnt each process is by itself: they may validate different numbers of batches.

    Args:
        count: What this process has of it; no gradient flows through it.
        like: Of whose type and device the result is.
        least: The smallest that it may be of all processes together.
    """
    mine = torch.as_tensor(count, dtype=like.dtype, device=like.device)
    if not torch.is_grad_enabled() or not _together():
        return mine.clamp(min=least)
    return sum_of_all(mine).clamp(min=least) / process_count()


def gather_to_first(value: T) -> list[T]:
    """Return the values of all processes, by rank, in the first process, and nothing in the others."""
    if not _together():
        return [value]
    first = distributed.get_rank() == 0
    values: list[Any] = [None] * process_count()
    distributed.gather_object(value, values if first else None)
    return values if first else []


def gather_everywhere(value: T) -> list[T]:
    """Return the values of all processes, by rank, in each of them."""
    values: list[Any] = [value] * process_count()
    if _together():
        distributed.all_gather_object(values, value)
    return values


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
