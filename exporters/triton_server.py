"""Artifact → a model of a Triton model repository, by the manifest alone."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..artifact import MANIFEST_NAME, Artifact
from ..errors import ArtifactError, ExportError, InputError
from ..manifest import Manifest
from .deployment import BUILD_HERE, LABELS_NAME, Deployment, engine_notes, label_lines, only_file, write_folder

__all__ = ["TRITON_CONFIG", "triton_from_artifact"]

TRITON_CONFIG = "config.pbtxt"

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_MODELS = tuple(f"1/model.{suffix}" for suffix in ("plan", "onnx", "xml", "bin"))
_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}


def triton_from_artifact(
    artifact: Artifact,
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    device: Literal["cpu", "gpu"] | None = None,
    overwrite: bool = False,
) -> Deployment:
    """Write ``OUT/NAME``, a model of a Triton model repository: configuration, labels, manifest and version 1.

    Args:
        artifact: A TensorRT engine, ONNX or OpenVINO.
        out: The model repository; other models in it are left alone.
        name: Of the model; None takes the artifact's.
        device: Where its instances run; None: the GPU for engines, else the CPU.
        overwrite: Whether a model of that name that was written by this function may be replaced.

    Raises:
        ExportError: If Triton cannot run this artifact, or not on this device.
        ArtifactError: If the artifact holds other files than its format has.
        InputError: If the name is not usable, or the folder cannot be written or must not be replaced.
    """
    manifest = artifact.manifest
    model = artifact.path.resolve().name if name is None else name
    if not _MODEL_NAME.fullmatch(model):
        raise InputError(
            f"{model!r} is no name for a model",
            expected="letters, digits, '_', '-' and '.'",
            remedy="name it with --name",
        )
    instances = _device(manifest, device)
    files = _files(artifact)
    texts = {
        TRITON_CONFIG: _config(manifest, model, instances),
        LABELS_NAME: label_lines(manifest.class_names),
    }
    copies = {f"1/{target}": source for target, source in files.items()}
    copies[MANIFEST_NAME] = artifact.path / MANIFEST_NAME
    target = Path(out) / model
    write_folder(target, texts, copies, own=TRITON_CONFIG, others=_MODELS, overwrite=overwrite)
    return Deployment(target, tuple(_notes(manifest)))


def _device(manifest: Manifest, device: Literal["cpu", "gpu"] | None) -> Literal["cpu", "gpu"]:
    """Return where instances run, or refuse what cannot be served."""
    if manifest.format == "tensorrt-rtx":
        raise ExportError("Triton has no backend for TensorRT-RTX", remedy="export with --format tensorrt")
    if manifest.format == "tensorrt" and manifest.engine is None:
        raise ExportError(
            "this artifact is typed ONNX, of which Triton would make another engine than yolo12edge",
            expected="an engine",
            remedy=BUILD_HERE,
        )
    if manifest.format not in ("tensorrt", "onnx", "openvino"):
        raise ExportError(f"Triton has no backend for {manifest.format!r}", expected="tensorrt, onnx or openvino")
    if (manifest.input.min_batch or 1) > 1:
        raise ExportError(
            f"the model takes no fewer than {manifest.input.min_batch} images, and Triton hands over single ones too",
            remedy="export with --min-batch 1",
        )
    if manifest.format == "tensorrt":
        if device == "cpu":
            raise ExportError("a TensorRT engine does not run on the CPU", remedy="leave --device out")
        return "gpu"
    if device == "gpu" and manifest.format == "openvino":
        raise ExportError(
            "Triton's OpenVINO backend runs on CPUs", remedy="leave --device out, or deploy an ONNX artifact"
        )
    if device == "gpu" and manifest.precision == "int8":
        raise ExportError(
            "ONNX Runtime computes INT8 ONNX in float on a GPU",
            remedy="export with --format tensorrt --int8, or deploy the float artifact",
        )
    return device or "cpu"


def _files(artifact: Artifact) -> dict[str, Path]:
    """Return the model's files, by the names that Triton's backends expect."""
    manifest = artifact.manifest
    if manifest.format == "openvino":
        names = sorted(entry.path for entry in manifest.files)
        if len(names) != 2 or [Path(name).suffix for name in names] != [".bin", ".xml"]:
            raise ArtifactError(f"{artifact.path} holds {', '.join(names)}", expected="an .xml and a .bin file")
        return {f"model{Path(name).suffix}": artifact.file(name) for name in names}
    return {"model.plan" if manifest.engine else "model.onnx": only_file(artifact)}


def _config(manifest: Manifest, name: str, device: str) -> str:
    """Return a ``ModelConfig`` as protobuf text."""
    spec = manifest.input
    engine = {"tensorrt": 'platform: "tensorrt_plan"', "openvino": 'backend: "openvino"'}
    batched = spec.min_batch is not None
    first = 1 if batched else 0  # of a shape: Triton adds the batch itself
    lines = [
        f"name: {_quoted(name)}",
        engine.get(manifest.format, 'platform: "onnxruntime_onnx"'),
        f"max_batch_size: {spec.batch if batched else 0}",
        *_tensor("input", spec.name, spec.dtype, spec.shape(spec.batch)[first:]),
    ]
    for output in manifest.outputs:
        lines += _tensor("output", output.name, output.dtype, output.shape[first:])
    lines.append(f"instance_group [ {{ count: 1 kind: KIND_{device.upper()} }} ]")
    if batched and spec.batch > 1:
        lines.append(f"dynamic_batching {{ preferred_batch_size: [ {spec.batch} ] }}")
    return "\n".join(lines) + "\n"


def _tensor(kind: str, name: str, dtype: str, shape: Sequence[int]) -> list[str]:
    dims = ", ".join(map(str, shape))
    return [f"{kind} [ {{ name: {_quoted(name)} data_type: {_TYPES[dtype]} dims: [ {dims} ] }} ]"]


def _quoted(text: str) -> str:
    """Return a string literal of protobuf text: bytes that are not plain ASCII as three octal digits."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def _notes(manifest: Manifest) -> list[str]:
    notes = engine_notes(manifest, "Triton")
    if manifest.engine and manifest.engine.version_compatible:
        notes.append("Start Triton with --backend-config=tensorrt,version-compatible=true.")
    if manifest.engine and manifest.engine.plugins:
        notes.append(
            f"The engine needs {', '.join(manifest.engine.plugins)}: start Triton with "
            "--backend-config=tensorrt,plugins=PATH_OF_THE_PLUGIN_LIBRARY."
        )
    return notes
