"""``train``: from a configuration to checkpoints, on Lightning."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning as L
import torch

from ..checkpoint import Checkpoint, meta_of, read_header
from ..data.dataset import Dataset, Sample, read_dataset
from ..data.loader import EpochSampler, PictureDataset, train_loader, val_loader
from ..errors import BackendError, DatasetError, InputError
from ..files import atomic_file
from .config import TrainConfig
from .distillation import check_teacher
from .faults import explained
from .memory import BatchChoice, choose_batch
from .module import TrainingModule
from .objective import make_objective
from .optim import Plan, plan_run
from .processes import Place, other_processes, placed, strategy_of
from .quantization import Int8Form, in_form
from .run import EpochRecord, RunFiles, RunWriter
from .samples import draw_training_samples
from .sharding import check_sharding
from .shared_norm import share_norms
from .transfer import Transfer, freeze, make_network, model_config, refuse_other_network
from .validation import Validation

__all__ = ["TrainResult", "auto_batch", "check_start", "resume", "train"]

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that the system ended."""
_LOADER_ENDED = "killed by signal: Terminated"
_LIGHTNING_PRECISION = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        files: Its files.
        best_epoch: Epoch of ``best.safetensors``.
        epochs: Epochs done.
        stalled: Whether early stopping ended it.
        had_ended: Whether it was resumed and had nothing left to do.
        plan: What it was trained with.
    """

    files: RunFiles
    best_epoch: int
    epochs: int
    stalled: bool
    had_ended: bool
    plan: Plan


def check_start(config: TrainConfig, dataset: Dataset) -> None:
    """Refuse what a new run could not start with; looks at no picture and no label, so that it is done at once.

    Raises:
        InputError: If the run's directory holds another run.
        CheckpointError: If the weights or the teacher do not fit.
        BackendError: If the device or precision is not to be had.
    """
    RunFiles(config.out).check_free()
    _ = choose_device(config)
    if config.weights is not None:
        refuse_other_network(read_header(config.weights).meta, config)
    if config.teacher is not None:
        check_teacher(read_header(config.teacher).meta, model_config(config, dataset), dataset.class_names)


def train(
    config: TrainConfig,
    *,
    form: Int8Form | None = None,
    on_start: Callable[[Plan, Transfer | None], None] | None = None,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainResult:
    """Train a network from the start.

    The dataset is taken as it is: check it first with ``check_dataset``.

    Args:
        config: The run.
        form: The INT8 form to train in; None for ordinary training.
        on_start: Called before the first step with the plan and what came from ``config.weights``.
        on_step: Called after each step with epoch, step within it, and steps of the epoch, from 1.
        on_epoch: Called after each epoch.

    Raises:
        InputError: If the run's directory holds another run, or the task has no use for a setting.
        DatasetError: If the dataset is not usable.
        CheckpointError: If ``config.weights`` does not fit.
        BackendError: If the device or precision is not to be had.
        TrainingError: If the loss is not a number, or memory or disk is spent.
    """
    config, place = placed(config)
    files = RunFiles(config.out)
    if place.rank == 0:  # the others write nothing
        files.check_free()
    # Absolute, so that the run can be resumed from anywhere.
    weights, teacher = (path and path.absolute() for path in (config.weights, config.teacher))
    config = replace(config, data=config.data.absolute(), weights=weights, teacher=teacher)
    return _run(config, place, files, None, form, on_start, on_step, on_epoch)


def _make_folder(files: RunFiles) -> None:
    try:
        files.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {files.root} cannot be made: {error.strerror}") from error


def resume(
    root: Path,
    *,
    form: Int8Form | None = None,
    on_start: Callable[[Plan, Transfer | None], None] | None = None,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainResult:
    """Continue an interrupted run after its last whole epoch, exactly as it would have gone on.

    A run that did not come to the end of its first epoch starts anew.

    Args:
        root: The run's directory.
        form: As in ``train``.
        on_start: As in ``train``.
        on_step: As in ``train``.
        on_epoch: As in ``train``.

    Raises:
        InputError: If there is nothing to resume.
        TrainingError: As ``train``.
    """
    files = RunFiles(root)
    config, place = placed(TrainConfig.of_run(root), resumed=True)
    if config.strategy == "deepspeed":
        raise InputError(
            "the strategy of the run is deepspeed, with which nothing is kept to go on from",
            remedy=f"start a new run with --weights {files.last}",
        )
    if place.rank == 0:
        files.clear_unfinished()
    state = files.state if files.state.is_file() else None
    return _run(replace(config, out=root), place, files, state, form, on_start, on_step, on_epoch)


def _run(
    config: TrainConfig,
    place: Place,
    files: RunFiles,
    state: Path | None,
    form: Int8Form | None,
    on_start: Callable[[Plan, Transfer | None], None] | None,
    on_step: Callable[[int, int, int], None] | None,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> TrainResult:
    accelerator, precision = choose_device(config)
    dataset = read_dataset(config.data, task=config.task)
    config = replace(config, task=dataset.task)
    config = replace(config, augment=config.augmentation)  # stored as it is, whatever a preset will be
    samples, scored = (_labelled(dataset, split) for split in ("train", "val"))
    plan = plan_run(config, images=len(samples), num_classes=len(dataset.class_names))
    check_sharding(config, plan)
    L.seed_everything(config.seed, workers=True, verbose=False)
    # A resumed run has all that it needs of its starting weights; they may be gone by now.
    start = files.last if state is not None else config.weights
    origin = None if start is None else Checkpoint.load(start)
    network, transfer = make_network(config, dataset, origin)
    network = in_form(network, form, config, resumed=None if state is None else origin)
    frozen = [] if config.freeze is None else freeze(network, config.freeze)
    weights_license = None if origin is None else origin.meta.weights_license  # fine-tuned weights keep theirs
    turns = EpochSampler(
        len(scored),
        batch_size=validation_batch(config, len(scored)),
        shuffle=False,
        rank=place.rank,
        world_size=place.processes,
    )
    validating = Validation(dataset, scored, image_size=config.image_size, order=[index for _, index in turns])
    if config.sync_bn:
        share_norms(network)
    loss = make_objective(config, dataset, samples, network.config)
    module = TrainingModule(network, plan, loss, validating, frozen=frozen)
    of_task: dict[str, Any] = {
        "task": dataset.task,
        "keypoints": dataset.keypoints,
        "seed": config.seed,
        "processes": place.devices,
    }
    training = PictureDataset(
        samples,
        image_size=config.image_size,
        augment=config.augmentation,
        cache=config.cache,
        close_mosaic_from=config.epochs - config.close_mosaic,
        **of_task,
    )
    validation = PictureDataset(scored, image_size=config.image_size, cache=config.cache, **of_task)
    pin = accelerator == "cuda"
    writer = RunWriter(
        files,
        patience=config.patience,
        meta=lambda summary: meta_of(
            network.config,
            class_names=dataset.class_names,
            image_size=config.image_size,
            source="trained",
            weights_license=weights_license,
            training={**summary, "epochs": config.epochs, "batch": config.batch, "seed": config.seed},
            int8=None if form is None else form.facts,
        ),
        resumable=config.strategy != "deepspeed",
        on_step=on_step,
        on_epoch=on_epoch,
    )
    if place.rank == 0:
        _make_folder(files)  # all that may be refused was looked at
        with atomic_file(files.config) as temporary:
            temporary.write_bytes(config.to_json())
        draw_training_samples(training, dataset, files.samples)
        if on_start is not None:
            on_start(plan, None if state is not None else transfer)
    with other_processes(files.root, place, resumed=state is not None), quiet_lightning():
        trainer = L.Trainer(
            max_epochs=config.epochs,
            accelerator=accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=strategy_of(config, place),
            precision=precision,  # type: ignore[arg-type]
            callbacks=[writer],
            logger=L.pytorch.loggers.TensorBoardLogger(config.out, name="tensorboard", version=""),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=config.out,
        )
        ranks: dict[str, Any] = {"rank": place.rank, "world_size": place.processes, "pin": pin}
        loader = train_loader(training, batch_size=config.batch // place.processes, workers=config.workers, **ranks)
        if state is not None:
            # Lightning starts the first iterator before it tells the sampler the epoch.
            loader.sampler.set_epoch(torch.load(state, weights_only=True, mmap=True)["epoch"] + 1)  # type: ignore[attr-defined]
        explaining = explained(
            config,
            files,
            network=network,
            pictures=training,
            sampler=cast("EpochSampler", loader.sampler),
            dataset=dataset,
        )
        with interruptible(trainer), explaining:
            trainer.fit(
                module,
                loader,
                val_loader(validation, batch_size=turns.batch_size, workers=0, **ranks),
                ckpt_path=state,
                weights_only=True,
            )
    return TrainResult(
        files,
        best_epoch=writer.best_epoch,
        epochs=len(writer.rows),
        stalled=writer.stalled,
        had_ended=not writer.wrote,
        plan=plan,
    )


def _labelled(dataset: Dataset, split: str) -> list[Sample]:
    samples = dataset.samples(split)
    if not any(len(sample) for sample in samples):
        raise DatasetError(
            f"the split {split!r} of {dataset.path} has no labelled object",
            remedy="training learns from those of `train`, and chooses the best epoch by those of `val`",
        )
    return samples


def validation_batch(config: TrainConfig, images: int) -> int:
    """Return the pictures of a batch of validation, so small that each process has one.

    Raises:
        DatasetError: If there are more processes than pictures.
    """
    processes = config.devices * config.nodes
    if images < processes:
        raise DatasetError(
            f"there are {images} images to validate with and {processes} processes",
            expected="an image for each",
            remedy="train with fewer devices, or validate with more images",
        )
    return min(config.batch, images // processes)


def auto_batch(config: TrainConfig) -> BatchChoice:
    """Choose the images per step of a run by what a step takes of memory where it will be; see ``choose_batch``."""
    device, _ = choose_device(config)
    dataset = read_dataset(config.data, task=config.task)
    network, _ = make_network(config, dataset, None)
    return choose_batch(config, network, device=device, images=len(dataset.samples("train")))


def choose_device(config: TrainConfig) -> tuple[str, str]:
    """Return Lightning's names of the accelerator and the precision that the run asks for.

    Raises:
        BackendError: If this machine does not have them.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device: str = config.device
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[device]:
        have = ", ".join(name for name, there in present.items() if there)
        raise BackendError(f"device {device!r} is not to be had here", expected=f"one of {have}")
    if device == "cuda" and config.devices > torch.cuda.device_count():
        raise BackendError(
            f"{config.devices} devices are asked for and this machine has {torch.cuda.device_count()}",
            remedy="ask for as many as there are",
        )
    precision: str = config.precision
    sharded = config.strategy == "deepspeed"
    if sharded and (device != "cuda" or precision not in ("auto", "fp32")):
        raise BackendError(
            f"strategy 'deepspeed' does not train on {device!r} with precision {precision!r}",
            expected="cuda and fp32: it would keep all of the network, averages of batch norms too, in half precision",
        )
    if precision == "auto":
        precision = "fp32"
        if device == "cuda" and not sharded:
            precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if precision == "fp16" and device != "cuda":
        raise BackendError(f"precision 'fp16' does not train on {device!r}", expected="fp32 or bf16 there")
    return device, _LIGHTNING_PRECISION[precision]


@contextmanager
def interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Let an interrupt through, and end the process in order, with status 143, when the system asks for it.

    Lightning would exit with status 1 after an interrupt and go on ignoring the signal.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    ending = signal.getsignal(signal.SIGTERM)
    if main and ending in (signal.SIG_DFL, None):
        signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except SystemExit as error:
        if error.code == TERMINATED or not trainer.interrupted:
            raise
        raise KeyboardInterrupt from error
    except RuntimeError as error:  # the system told the loaders, too, and they were faster
        if _LOADER_ENDED not in str(error):
            raise
        raise SystemExit(TERMINATED) from error
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
            signal.signal(signal.SIGTERM, ending)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's notices and advice off the terminal; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
