"""``Int8Form``: what makes a training run quantization-aware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..checkpoint.metadata import Int8Facts
    from ..nn import YOLO12
    from .config import TrainConfig

__all__ = ["Int8Form", "in_form"]


@dataclass(frozen=True, slots=True)
class Int8Form:
    """The INT8 form that a network is trained in.

    Attributes:
        facts: What its checkpoints say of it.
        apply: Puts a network into the form; its parameters stay those that it has, with learned ranges beside them.
    """

    facts: Int8Facts
    apply: Callable[[YOLO12], YOLO12]


def in_form(network: YOLO12, form: Int8Form | None, config: TrainConfig, *, resumed: Checkpoint | None) -> YOLO12:
    """Return the network in the form that it is to be trained in.

    Args:
        network: As it was built.
        form: None for ordinary training.
        config: The run.
        resumed: The last checkpoint of the run, where one is resumed.

    Raises:
        InputError: If the resumed run was quantization-aware and this one is not, or the other way round; or if a
            setting is nothing for the form.
    """
    began = None if resumed is None else resumed.meta.int8
    if resumed is not None and (began is None) != (form is None):
        command = "train" if began is None else "qat"
        raise InputError(
            f"the run {'trains ordinarily' if began is None else 'learns the ranges of INT8'}",
            remedy=f"resume it with `yolo12edge {command} --resume`",
        )
    if form is None:
        return network
    reasons = {
        "several processes": (config.devices * config.nodes > 1, "the others do not know the ranges"),
        "dropout": (config.dropout > 0 or config.dropblock > 0, "the graph of the artifact drops nothing"),
        "multi_scale": (config.multi_scale > 0, "the ranges are learned for one size"),
        f"image_size {config.image_size}": (
            config.image_size != form.facts.image_size,
            f"the ranges are for {form.facts.image_size}",
        ),
    }
    for setting, (given, why) in reasons.items():
        if given:
            raise InputError(
                f"{setting} is nothing for quantization-aware training: {why}", remedy="leave it out of this run"
            )
    return form.apply(network)
