"""``TrainConfig``: all that decides a training run; stored with it, so that it can be resumed exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import msgspec

from ..data.augment import Augmentation, default_augmentation
from ..data.cache import Cache
from ..errors import InputError
from ..manifest import TASKS, Task
from ..nn.config import SCALES, VARIANTS
from .losses.common import LossGains

__all__ = ["CONFIG_NAME", "TrainConfig", "from_json", "from_plain", "json_of"]

CONFIG_NAME = "config.json"

Config = TypeVar("Config")

Optimizer = Literal["auto", "adamw", "sgd", "adam", "lamb"]
Schedule = Literal["linear", "cosine", "one-cycle", "cyclical", "step", "exponential", "plateau"]
RISING = ("one-cycle", "cyclical")
"""Schedules whose learning rate rises by itself before it falls."""


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
        freeze: What of the network stays as it is: ``backbone``, ``all-but-head``, or so many first layers.
        teacher: Checkpoint of the same task and classes that the network learns to imitate, beside the labels.
        distill: Weight of what is learnt from the teacher.
        epochs: Passes over the training split.
        batch: Images per step.
        image_size: Side of the square input in pixels, a multiple of 32.
        multi_scale: Share by which the side varies from step to step, in multiples of 32; 0 is always ``image_size``.
        optimizer: ``auto`` means AdamW for up to 10,000 steps and SGD above.
        lr: Initial learning rate (the highest, where it rises and falls); None means the optimizer's own: AdamW and
            Adam 0.002 * 5 / (4 + classes), SGD 0.01, LAMB 0.005.
        final_lr: Last learning rate over the first.
        schedule: How the learning rate falls in between; see ``optim.Plan``.
        momentum: Momentum of SGD, first beta of AdamW.
        weight_decay: At 64 images per optimizer step; scaled with their true number.
        nominal_batch: Images per optimizer step; gradients of smaller batches are accumulated. None means 64, or
            ``batch`` where the run would have fewer than 2,000 optimizer steps.
        warmup_epochs: Epochs (at least 100 steps) over which learning rate, momentum and accumulation ramp up. None
            means 3, or 0 for a schedule that rises by itself: ``one-cycle`` and ``cyclical``.
        warmup_momentum: Momentum at the start of the warm-up.
        warmup_bias_lr: Learning rate of biases at the start of the warm-up.
        clip_norm: Largest gradient norm.
        close_mosaic: Last epochs without mosaic and mixup.
        patience: Epochs without a better validation result after which training stops.
        gains: Weights of the loss parts.
        iou: How the overlap of upright boxes is measured by the loss.
        focal: Exponent by which the class loss turns from easy examples; 0 is the plain loss.
        class_weights: Weight of each class in the class loss, in the order of the dataset, or ``balanced`` from how
            often each is labelled; None weighs all alike.
        label_smoothing: Share of the truth that is spread over all classes; classify only.
        dropout: Share of feature maps that is dropped, as a whole each, in training.
        dropblock: Share of the area of feature maps that is dropped, in blocks, in training.
        augment: What training pictures go through; None means the published recipe of the scale.
        seed: Seed of initialisation, order and augmentation; the same seed gives the same run on the same machine.
        workers: Loader processes.
        cache: Where decoded, resized pictures are kept: ``ram``, ``disk`` or nowhere (``none``); ``auto`` is memory
            if they fit in 30 % of what is free.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; the device asked for is used or it is an error.
        devices: Devices of each machine; the images of a step are shared out among all.
        nodes: Machines.
        strategy: How several devices work together; ``auto`` is ``ddp``.
        sync_bn: Whether batch norms take their figures from all devices.
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
    freeze: Literal["backbone", "all-but-head"] | int | None = None
    teacher: Path | None = None
    distill: float = 1.0
    epochs: int = 100
    batch: int = 16
    image_size: int = 640
    multi_scale: float = 0.0
    optimizer: Optimizer = "auto"
    lr: float | None = None
    final_lr: float = 0.01
    schedule: Schedule = "linear"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nominal_batch: int | None = None
    warmup_epochs: float | None = None
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.0
    clip_norm: float = 10.0
    close_mosaic: int = 10
    patience: int = 100
    gains: LossGains = field(default_factory=LossGains)
    iou: Literal["ciou", "diou", "giou"] = "ciou"
    focal: float = 0.0
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    label_smoothing: float = 0.0
    dropout: float = 0.0
    dropblock: float = 0.0
    augment: Augmentation | None = None
    seed: int = 0
    workers: int = 2
    cache: Cache = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["auto", "ddp", "deepspeed"] = "auto"
    sync_bn: bool = False

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_ranges()
        self._check_together()

    def _check_choices(self) -> None:
        choices: dict[str, tuple[str | None, ...]] = {
            "task": (None, *TASKS),
            "scale": tuple(SCALES),
            "variant": VARIANTS,
            "optimizer": get_args(Optimizer),
            "schedule": get_args(Schedule),
            "iou": ("ciou", "diou", "giou"),
            "cache": get_args(Cache),
            "device": ("auto", "cpu", "cuda", "mps"),
            "precision": ("auto", "fp32", "fp16", "bf16"),
            "strategy": ("auto", "ddp", "deepspeed"),
        }
        if isinstance(self.freeze, str):
            choices["freeze"] = ("backbone", "all-but-head")
        if isinstance(self.class_weights, str):
            choices["class_weights"] = ("balanced",)
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}", expected=f"one of {', '.join(filter(None, allowed))}")

    def _check_ranges(self) -> None:
        least: dict[str, float] = {
            "epochs": 1,
            "batch": 1,
            "image_size": 64,  # at 32 the last map has one cell, too few for a batch norm on one image
            "multi_scale": 0,
            "final_lr": 0,
            "momentum": 0,
            "weight_decay": 0,
            "warmup_epochs": 0,
            "warmup_momentum": 0,
            "warmup_bias_lr": 0,
            "clip_norm": 1e-9,
            "close_mosaic": 0,
            "patience": 1,
            "focal": 0,
            "label_smoothing": 0,
            "dropout": 0,
            "dropblock": 0,
            "distill": 1e-9,
            "seed": 0,
            "workers": 0,
            "devices": 1,
            "nodes": 1,
        }
        if isinstance(self.freeze, int):
            least["freeze"] = 1
        if not isinstance(self.batch, int):
            raise InputError(f"batch is {self.batch!r}", expected="a number; `yolo12edge train` alone finds one itself")
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and not value >= minimum:  # also refuses NaN
                raise InputError(f"{name} is {value}", expected=f"at least {minimum:g}")
        for name in ("lr", "nominal_batch"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}", expected="more than 0")
        for name in ("momentum", "label_smoothing", "multi_scale", "dropout", "dropblock"):
            if getattr(self, name) >= 1:
                raise InputError(f"{name} is {getattr(self, name)}", expected="less than 1")
        if isinstance(self.class_weights, tuple) and not all(0 < weight < inf for weight in self.class_weights):
            raise InputError(f"class_weights are {self.class_weights}", expected="each more than 0")
        if self.image_size % 32:
            raise InputError(f"image_size is {self.image_size}", expected="a multiple of 32")

    def _check_together(self) -> None:
        """Refuse settings that contradict each other."""
        if self.freeze is not None and self.weights is None:
            raise InputError(
                f"freeze is {self.freeze} and there are no weights to keep", remedy="name weights, or leave freeze out"
            )
        if self.distill != 1 and self.teacher is None:
            raise InputError(f"distill is {self.distill} and there is no teacher", remedy="name one, or leave it out")
        if self.multi_scale and len(self.sides) == 1:
            raise InputError(
                f"multi_scale is {self.multi_scale} and image_size is {self.image_size}: no other side is in reach",
                remedy=f"multi_scale of at least {32 / self.image_size:.3g}, or 0",
            )
        if self.warmup_epochs and self.schedule in RISING:
            raise InputError(
                f"warmup_epochs is {self.warmup_epochs:g} and the schedule is {self.schedule}, which rises by itself",
                remedy="leave warmup_epochs out",
            )
        if self.schedule in ("exponential", "step") and self.final_lr == 0:
            raise InputError(
                f"final_lr is 0 and the schedule is {self.schedule}, which falls by a factor",
                expected="more than 0, such as 0.01",
            )
        if self.devices * self.nodes > 1 and self.device == "mps":
            raise InputError("the device is mps, which is one, and several are asked for", remedy="devices: 1")

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the input in pixels that training uses."""
        reach = int(self.multi_scale * self.image_size / 32) * 32
        return tuple(range(max(64, self.image_size - reach), self.image_size + reach + 1, 32))

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation that is used."""
        if self.augment is not None:
            return self.augment
        return default_augmentation(self.scale, self.task or "detect")

    def to_json(self) -> bytes:
        """Return the configuration as indented JSON."""
        return json_of(self)

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
            return from_json(file.read_bytes(), cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{file} is not a training configuration: {error}", remedy="start a new run") from error


def from_plain(value: Any, kind: Any, *, strict: bool = True) -> Any:
    """Make a value of a type from what JSON and YAML have; see ``msgspec.convert``."""
    return msgspec.convert(value, kind, strict=strict, dec_hook=_decode)


def json_of(config: Any) -> bytes:
    """Return a configuration of a run, paths included, as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(config, enc_hook=_encode), indent=2) + b"\n"


def from_json(content: bytes, kind: type[Config]) -> Config:
    """Read what ``json_of`` gave; see ``msgspec.json.decode`` for what it raises."""
    return msgspec.json.decode(content, type=kind, dec_hook=_decode)


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind.__name__)
