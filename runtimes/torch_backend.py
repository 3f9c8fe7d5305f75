"""PyTorch as a ``Backend``: runs a checkpoint in its deploy form, as the reference that exports are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..errors import BackendError, InputError, MissingDependencyError
from ..files import sha256_of
from ..manifest import SCHEMA_VERSION, InputSpec, Manifest, OutputSpec, Provenance, output_shapes, resize_of
from .backend import TensorInfo

if TYPE_CHECKING:
    from ..checkpoint import CheckpointMeta

__all__ = ["TorchBackend", "image_hw", "manifest_for_checkpoint"]

_STRIDES = (8, 16, 32)


class TorchBackend:
    """A checkpoint's deploy form in PyTorch.

    Args:
        checkpoint: Path of the ``.safetensors`` file.
        manifest: What ``manifest_for_checkpoint`` says of it.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA where PyTorch has it, else the CPU.
        threads: Threads on the CPU. PyTorch has one setting for the whole process; None leaves it alone.

    Raises:
        MissingDependencyError: If torch is not installed.
        CheckpointError: If the checkpoint is not usable.
        BackendError: If ``"cuda"`` was asked for and PyTorch has none.
        InputError: If there is no such device.
    """

    def __init__(
        self,
        checkpoint: Path,
        manifest: Manifest,
        *,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"device {device!r} is not known to PyTorch here", expected="'auto', 'cpu' or 'cuda'")
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError("torch", extra="train", purpose="to run a checkpoint") from error
        from ..checkpoint import Checkpoint
        from ..nn import deploy_form

        has_cuda = torch.cuda.is_available()
        if device == "cuda" and not has_cuda:
            raise BackendError(
                "device 'cuda' was asked for, but PyTorch finds no CUDA device",
                remedy="install a PyTorch built for CUDA and check the driver, or use device='cpu'",
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self.threads = torch.get_num_threads()
        self._place = torch.device("cuda" if device != "cpu" and has_cuda else "cpu")
        self.name = f"torch {torch.__version__}"
        self.device = f"cuda ({torch.cuda.get_device_name()})" if self._place.type == "cuda" else "cpu"
        spec = manifest.input
        self.inputs = (TensorInfo(spec.name, (spec.batch, 3, spec.height, spec.width), spec.dtype),)
        self.outputs = tuple(TensorInfo(output.name, output.shape, output.dtype) for output in manifest.outputs)
        self.parallel = 1
        self._by_role = {output.role: output.name for output in manifest.outputs}
        self._model: Any = deploy_form(Checkpoint.load(checkpoint).model()).to(self._place)

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once.

        Raises:
            BackendError: If the backend is closed or the feeds are not the one input it has.
        """
        import torch

        model = self._model
        if model is None:
            raise BackendError("this PyTorch backend is closed")
        spec = self.inputs[0]
        images = feeds.get(spec.name)
        if len(feeds) != 1 or images is None or images.shape != spec.shape or images.dtype != spec.dtype:
            found = {name: f"{array.dtype} {array.shape}" for name, array in feeds.items()}
            raise BackendError(f"the feeds are {found}", expected=f"{spec.name!r}: {spec.dtype} {spec.shape}")
        try:
            with torch.inference_mode():
                outputs = model(torch.from_numpy(np.ascontiguousarray(images)).to(self._place))
            return {name: outputs[role].cpu().numpy() for role, name in self._by_role.items()}
        except RuntimeError as error:
            raise BackendError(f"PyTorch could not run the model: {error}") from error

    def close(self) -> None:
        """Let go of the model; running calls finish first."""
        self._model = None


def image_hw(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of the network input, checked.

    Raises:
        InputError: If a side is not a positive multiple of 32.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 32 or height % 32 or width % 32:
        raise InputError(
            f"image size {height}x{width} (height x width) does not fit the model",
            expected="sides that are multiples of 32",
            remedy=f"use {max(32, -(-height // 32) * 32)}x{max(32, -(-width // 32) * 32)}",
        )
    return height, width


def manifest_for_checkpoint(
    checkpoint: Path, *, image_size: int | tuple[int, int] | None = None, meta: CheckpointMeta | None = None
) -> Manifest:
    """Return the manifest of a checkpoint as it stands: format ``torch``, fp32, batch 1. Needs no torch.

    Args:
        checkpoint: Path of the ``.safetensors`` file.
        image_size: Side or (height, width) of the network input in pixels; None takes the checkpoint's own.
        meta: The checkpoint's metadata where the caller has read it.

    Raises:
        CheckpointError: If the file is not a checkpoint of this project.
        InputError: If the image size is not a multiple of 32.
    """
    if meta is None:
        from ..checkpoint import read_metadata

        meta = read_metadata(checkpoint)
    height, width = image_hw(meta.image_size if image_size is None else image_size)
    candidates = sum((height // stride) * (width // stride) for stride in _STRIDES)
    spec = InputSpec(name="images", batch=1, height=height, width=width, resize=resize_of(meta.task))
    shapes = output_shapes(meta.task, spec, classes=len(meta.class_names), keypoints=meta.keypoints)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        task=meta.task,
        scale=meta.scale,
        variant=meta.variant,
        class_names=list(meta.class_names),
        multi_label=meta.multi_label,
        keypoints=meta.keypoints,
        format="torch",
        precision="fp32",
        input=spec,
        outputs=[
            OutputSpec(name=role, role=role, shape=tuple(candidates if size is None else size for size in shape))
            for role, shape in shapes.items()
        ],
        provenance=Provenance(
            checkpoint_sha256=sha256_of(checkpoint),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions={"yolo12edge": __version__},
            weights_license=meta.weights_license,
        ),
    )
