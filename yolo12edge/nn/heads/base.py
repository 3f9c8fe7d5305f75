"""``Head``: what the head of every task is to the network, the deploy form and the reading of foreign weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ...errors import CheckpointError
from ..config import ModelConfig

__all__ = ["HasShape", "Head", "size_of"]


class HasShape(Protocol):
    """A tensor, or what is known of one before it is read."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sizes."""
        ...


class Head(nn.Module):
    """The last layer of a network. Its ``forward`` maps feature maps to what the task's loss takes.

    Names of tensors below are those of the head alone: ``cv2.0.2.bias``.

    Attributes:
        class_layers: Names of the layers whose rows belong to one class each, in the order of the classes.
    """

    class_layers: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def build(cls, channels: Sequence[int], config: ModelConfig) -> Head:
        """Return an untrained head for feature maps of so many channels."""

    @classmethod
    @abstractmethod
    def claims(cls, tensors: Mapping[str, HasShape]) -> bool:
        """Return whether these tensors are those of a head of this kind, and of no other."""

    @classmethod
    @abstractmethod
    def fields(cls, tensors: Mapping[str, HasShape]) -> dict[str, Any]:
        """Return the fields of ``ModelConfig`` that the shapes of these tensors tell.

        Raises:
            CheckpointError: If a tensor is missing or of another rank.
        """

    @abstractmethod
    def decode(self, output: Any) -> dict[str, Tensor]:
        """Return the outputs by their roles in a manifest (see ``OutputSpec``), from what ``forward`` gives."""


def size_of(tensors: Mapping[str, HasShape], key: str, axis: int) -> int:
    """Return one size of a tensor.

    Raises:
        CheckpointError: If there is no such tensor or axis.
    """
    tensor = tensors.get(key)
    if tensor is None or axis >= len(tensor.shape):
        raise CheckpointError(
            f"the tensor {key!r} {'is missing' if tensor is None else f'has shape {tuple(tensor.shape)}'}",
            expected="the tensors of a whole YOLO12 model",
        )
    return int(tensor.shape[axis])
