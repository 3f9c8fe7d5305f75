"""Foreign models: files that Ultralytics exported get a manifest in memory, and run like artifacts.

Their one output holds boxes and class probabilities; ``docs/foreign-models.md`` says which exports are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .errors import ArtifactError
from .foreign_metadata import ForeignMetadata, metadata_of, read_metadata_yaml
from .manifest import (
    SCHEMA_VERSION,
    Format,
    InputSpec,
    Manifest,
    OutputSpec,
    Precision,
    Provenance,
    TensorRtFormat,
)
from .onnx_signature import read_onnx_signature
from .openvino_metadata import read_openvino_metadata
from .signature import Signature, Tensor

__all__ = ["METADATA_NAME", "manifest_of_engine", "manifest_of_onnx", "manifest_of_openvino", "model_in"]

METADATA_NAME = "metadata.yaml"
"""What Ultralytics writes beside an OpenVINO model."""


def model_in(path: Path) -> Path:
    """Return the ``.xml`` of a folder that Ultralytics wrote an OpenVINO model to; any other path as it is.

    Raises:
        ArtifactError: If there is more than one ``.xml``.
    """
    if not (path / METADATA_NAME).is_file() or (path / "manifest.json").exists():
        return path
    models = sorted(path.glob("*.xml"))
    if len(models) > 1:
        raise ArtifactError(f"{path} holds {len(models)} .xml files", remedy="name the one to open")
    return models[0] if models else path


def manifest_of_onnx(path: Path, entries: Mapping[str, str]) -> Manifest:
    """Make the manifest of an ONNX file.

    Args:
        path: The file.
        entries: Its metadata.

    Raises:
        ArtifactError: If metadata, input or output are not what can be run, or contradict each other.
    """
    return _manifest(path, "onnx", metadata_of(entries, f"the metadata of {path}"), read_onnx_signature(path))


def manifest_of_openvino(path: Path) -> Manifest:
    """Make the manifest of an OpenVINO ``.xml`` file from the ``metadata.yaml`` beside it.

    Raises:
        ArtifactError: If there is none, or metadata, input or output are not what can be run, or contradict each other.
    """
    beside = path.with_name(METADATA_NAME)
    signature = read_openvino_metadata(path).signature
    return _manifest(path, "openvino", metadata_of(read_metadata_yaml(beside), str(beside)), signature)


def manifest_of_engine(path: Path, entries: Mapping[str, Any], library: TensorRtFormat) -> Manifest:
    """Make the manifest of a TensorRT engine from the metadata before it.

    What goes in and comes out only the engine itself can tell; here stands what such an export always has. Who opens
    the engine compares.

    Args:
        path: The file.
        entries: Its metadata, as JSON has it.
        library: Which library wrote the engine.

    Raises:
        ArtifactError: If the metadata are not of what can be run, or do not tell the size of the input.
    """
    source = f"the metadata before {path}"
    metadata = metadata_of({key: _as_text(value) for key, value in entries.items()}, source)
    if metadata.image_hw is None:
        raise ArtifactError(f"{source} has no entry 'imgsz'", expected="height and width", remedy=_AGAIN)
    height, width = metadata.image_hw
    given = entries.get("args")
    options = given if isinstance(given, dict) else {}
    for option in ("dynamic", "nms"):
        if options.get(option):
            raise ArtifactError(f"{path} was exported with {option}=True", remedy=f"export it with {option}=False")
    rows = 4 + len(metadata.class_names)
    candidates = sum((height // stride) * (width // stride) for stride in _STRIDES)
    signature = Signature(
        inputs=(Tensor("images", "float32", (1, 3, height, width)),),
        outputs=(Tensor("output0", "float32", (1, rows, candidates)),),
        quantized=options.get("int8") is True,
        half=options.get("half") is True,
    )
    return _manifest(path, library, metadata, signature)


def _as_text(value: Any) -> Any:
    """Return JSON as the other files have it, where every scalar is text."""
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return str(value)


def _manifest(path: Path, kind: Format, metadata: ForeignMetadata, signature: Signature) -> Manifest:
    image, output = _one(signature.inputs, "input", path), _one(signature.outputs, "output", path)
    size = _sizes(image, "an input of 1x3xHEIGHTxWIDTH", path)
    shape = _sizes(output, "an output of 1x(4+classes)xCANDIDATES", path)
    if len(size) != 4 or size[:2] != (1, 3) or metadata.batch not in (None, 1):
        raise ArtifactError(
            f"the input of {path} is {image}", expected="1x3xHEIGHTxWIDTH", remedy="export it with batch=1"
        )
    height, width = size[2:]
    if metadata.image_hw not in (None, (height, width)):
        raise ArtifactError(f"{path} says imgsz {metadata.image_hw}, but its input is {image}", remedy=_AGAIN)
    if metadata.stride and (height % metadata.stride or width % metadata.stride):
        raise ArtifactError(f"{path} says stride {metadata.stride}, which does not divide {image}", remedy=_AGAIN)
    rows = 4 + len(metadata.class_names)
    if len(shape) != 3 or shape[:2] != (1, rows):
        raise ArtifactError(
            f"the output of {path} is {output}",
            expected=f"1x{rows}xCANDIDATES: 4 coordinates and {len(metadata.class_names)} classes in rows",
            remedy="export it with nms=False and end2end=False; other heads do not run here",
        )
    precision: Precision = "int8" if signature.quantized else "fp16" if signature.half else "fp32"
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        task="detect",
        class_names=list(metadata.class_names),
        format=kind,
        precision=precision,
        input=InputSpec(name=image.name, batch=1, height=height, width=width),
        outputs=[OutputSpec(name=output.name, role="fused", shape=(1, rows, shape[2]))],
        provenance=Provenance(
            created=metadata.date,
            versions={"ultralytics": metadata.version} if metadata.version else {},
            weights_license=metadata.license,
        ),
    )
    try:
        manifest = msgspec.convert(msgspec.to_builtins(manifest), Manifest)  # sizes and lengths are within bounds
    except msgspec.ValidationError as error:
        raise ArtifactError(f"{path} is not a model that can run here: {error}", remedy=_AGAIN) from error
    manifest.check(f"the metadata of {path}")
    return manifest


_AGAIN = "copy or export it again"
_STRIDES = (8, 16, 32)  # of the three maps that boxes are found on


def _one(tensors: tuple[Tensor, ...], kind: str, path: Path) -> Tensor:
    if len(tensors) != 1:
        found = ", ".join(map(str, tensors[:8])) or "none"
        raise ArtifactError(f"{path} has {len(tensors)} {kind}s: {found}", expected=f"one {kind} of a detector")
    (tensor,) = tensors
    if tensor.dtype != "float32":
        raise ArtifactError(
            f"the {kind} of {path} is {tensor}", expected="float32", remedy="export it with float32 input and output"
        )
    return tensor


def _sizes(tensor: Tensor, expected: str, path: Path) -> tuple[int, ...]:
    sizes = tuple(size for size in tensor.shape if size is not None)
    if len(sizes) != len(tensor.shape):
        fact = f"{path} leaves sizes open: {tensor}"
        raise ArtifactError(fact, expected=expected, remedy="export it with dynamic=False")
    return sizes
