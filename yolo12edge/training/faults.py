"""What stops a run, said with what it takes to go on: a loss that is no number, memory or disk that is spent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

from ..data.dataset import Dataset
from ..data.loader import EpochSampler, PictureDataset
from ..errors import TrainingError, Yolo12EdgeError
from ..files import atomic_file
from ..nn import YOLO12
from .config import TrainConfig
from .memory import largest_batch, out_of_memory
from .module import NotFiniteError
from .run import NO_ROOM, RunFiles, go_on, no_room
from .samples import draw_training_samples

__all__ = ["explained"]

_WORKER_KILLED = "killed by signal: Killed"


@contextmanager
def explained(
    config: TrainConfig,
    files: RunFiles,
    *,
    network: YOLO12,
    pictures: PictureDataset,
    sampler: EpochSampler,
    dataset: Dataset,
) -> Iterator[None]:
    """Turn what stops a run within the block into a ``TrainingError``.

    Args:
        config: The run.
        files: Its files.
        network: What it trains.
        pictures: What it trains on.
        sampler: In which order.
        dataset: What is labelled.
    """
    try:
        yield
    except NotFiniteError as error:
        raise _diverged(error, files, pictures, sampler, dataset) from error
    except Yolo12EdgeError:
        raise
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise no_room(files, str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if _WORKER_KILLED in str(error):
            raise TrainingError(
                "the system ended a loader process, most likely for want of memory",
                remedy=f"fewer --workers or --cache none; {go_on(files)}",
            ) from error
        if not out_of_memory(error):
            raise
        clear_frames(error.__traceback__)  # they hold the tensors of the step
        raise _no_memory(config, files, network) from error


def _no_memory(config: TrainConfig, files: RunFiles, network: YOLO12) -> TrainingError:
    device = next(network.parameters()).device
    side = max(config.sides)
    network.zero_grad(set_to_none=True)
    processes = config.devices * config.nodes
    if processes > 1:  # a step needs all of them
        fits = config.batch // 2 // processes * processes
    else:
        fits = largest_batch(network, side, config, below=config.batch)
    remedies = []
    if fits:
        remedies.append(f"start with --batch {fits} (gradients of small batches are summed)")
    else:
        remedies.append(f"start with --imgsz below {side} or a smaller --model than {config.scale}")
    if device.type == "cuda" and config.precision == "fp32":
        remedies.append("--precision bf16 takes about half")
    remedies.append(f"or free memory, {go_on(files)}")
    return TrainingError(
        f"{device.type} has not memory enough for batch {config.batch} at {side} px, YOLO12{config.scale} "
        f"{config.variant}, precision {config.precision}",
        remedy="; ".join(remedies),
    )


def _diverged(
    error: NotFiniteError,
    files: RunFiles,
    pictures: PictureDataset,
    sampler: EpochSampler,
    dataset: Dataset,
) -> TrainingError:
    if sampler.rank == 0:  # which alone writes
        _write_fault(error, files, pictures, sampler, dataset)
    wrong = ", ".join(f"{name} {value:g}" for name, value in error.parts.items())
    return TrainingError(
        f"the {error.what} of epoch {error.epoch + 1}, step {error.step + 1} is not a number ({wrong}); the weights "
        f"have not learnt from it, and its pictures are in {files.fault} and {files.fault.with_suffix('.jpg').name}",
        remedy="look at their labels; then start with a lower --lr, or --precision fp32",
    )


def _write_fault(
    error: NotFiniteError, files: RunFiles, pictures: PictureDataset, sampler: EpochSampler, dataset: Dataset
) -> None:
    sampler.rank = error.rank
    sampler.set_epoch(error.epoch)
    keys = list(sampler)[error.step * sampler.batch_size : (error.step + 1) * sampler.batch_size]
    facts = {
        "what": error.what,
        "epoch": error.epoch + 1,
        "step": error.step + 1,
        "loss": {name: str(value) for name, value in error.parts.items()},  # JSON has no NaN
        "pictures": [[str(path) for path in pictures.sources(key)] for key in keys],
    }
    with atomic_file(files.fault) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_training_samples(pictures, dataset, files.fault.with_suffix(".jpg"), keys=keys)
