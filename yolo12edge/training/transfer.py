"""Starting from other weights: what is taken by name and shape, class rows by class name, and layers that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from ..checkpoint import Checkpoint, CheckpointMeta
from ..data.dataset import Dataset
from ..errors import CheckpointError, InputError
from ..nn import YOLO12, ModelConfig, build_model
from ..nn.model import BACKBONE_LAYERS
from .config import TrainConfig

if TYPE_CHECKING:
    from .pretraining import PretrainConfig

__all__ = ["Transfer", "freeze", "make_network", "model_config", "refuse_other_network", "transfer_weights"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """Which tensors a run took from a checkpoint.

    Attributes:
        taken: Keys that were taken whole.
        remapped: Keys of which the rows of shared classes were taken, each to its class's own place.
        skipped: Keys that start afresh: the checkpoint does not have them in that shape.
        known: Classes whose rows were taken.
        new: Classes whose rows start afresh, in remapped tensors.
    """

    taken: list[str]
    remapped: list[str]
    skipped: list[str]
    known: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Say it in lines for people."""
        count = len(self.taken) + len(self.remapped) + len(self.skipped)
        lines = [f"{len(self.taken)} of {count} tensors taken over"]
        if self.remapped:
            fresh = f", {_some(self.new)} new" if self.new else ""
            lines.append(f"{len(self.remapped)} tensors by class name: {_some(self.known)} taken over{fresh}")
        if self.skipped:
            lines.append(f"{len(self.skipped)} tensors start afresh: {_some(self.skipped)}")
        return lines


def model_config(config: TrainConfig, dataset: Dataset) -> ModelConfig:
    """Return the network of a run that starts from no weights."""
    return ModelConfig(
        task=dataset.task,
        scale=config.scale,
        variant=config.variant,
        num_classes=len(dataset.class_names),
        keypoints=dataset.keypoints,
        multi_label=dataset.multi_label,
    )


def make_network(config: TrainConfig, dataset: Dataset, origin: Checkpoint | None) -> tuple[YOLO12, Transfer | None]:
    """Build the network of a run, from a checkpoint's weights where there is one; its task may be another.

    Raises:
        CheckpointError: If the checkpoint is of another scale or variant.
    """
    made = model_config(config, dataset)
    if origin is None:
        return build_model(made), None
    meta = origin.meta
    refuse_other_network(meta, config)
    start = origin.config()
    network = build_model(
        replace(made, mlp_ratio=start.mlp_ratio, residual=start.residual, areas=start.areas, bn_eps=start.bn_eps)
    )
    return network, transfer_weights(network, origin.tensors, (meta.class_names, dataset.class_names))


def refuse_other_network(meta: CheckpointMeta, config: TrainConfig | PretrainConfig) -> None:
    """Refuse to start a run from weights of another network.

    Raises:
        CheckpointError: If the checkpoint is of another scale or variant.
    """
    if (meta.scale, meta.variant) != (config.scale, config.variant):
        raise CheckpointError(
            f"{config.weights} holds YOLO12{meta.scale} {meta.variant}",
            expected=f"YOLO12{config.scale} {config.variant}, as the run asks for",
            remedy=f"pass --model {meta.scale} --variant {meta.variant}, or other weights",
        )


def transfer_weights(
    network: YOLO12, tensors: Mapping[str, Tensor], classes: tuple[Sequence[str], Sequence[str]] | None = None
) -> Transfer:
    """Copy tensors of equal name and shape into a network.

    In the layers that have a row for each class, rows go by the name of the class; where no class is shared, those
    layers start afresh.

    Args:
        network: Where to.
        tensors: What from.
        classes: Class names of the tensors and of the network; None if classes are the same, or do not matter.
    """
    mine = network.state_dict()
    changed = {key: tensors[key] for key, own in mine.items() if key in tensors and tensors[key].shape == own.shape}
    remapped: list[str] = []
    found: dict[int, int] = {}
    if classes is not None and list(classes[0]) != list(classes[1]):
        found = match_names(*classes)
        for layer in _class_layers(network):
            keys = [f"{layer}.weight", f"{layer}.bias"]
            for key in keys:
                changed.pop(key, None)
            # All of a row or nothing: the bias of a class is worth nothing without its weights.
            if found and all(key in tensors and tensors[key].shape[1:] == mine[key].shape[1:] for key in keys):
                changed |= {key: _with_rows(mine[key], tensors[key], found) for key in keys}
                remapped += keys
    network.load_state_dict(changed, strict=False)
    names = classes[1] if classes is not None and remapped else ()
    known, new = (tuple(name for i, name in enumerate(names) if (i in found) is had) for had in (True, False))
    taken = [key for key in changed if key not in remapped]
    return Transfer(taken, remapped, [key for key in mine if key not in changed], known, new)


def _with_rows(mine: Tensor, theirs: Tensor, found: Mapping[int, int]) -> Tensor:
    changed = mine.clone()
    changed[list(found)] = theirs[list(found.values())].to(mine)
    return changed


def match_names(theirs: Sequence[str], mine: Sequence[str]) -> dict[int, int]:
    """Return the index of each of my names that the others have, and its index there.

    Names that differ in case alone match where none matches exactly.
    """
    exact = {name: index for index, name in enumerate(theirs)}
    loose = {name.casefold().strip(): index for name, index in reversed(exact.items())}
    found = {index: exact.get(name, loose.get(name.casefold().strip())) for index, name in enumerate(mine)}
    return {index: at for index, at in found.items() if at is not None}


def freeze(network: YOLO12, which: Literal["backbone", "all-but-head"] | int) -> list[nn.Module]:
    """Take layers out of the training.

    Their batch norms must go on using the averages that they have: set what is returned to evaluation mode whenever the
    network was set to training mode.

    Args:
        network: Where the layers are.
        which: The backbone, all layers but the head, or so many first ones.

    Returns:
        The frozen layers.

    Raises:
        InputError: If nothing would be left to train.
    """
    layers = list(network.model)
    count = {"backbone": BACKBONE_LAYERS, "all-but-head": len(layers) - 1}[which] if isinstance(which, str) else which
    if count >= len(layers):
        raise InputError(
            f"freeze is {which} and the network has {len(layers)} layers: nothing is left to train",
            expected=f"at most {len(layers) - 1}, which leaves the head",
        )
    frozen = layers[:count]
    for layer in frozen:
        layer.requires_grad_(False).eval()
    return frozen


def _class_layers(network: YOLO12) -> list[str]:
    """Return the names of layers whose rows belong to classes."""
    return [f"model.{len(network.model) - 1}.{name}" for name in network.head.class_layers]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
