"""What a training step takes of memory, measured: the batch that fits, and what to do where none does."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.cache import available_memory
from ..nn import YOLO12
from .config import TrainConfig

__all__ = ["BatchChoice", "choose_batch", "largest_batch", "out_of_memory"]

_SHARE = 0.6  # of the free memory; gradients on their way, the loss, workers and the optimizer need the rest
_LARGEST = 64  # the recipe is made for so many images per optimizer step
_USUAL = 16  # what a run takes that would make few steps otherwise
_ENOUGH_STEPS = 2_000
_MEASURED = (2, 4)  # images of the two steps whose difference is measured


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """A batch that was chosen.

    Attributes:
        batch: Images per step.
        per_image: Bytes that an image takes in a step.
        available: Bytes that are free.
        limit: What decided: ``memory``, or ``steps``, of which a small dataset needs enough.
    """

    batch: int
    per_image: int
    available: int
    limit: str


def choose_batch(config: TrainConfig, network: YOLO12, *, device: str, images: int) -> BatchChoice:
    """Choose the images per step: the largest power of two that fits, with regard to what is good for learning.

    Of several devices, each takes its share of them; processes on CPUs share the memory, too.

    Args:
        config: The run; its batch does not matter.
        network: What will be trained; it stays as it is.
        device: Where.
        images: Images of the training split.
    """
    side = max(config.sides)
    wanted = _LARGEST
    while wanted > _USUAL and config.epochs * -(-images // wanted) < _ENOUGH_STEPS:
        wanted //= 2
    state = {key: value.clone() for key, value in network.state_dict().items()}
    network.to(device)
    per_image = _bytes_per_image(network, side, config)
    network.cpu().load_state_dict(state)
    processes = config.devices * config.nodes
    available = _free(device) * (processes if device == "cuda" else 1)
    fits = max(1, int(_SHARE * available / max(per_image, 1)))
    fits = 1 << (fits.bit_length() - 1)
    batch = max(processes, min(wanted, fits) // processes * processes)
    return BatchChoice(batch, per_image, available, "memory" if fits <= wanted else "steps")


def largest_batch(network: YOLO12, side: int, config: TrainConfig, *, below: int) -> int:
    """Return a smaller batch, by halves, with which a step fits into memory; 0 if none does."""
    batch = below // 2
    while batch:
        gc.collect()
        if next(network.parameters()).device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            _step(network, batch, side, config)
            return batch
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        batch //= 2
    return 0


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is spent, on a GPU or in PyTorch's or Python's own allocator."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in text for phrase in ("can't allocate memory", "not enough memory", "out of memory")
    )


def _step(network: YOLO12, batch: int, side: int, config: TrainConfig) -> None:
    """Go forward and back once; only gradients and the averages of batch norms change, and gradients are dropped."""
    device = next(network.parameters()).device
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    if config.precision == "auto" and device.type == "cuda":
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    network.train()
    try:
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            output = network(torch.rand(batch, 3, side, side, device=device))
        torch.stack([tensor.float().square().mean() for tensor in _tensors(output)]).sum().backward()  # type: ignore[no-untyped-call]
    finally:
        network.zero_grad(set_to_none=True)


def _tensors(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [tensor for tensor in output if tensor is not None]


def _bytes_per_image(network: YOLO12, side: int, config: TrainConfig) -> int:
    """Return what one more image takes: of a GPU at the peak; of a CPU, whose allocator is silent, for gradients."""
    device = next(network.parameters()).device
    measure = _peak_of_step if device.type == "cuda" else _kept_for_gradients
    few, more = (measure(network, batch, side, config) for batch in _MEASURED)
    return max(0, more - few) // (_MEASURED[1] - _MEASURED[0])


def _peak_of_step(network: YOLO12, batch: int, side: int, config: TrainConfig) -> int:
    torch.cuda.reset_peak_memory_stats()
    _step(network, batch, side, config)
    return int(torch.cuda.max_memory_allocated())


def _kept_for_gradients(network: YOLO12, batch: int, side: int, config: TrainConfig) -> int:
    """Return the bytes of all that is kept from the way forward for the way back."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _step(network, batch, side, config)
    return sum(kept.values())


def _free(device: str) -> int:
    if device == "cuda":
        torch.cuda.empty_cache()  # what was measured is not in use any more
        return int(torch.cuda.mem_get_info()[0])
    return available_memory()
