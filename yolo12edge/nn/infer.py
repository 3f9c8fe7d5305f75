"""Find out which YOLO12 a set of tensors belongs to, from their names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from ..manifest import Task
from .config import TRAITS, ModelConfig
from .heads import HEADS
from .heads.base import HasShape, size_of

__all__ = ["HasShape", "infer_config"]

_WIDTH_OF_SCALE = {16: "n", 32: "s", 96: "x"}  # output channels of layer 0; m and l share 64
_USUAL_MLP_RATIOS = (1.0, 1.2, 1.5, 2.0)


def infer_config(tensors: Mapping[str, HasShape], *, areas: tuple[int, int] | None = None) -> ModelConfig:
    """Return the configuration of the model that a public state dict belongs to.

    MLP ratio and residual are read from the shapes and not taken from the scale, because published
    models of one scale differ in them. Shapes that are not looked at here are left for the comparison
    with the built model.

    Args:
        tensors: Public key to anything with a shape.
        areas: Token runs of attention at P4 and P5, which no shape shows; None takes those of the public models.

    Raises:
        CheckpointError: If they are not those of a YOLO12 model.
    """
    _refuse_other_models(tensors)
    task, fields = _head(tensors)
    if areas is not None:
        fields["areas"] = areas
    return ModelConfig(
        task=task,
        scale=_scale(tensors),
        variant="v1" if "model.6.m.0.0.attn.qkv.conv.weight" in tensors else "turbo",
        mlp_ratio=_mlp_ratio(tensors),
        residual="model.6.gamma" in tensors,
        **fields,
    )


def _refuse_other_models(tensors: Mapping[str, HasShape]) -> None:
    if not any(f"model.6.m.0.0.attn.{name}.conv.weight" in tensors for name in ("qkv", "qk")):
        raise CheckpointError(
            "the tensors are not those of a YOLO12 model: there is no area attention at layer 6",
            expected="a YOLO12 of scale n, s, m, l or x",
            remedy="other generations of YOLO cannot be read; train a YOLO12 on your data instead",
        )
    if "model.0.conv.bias" in tensors or "model.0.bn.weight" not in tensors:
        raise CheckpointError(
            "the batch norms of the model are folded into its convolutions",
            remedy="give the checkpoint as it was trained, before it was fused for deployment",
        )


def _head(tensors: Mapping[str, HasShape]) -> tuple[Task, dict[str, Any]]:
    """Return the task and the fields of its configuration that the head's shapes tell."""
    for task, head in HEADS.items():
        prefix = f"model.{TRAITS[task].head}."
        mine = {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        if mine and head.claims(mine):
            try:
                return task, head.fields(mine)
            except CheckpointError as error:
                raise CheckpointError(f"{error.fact} in {prefix[:-1]}", expected=error.expected) from error
    raise CheckpointError("the model has no head", expected=f"one for {', '.join(HEADS)}")


def _scale(tensors: Mapping[str, HasShape]) -> str:
    width = size_of(tensors, "model.0.conv.weight", 0)
    if width == 64:
        return "l" if any(key.startswith("model.6.m.2.") for key in tensors) else "m"
    scale = _WIDTH_OF_SCALE.get(width)
    if scale is None:
        raise CheckpointError(
            f"layer 0 has {width} output channels", expected="16, 32, 64 or 96, as the scales n, s, m / l and x have"
        )
    return scale


def _mlp_ratio(tensors: Mapping[str, HasShape]) -> float:
    sizes = []
    for layer in (6, 8):
        key = f"model.{layer}.m.0.0.mlp.0.conv.weight"
        sizes.append((size_of(tensors, key, 0), size_of(tensors, key, 1)))
    hidden, width = sizes[-1]
    for ratio in (*_USUAL_MLP_RATIOS, hidden / max(width, 1)):
        if all(int(channels * ratio) == wanted for wanted, channels in sizes):
            return ratio
    raise CheckpointError(
        f"the attention MLPs have {sizes[0][0]} of {sizes[0][1]} and {hidden} of {width} hidden channels",
        expected="one ratio in all of them",
    )
