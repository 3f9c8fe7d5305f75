"""From a source to the engine that runs it, checked against its manifest."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..artifact import Artifact, read_lone_manifest
from ..errors import ArtifactError, InputError
from ..foreign import model_in
from ..machine import int8_saturates
from ..manifest import PLAN_SUFFIX, TENSORRT_FORMATS, Manifest
from .backend import Backend, TensorInfo
from .lone_package import package_at, package_manifest

if TYPE_CHECKING:
    from .openvino_backend import Hint

__all__ = ["check_tensors", "open_engine", "warn_of_saturation"]


def open_engine(
    source: Artifact | str | Path, device: str, threads: int | None, hint: Hint, cache: Path | None
) -> tuple[Backend, Manifest]:
    """Open the engine that the source is for; arguments and errors are those of ``Runtime``."""
    if not isinstance(source, (Artifact, str, Path)):
        raise InputError(f"the source is a {type(source).__name__}", expected="an Artifact or a path")
    if not isinstance(source, Artifact) and not str(source):  # as a path it would be the working directory
        raise InputError("the source is empty", expected="an Artifact or a path")
    path = source.path if isinstance(source, Artifact) else model_in(Path(source))
    if not isinstance(source, Artifact) and (lone := package_at(path)) is not None:
        package, function = lone
        manifest, model = package_manifest(package, function), package / "Manifest.json"
        return _engine(model, manifest, device, threads, hint, cache, function), manifest
    if isinstance(source, Artifact) or path.is_dir():
        artifact = source if isinstance(source, Artifact) else Artifact.load(path)
        manifest, model = artifact.manifest, artifact.model_file
        if manifest.format == "torch":
            raise ArtifactError(f"{path} is an artifact of format 'torch'", expected="one that runs, such as 'onnx'")
        if manifest.format == "openvino" and model.suffix.lower() == ".xml":
            artifact.file(Path(manifest.files[0].path).with_suffix(".bin").as_posix())  # read too, so it must be listed
        if manifest.format == "coreml":
            for part in ("model.mlmodel", "weights/weight.bin"):
                artifact.file(f"{model.parent.name}/Data/com.apple.CoreML/{part}")
    elif not path.exists():
        raise InputError(
            f"{path} does not exist", expected="an artifact, an .onnx, .xml or .engine file or a checkpoint"
        )
    elif path.suffix in (".onnx", ".xml"):
        manifest, model = read_lone_manifest(path), path
    elif path.suffix == PLAN_SUFFIX:
        from .foreign_engine import read_foreign_engine

        manifest, plan = read_foreign_engine(path)
        _refuse_hint(hint, path, manifest)
        return _tensorrt(plan, manifest, device, cache), manifest
    elif path.suffix == ".safetensors":
        from .torch_backend import manifest_for_checkpoint

        manifest, model = manifest_for_checkpoint(path), path
    else:
        raise InputError(
            f"{path} is nothing that a Runtime can open",
            expected="an artifact directory, an .onnx, .xml or .engine file or a .safetensors checkpoint",
            remedy="'yolo12edge import' turns a public .pt into a checkpoint" if path.suffix == ".pt" else "",
        )
    return _engine(model, manifest, device, threads, hint, cache), manifest


def _engine(
    model: Path,
    manifest: Manifest,
    device: str,
    threads: int | None,
    hint: Hint,
    cache: Path | None,
    function: str | None = None,
) -> Backend:
    """Load a model, or one function of it, into the engine of its format."""
    if manifest.format == "openvino":
        from .openvino_backend import OpenVinoBackend

        return OpenVinoBackend(model, device=device, threads=threads, hint=hint, cache=cache, pixels=manifest.input)
    _refuse_hint(hint, model, manifest)
    if manifest.format == "onnx":
        from .ort_backend import OrtBackend

        return OrtBackend(model, device=device, threads=threads, cache=cache)
    if manifest.format in TENSORRT_FORMATS:
        return _tensorrt(model, manifest, device, cache)
    if cache is not None:
        what = "a Core ML package" if manifest.format == "coreml" else "a checkpoint"
        raise InputError(f"cache is for ONNX and OpenVINO, and {model} is {what}", remedy="leave it out")
    if manifest.format == "coreml":
        from .coreml_backend import CoremlBackend

        return CoremlBackend(model.parent, manifest=manifest, device=device, function=function)
    from .torch_backend import TorchBackend

    return TorchBackend(model, manifest, device=device, threads=threads)


def _refuse_hint(hint: Hint, model: Path, manifest: Manifest) -> None:
    if hint != "latency":
        raise InputError(
            f"hint is for OpenVINO, and {model} is of format {manifest.format!r}",
            remedy="leave it out, or export with --format openvino",
        )


def _tensorrt(model: Path | bytes, manifest: Manifest, device: str, cache: Path | None) -> Backend:
    """Load an engine of TensorRT; it is built first where the artifact holds the model that it is built from."""
    from .tensorrt_backend import TensorRtBackend

    assert manifest.format in TENSORRT_FORMATS
    if cache is not None and (manifest.engine is not None or manifest.foreign):
        raise InputError("cache is for engines that are built here, and this is one already", remedy="leave it out")
    return TensorRtBackend(model, manifest=manifest, flavor=manifest.format, device=device, cache=cache)


def warn_of_saturation(backend: Backend, manifest: Manifest) -> None:
    """Say so if the products of 8-bit weights saturate here, which costs accuracy and gives no error."""
    calibration = manifest.calibration
    if (
        calibration is not None
        and not calibration.reduced_range
        and calibration.placement.endswith(("-vnni", "-u8"))  # -u8: what the first exports called it
        and backend.device.startswith("cpu")
        and int8_saturates()
    ):
        warnings.warn(
            "this INT8 artifact has 8-bit weights, whose products saturate on this processor (no VNNI) and cost "
            "accuracy: export it on a processor like this one",
            RuntimeWarning,
            stacklevel=4,
        )


def check_tensors(backend: Backend, manifest: Manifest) -> bool:
    """Refuse an engine whose inputs and outputs are not those of the manifest.

    Returns:
        Whether the engine takes pixels, uint8, shape (batch, height, width, 3), BGR, and does the rest in its graph.

    Raises:
        ArtifactError: If they are not.
    """
    spec = manifest.input
    batch = spec.batch if spec.min_batch is None else None
    as_pixels = TensorInfo(spec.name, (batch, spec.height, spec.width, 3), "uint8")
    as_floats = TensorInfo(spec.name, (batch, 3, spec.height, spec.width), "float32")
    pixels = spec.pixels or backend.inputs == (as_pixels,)
    inputs = (as_pixels if pixels else as_floats,)
    outputs = tuple(TensorInfo(output.name, (batch, *output.shape[1:]), output.dtype) for output in manifest.outputs)
    for kind, found, expected in (("inputs", backend.inputs, inputs), ("outputs", backend.outputs, outputs)):
        if sorted(found, key=_name) != sorted(expected, key=_name):
            raise ArtifactError(
                f"the model's {kind} are {_describe(found)}",
                expected=f"{_describe(expected)}, as the manifest says",
                remedy="export the artifact again",
            )
    return pixels


def _name(tensor: TensorInfo) -> str:
    return tensor.name


def _describe(tensors: tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)
