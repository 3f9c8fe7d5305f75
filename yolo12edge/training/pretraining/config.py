"""``PretrainConfig``: all that decides a pretraining run; stored with it, so that it can be resumed exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ...errors import InputError
from ...nn.config import SCALES, VARIANTS
from ..config import from_json, json_of

__all__ = ["Method", "PretrainConfig"]

Method = Literal["simclr", "byol", "jigsaw", "rotation", "inpainting", "colourisation"]


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """One pretraining run.

    Attributes:
        data: A folder of pictures, or a dataset, of which only the pictures of ``train`` are looked at.
        out: Directory of the run; must not hold another run.
        method: What the backbone learns by.
        scale: Model scale, n to x.
        variant: Model variant, ``v1`` or ``turbo``.
        weights: Checkpoint to start from; None starts from random weights.
        held_out: A labelled dataset: no picture of its ``val`` and ``test``, nor a copy of one, is learnt from.
        epochs: Passes over the pictures.
        batch: Pictures per step; what the contrastive methods compare with one another.
        image_size: Side of the square input in pixels, a multiple of 32.
        lr: Highest learning rate, of AdamW; it rises over the first tenth of the run and falls as a cosine.
        weight_decay: Of weights that are not biases or of norms.
        seed: Seed of initialisation, order and views; the same seed gives the same run on the same machine.
        workers: Loader processes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; the device asked for is used or it is an error.
        precision: ``auto`` means bf16 on a CUDA device that has it, fp16 on other CUDA devices, fp32 elsewhere.

    Raises:
        InputError: If a value is out of its range.
    """

    data: Path
    out: Path
    method: Method = "simclr"
    scale: str = "n"
    variant: str = "v1"
    weights: Path | None = None
    held_out: Path | None = None
    epochs: int = 100
    batch: int = 64
    image_size: int = 224
    lr: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0
    workers: int = 2
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "method": get_args(Method),
            "scale": tuple(SCALES),
            "variant": VARIANTS,
            "device": ("auto", "cpu", "cuda", "mps"),
            "precision": ("auto", "fp32", "fp16", "bf16"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}", expected=f"one of {', '.join(allowed)}")
        least = {"epochs": 1, "batch": 2, "image_size": 64, "lr": 1e-9, "weight_decay": 0, "seed": 0, "workers": 0}
        if self.method == "jigsaw":
            least["image_size"] = 96  # nine tiles of 32 pixels
        for name, minimum in least.items():
            if not getattr(self, name) >= minimum:  # also refuses NaN
                raise InputError(f"{name} is {getattr(self, name)}", expected=f"at least {minimum:g}")
        if self.image_size % 32:
            raise InputError(f"image_size is {self.image_size}", expected="a multiple of 32")

    def to_json(self) -> bytes:
        """Return the configuration as indented JSON."""
        return json_of(self)

    @classmethod
    def read(cls, file: Path) -> PretrainConfig:
        """Read what ``to_json`` gave.

        Raises:
            InputError: If the file is missing, damaged, or of another kind of run.
        """
        try:
            return from_json(file.read_bytes(), cls)
        except OSError as error:
            raise InputError(
                f"{file.parent} is not a pretraining run", expected=f"a directory with {file.name}"
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{file} is not the configuration of a pretraining run: {error}",
                remedy="runs of `train` go on with `train --resume`; otherwise start a new run",
            ) from error
