"""Checkpoint → FP32 ONNX artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import numpy.typing as npt

from ..artifact import Artifact, write_artifact
from ..errors import MissingDependencyError
from ..manifest import EMBEDDED_KEY, Report
from ..runtimes.torch_backend import manifest_for_checkpoint
from .verify import Frame, Infer, check_parity, measure_parity, verification_frames

__all__ = ["MODEL_NAME", "onnx_from_checkpoint"]

MODEL_NAME = "model.onnx"


def onnx_from_checkpoint(
    checkpoint: Path | str,
    out: Path | str,
    *,
    image_size: int | tuple[int, int] | None = None,
    verify: bool = True,
    images: Sequence[Path | Frame] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Export a checkpoint to an FP32 ONNX artifact.

    Batch norm is folded, shapes are static, boxes are decoded in the graph. The same checkpoint gives the same bytes.

    Args:
        checkpoint: A ``.safetensors`` file.
        out: Directory to write.
        image_size: Side or (height, width) of the network input in pixels; None takes the checkpoint's own.
        verify: Whether the result must agree with PyTorch before it is written.
        images: Pictures to compare on, as files or uint8 BGR arrays; None renders a few scenes.
        overwrite: Whether an artifact at ``out`` may be replaced.

    Returns:
        The artifact; with ``verify``, its report says how well it agrees.

    Raises:
        InputError: If the image size is no multiple of 32, or ``out`` must not be replaced.
        CheckpointError: If the checkpoint is not usable.
        MissingDependencyError: If torch, onnx, or for ``verify`` onnxruntime is not installed.
        VerificationError: If the result does not agree with PyTorch; nothing is written then.
    """
    try:
        import onnx
        import torch
    except ImportError as error:
        raise MissingDependencyError(error.name or "onnx", extra="export", purpose="to export to ONNX") from error
    from ..checkpoint import Checkpoint
    from ..nn import deploy_form
    from .onnx_network import write_network
    from .onnx_writer import GraphWriter

    checkpoint = Path(checkpoint)
    source = manifest_for_checkpoint(checkpoint, image_size=image_size)
    versions = {**source.provenance.versions, "torch": str(torch.__version__), "onnx": onnx.__version__}
    manifest = msgspec.structs.replace(
        source, format="onnx", provenance=msgspec.structs.replace(source.provenance, versions=versions)
    )
    spec = manifest.input
    deploy = deploy_form(Checkpoint.load(checkpoint).model())
    writer = GraphWriter()
    write_network(writer, deploy, images=spec.name, height=spec.height, width=spec.width)
    model = writer.model(
        inputs={spec.name: (spec.batch, 3, spec.height, spec.width)},
        outputs={output.name: output.shape for output in manifest.outputs},
        metadata={EMBEDDED_KEY: manifest.to_embedded_json()},
    )
    content = model.SerializeToString(deterministic=True)
    if verify:
        from ..runtimes.ort_backend import OrtBackend

        exact = deepcopy(deploy).double()

        def run(module: torch.nn.Module, dtype: torch.dtype) -> Infer:
            def infer(feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
                with torch.inference_mode():
                    outputs = module(torch.from_numpy(feeds[spec.name]).to(dtype))
                return {role: tensor.numpy() for role, tensor in outputs.items()}

            return infer

        frames = verification_frames(images)
        reference = run(exact, torch.float64)
        engine = OrtBackend(content, device="cpu")
        parity = measure_parity(reference, engine.infer, manifest, frames, source="torch float64")
        engine.close()
        rounding = measure_parity(reference, run(deploy, torch.float32), manifest, frames, source="torch float64")
        check_parity(parity, rounding=rounding)
        manifest = msgspec.structs.replace(manifest, report=Report(parity=parity))
    return write_artifact(out, manifest, {MODEL_NAME: content}, overwrite=overwrite)
