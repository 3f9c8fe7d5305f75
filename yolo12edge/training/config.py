"""``TrainConfig``: all that decides a training run; stored with it, so that it can be resumed exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..data.augment import AugmentConfig
from ..errors import InputError
from ..manifest import TASKS, Task
from ..nn.config import SCALES, VARIANTS
from .losses.common import LossGains

__all__ = ["CONFIG_NAME", "TrainConfig", "augment_preset"]

CONFIG_NAME = "config.json"

# Recipe by scale: affine zoom and mixup grow with the model, which would overfit otherwise.
_ZOOM = {"n": 0.5, "s": 0.9, "m": 0.9, "l": 0.9, "x": 0.9}
_MIXUP = {"n": 0.0, "s": 0.05, "m": 0.15, "l": 0.15, "x": 0.2}


def augment_preset(scale: str) -> AugmentConfig:
    """Return the published augmentation strength of a model scale."""
    return AugmentConfig(scale=_ZOOM[scale], mixup=_MIXUP[scale])


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run.

    Attributes:
        data: The dataset: its ``data.yaml``, or a folder.
        out: Directory of the run; must not hold another run.
        task: What to train for; None means what the dataset is labelled for.
        scale: Model scale, n to x.
        variant: Model variant, ``v1`` or ``turbo``.
        weights: Checkpoint to start from; tensors of equal name and shape are taken over.
        epochs: Passes over the training split.
        batch: Images per step.
        image_size: Side of the square input in pixels, a multiple of 32.
        optimizer: ``auto`` means AdamW for up to 10,000 steps and SGD above.
        lr: Initial learning rate; None means the optimizer's own (AdamW 0.002 * 5 / (4 + classes), SGD 0.01).
        final_lr: Last learning rate over the first.
        schedule: How the learning rate falls in between.
        momentum: Momentum of SGD, first beta of AdamW.
        weight_decay: At 64 images per optimizer step; scaled with their true number.
        nominal_batch: Images per optimizer step; gradients of smaller batches are accumulated. None means 64, or
            ``batch`` where the run would have fewer than 2,000 optimizer steps.
        warmup_epochs: Epochs (at least 100 steps) over which learning rate, momentum and accumulation ramp up.
        warmup_momentum: Momentum at the start of the warm-up.
        warmup_bias_lr: Learning rate of biases at the start of the warm-up.
        clip_norm: Largest gradient norm.
        close_mosaic: Last epochs without mosaic and mixup.
        patience: Epochs without a better validation result after which training stops.
        gains: Weights of the loss parts.
        label_smoothing: Share of the truth that is spread over all classes; classify only.
        augment: Augmentation; None means the preset of the scale.
        seed: Seed of initialisation, order and augmentation; the same seed gives the same run on the same machine.
        workers: Loader processes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; the device asked for is used or it is an error.
        precision: ``auto`` means bf16 on a CUDA device that has it, fp16 on other CUDA devices, fp32 elsewhere.

    Raises:
        InputError: If a value is out of its range.
    """

    data: Path
    out: Path
    task: Task | None = None
    scale: str = "n"
    variant: str = "v1"
    weights: Path | None = None
    epochs: int = 100
    batch: int = 16
    image_size: int = 640
    optimizer: Literal["auto", "adamw", "sgd"] = "auto"
    lr: float | None = None
    final_lr: float = 0.01
    schedule: Literal["linear", "cosine"] = "linear"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nominal_batch: int | None = None
    warmup_epochs: float = 3.0
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.0
    clip_norm: float = 10.0
    close_mosaic: int = 10
    patience: int = 100
    gains: LossGains = field(default_factory=LossGains)
    label_smoothing: float = 0.0
    augment: AugmentConfig | None = None
    seed: int = 0
    workers: int = 2
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str | None, ...]] = {
            "task": (None, *TASKS),
            "scale": tuple(SCALES),
            "variant": VARIANTS,
            "optimizer": ("auto", "adamw", "sgd"),
            "schedule": ("linear", "cosine"),
            "device": ("auto", "cpu", "cuda", "mps"),
            "precision": ("auto", "fp32", "fp16", "bf16"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}", expected=f"one of {', '.join(filter(None, allowed))}")
        least: dict[str, float] = {
            "epochs": 1,
            "batch": 1,
            "image_size": 64,  # at 32 the last map has one cell, too few for a batch norm on one image
            "final_lr": 0,
            "momentum": 0,
            "weight_decay": 0,
            "warmup_epochs": 0,
            "warmup_momentum": 0,
            "warmup_bias_lr": 0,
            "clip_norm": 1e-9,
            "close_mosaic": 0,
            "patience": 1,
            "label_smoothing": 0,
            "seed": 0,
            "workers": 0,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            if not value >= minimum:  # also refuses NaN
                raise InputError(f"{name} is {value}", expected=f"at least {minimum:g}")
        for name in ("lr", "nominal_batch"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}", expected="more than 0")
        for name in ("momentum", "label_smoothing"):
            if getattr(self, name) >= 1:
                raise InputError(f"{name} is {getattr(self, name)}", expected="less than 1")
        if self.image_size % 32:
            raise InputError(f"image_size is {self.image_size}", expected="a multiple of 32")

    @property
    def augmentation(self) -> AugmentConfig:
        """The augmentation that is used."""
        return self.augment or augment_preset(self.scale)

    def to_json(self) -> bytes:
        """Return the configuration as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self, enc_hook=_encode), indent=2) + b"\n"

    @classmethod
    def of_run(cls, root: Path) -> TrainConfig:
        """Read the configuration that a run's directory holds.

        Raises:
            InputError: If the directory holds no run, or its configuration is damaged.
        """
        file = root / CONFIG_NAME
        if not file.is_file():
            raise InputError(f"{root} is not a training run", expected=f"a directory with {CONFIG_NAME}")
        try:
            return msgspec.json.decode(file.read_bytes(), type=cls, dec_hook=_decode)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{file} is not a training configuration: {error}", remedy="start a new run") from error


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind.__name__)
