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


def in_form(network: YOLO12, form: Int8Form | None, *, resumed: Checkpoint | None) -> YOLO12:
    """Return the network in the form that it is to be trained in.

    Args:
        network: As it was built.
        form: None for ordinary training.
        resumed: The last checkpoint of the run, where one is resumed.

    Raises:
        InputError: If the resumed run was quantization-aware and this one is not, or the other way round.
    """
    began = None if resumed is None else resumed.meta.int8
    if resumed is not None and (began is None) != (form is None):
        command = "train" if began is None else "qat"
        raise InputError(
            f"the run {'trains ordinarily' if began is None else 'learns the ranges of INT8'}",
            remedy=f"resume it with `yolo12edge {command} --resume`",
        )
    return network if form is None else form.apply(network)
