"""``Checkpoint``: weights and metadata of one model, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import CheckpointError
from ..files import atomic_file
from ..nn import YOLO12, ModelConfig, build_model
from ..nn.infer import HasShape
from .metadata import INT8_PREFIX, METADATA_KEY, CheckpointMeta, Int8Facts, not_a_model, read_header

__all__ = ["Checkpoint", "check_finite", "check_tensors", "meta_of"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights and metadata.

    Attributes:
        meta: What the weights alone do not tell.
        tensors: Public state-dict key to tensor, floating ones float32, on the CPU.
    """

    meta: CheckpointMeta
    tensors: dict[str, Tensor]

    def save(self, path: Path | str, *, half: bool = False) -> None:
        """Write the checkpoint, atomically.

        Args:
            path: A file that ends in ``.safetensors``; replaced if it exists.
            half: Store floating tensors as float16, at half the size.

        Raises:
            CheckpointError: If the name has another ending, or a value is not finite (in float16).
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path.name} does not end in .safetensors", remedy="give the file that ending")
        dtype = torch.float16 if half else torch.float32
        stored = {key: _stored(tensor, dtype) for key, tensor in self.tensors.items()}
        check_finite(stored, f"the model to be saved as {path.name}{' in float16' if half else ''}")
        with atomic_file(path) as temporary:
            # One metadata key only: safetensors writes several in random order, and the file's digest would vary.
            # Written here: safetensors makes files that only their owner may read.
            temporary.write_bytes(save(stored, metadata={METADATA_KEY: self.meta.to_json()}))

    @classmethod
    def load(cls, path: Path | str) -> Checkpoint:
        """Read a checkpoint and check that its metadata is valid and its values finite.

        Raises:
            CheckpointError: If it is missing, damaged, foreign, or of an unknown version.
        """
        path = Path(path)
        meta = read_header(path).meta
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path.name} is damaged: {error}", remedy="copy or train it again") from error
        check_finite(tensors, path.name)
        return cls(meta, {k: t.float() if t.is_floating_point() else t for k, t in tensors.items()})

    def config(self) -> ModelConfig:
        """Return the network's configuration; of a backbone, that of a detector of one class around it."""
        meta = self.meta
        return ModelConfig(
            task=meta.task,
            scale=meta.scale,
            variant=meta.variant,
            num_classes=max(len(meta.class_names), 1),
            keypoints=meta.keypoints,
            multi_label=meta.multi_label,
            mlp_ratio=meta.mlp_ratio,
            residual=meta.residual,
            areas=meta.areas,
            bn_eps=meta.bn_eps,
        )

    def model(self) -> YOLO12:
        """Build the network with these weights, float32, in evaluation mode; learned ranges are left aside.

        Raises:
            CheckpointError: If it is a backbone alone, or a tensor is missing, superfluous or of another shape.
        """
        if self.meta.part != "model":
            raise not_a_model("the checkpoint")
        model = build_model(self.config())
        tensors = {key: tensor for key, tensor in self.tensors.items() if not key.startswith(INT8_PREFIX)}
        check_tensors(tensors, model.state_dict())
        model.load_state_dict(tensors)
        return model.eval()


def meta_of(
    config: ModelConfig,
    *,
    class_names: Sequence[str],
    image_size: int,
    source: Literal["trained", "imported"],
    weights_license: str | None,
    training: dict[str, Any],
    int8: Int8Facts | None = None,
) -> CheckpointMeta:
    """Return the metadata of a network's weights; the opposite of ``Checkpoint.config``.

    Args:
        config: The network.
        class_names: In the order of the class ids; none of a backbone.
        image_size: Side of the square input that it was trained with, in pixels.
        source: Whether this project trained the weights or read them from elsewhere.
        weights_license: Licence of the weights, None if unknown.
        training: Summary of the training, free in form.
        int8: What it has learned ranges for.
    """
    return CheckpointMeta(
        task=config.task,
        scale=config.scale,  # type: ignore[arg-type]
        variant=config.variant,  # type: ignore[arg-type]
        class_names=list(class_names),
        part="model" if class_names else "backbone",
        multi_label=config.multi_label,
        keypoints=config.keypoints,
        image_size=image_size,
        bn_eps=config.bn_eps,
        mlp_ratio=float(config.mlp_ratio or 0),
        residual=bool(config.residual),
        areas=config.areas,
        source=source,
        weights_license=weights_license,
        training=training,
        int8=int8,
    )


def check_tensors(found: Mapping[str, HasShape], wanted: Mapping[str, HasShape]) -> None:
    """Compare names and shapes.

    Raises:
        CheckpointError: If they differ; it names the first few differences.
    """
    shapes = sorted(k for k in found.keys() & wanted.keys() if tuple(found[k].shape) != tuple(wanted[k].shape))
    problems = [
        _some("missing", sorted(wanted.keys() - found.keys())),
        _some("unexpected", sorted(found.keys() - wanted.keys())),
        _some("of another shape", [f"{k} {tuple(found[k].shape)} not {tuple(wanted[k].shape)}" for k in shapes]),
    ]
    if any(problems):
        raise CheckpointError(
            f"the tensors do not fit the model: {'; '.join(p for p in problems if p)}",
            remedy="the file is incomplete or holds another model; take it from its source again",
        )


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    kept = dtype if tensor.is_floating_point() else tensor.dtype
    # A copy, because safetensors refuses tensors that share memory.
    return tensor.detach().to("cpu", kept, copy=True).contiguous()


def _some(what: str, items: list[str]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return f"{what}: {', '.join(items[:3])}{more}" if items else ""


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Check that no weight is infinite or not a number.

    Raises:
        CheckpointError: If one is; it names the tensor.
    """
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"the tensor {key!r} of {what} holds values that are not finite",
                remedy="the training diverged or the file is damaged; take an earlier checkpoint",
            )
