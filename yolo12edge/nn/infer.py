"""Find out which YOLO12 a set of tensors belongs to, from their names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..errors import CheckpointError
from .config import ModelConfig

__all__ = ["HasShape", "infer_config"]

_LAST = "model.21."
_WIDTH_OF_SCALE = {16: "n", 32: "s", 96: "x"}  # output channels of layer 0; m and l share 64
_USUAL_MLP_RATIOS = (1.0, 1.2, 1.5, 2.0)


class HasShape(Protocol):
    """A tensor, or what is known of one before it is read."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sizes."""
        ...


def infer_config(tensors: Mapping[str, HasShape], *, areas: tuple[int, int]) -> ModelConfig:
    """Return the configuration of the detector that a public state dict belongs to.

    MLP ratio and residual are read from the shapes and not taken from the scale, because published
    models of one scale differ in them. Shapes that are not looked at here are left for the comparison
    with the built model.

    Args:
        tensors: Public key to anything with a shape.
        areas: Token runs of attention at P4 and P5, which no shape shows.

    Raises:
        CheckpointError: If they are not those of a YOLO12 detector.
    """
    _refuse_other_models(tensors)
    first = "model.6.m.0.0."
    return ModelConfig(
        scale=_scale(tensors),
        variant="v1" if first + "attn.qkv.conv.weight" in tensors else "turbo",
        num_classes=_size(tensors, _LAST + "cv3.0.2.weight", 0),
        mlp_ratio=_mlp_ratio(tensors),
        residual="model.6.gamma" in tensors,
        areas=areas,
    )


def _refuse_other_models(tensors: Mapping[str, HasShape]) -> None:
    if not any(f"model.6.m.0.0.attn.{name}.conv.weight" in tensors for name in ("qkv", "qk")):
        raise CheckpointError(
            "the tensors are not those of a YOLO12 model: there is no area attention at layer 6",
            expected="a YOLO12 detector of scale n, s, m, l or x",
            remedy="other generations of YOLO cannot be read; train a YOLO12 on your data instead",
        )
    if "model.0.conv.bias" in tensors or "model.0.bn.weight" not in tensors:
        raise CheckpointError(
            "the batch norms of the model are folded into its convolutions",
            remedy="give the checkpoint as it was trained, before it was fused for deployment",
        )
    task = _task(tensors)
    if task != "detect":
        raise CheckpointError(
            f"the model is made for {task}", expected="a detector: this version of yolo12edge supports only detect"
        )


def _task(tensors: Mapping[str, HasShape]) -> str:
    if "model.9.linear.weight" in tensors:
        return "classify"
    if any(key.startswith(_LAST + "proto.") for key in tensors):
        return "segment"
    if any(key.startswith(_LAST + "cv4.") for key in tensors):
        return "obb" if _size(tensors, _LAST + "cv4.0.2.weight", 0) == 1 else "pose"
    return "detect"


def _scale(tensors: Mapping[str, HasShape]) -> str:
    width = _size(tensors, "model.0.conv.weight", 0)
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
        sizes.append((_size(tensors, key, 0), _size(tensors, key, 1)))
    hidden, width = sizes[-1]
    for ratio in (*_USUAL_MLP_RATIOS, hidden / max(width, 1)):
        if all(int(channels * ratio) == wanted for wanted, channels in sizes):
            return ratio
    raise CheckpointError(
        f"the attention MLPs have {sizes[0][0]} of {sizes[0][1]} and {hidden} of {width} hidden channels",
        expected="one ratio in all of them",
    )


def _size(tensors: Mapping[str, HasShape], key: str, axis: int) -> int:
    tensor = tensors.get(key)
    if tensor is None or axis >= len(tensor.shape):
        raise CheckpointError(
            f"the tensor {key!r} {'is missing' if tensor is None else f'has shape {tuple(tensor.shape)}'}",
            expected="the tensors of a whole YOLO12 detector",
        )
    return int(tensor.shape[axis])
