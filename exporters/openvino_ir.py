"""ONNX → OpenVINO's own form, the pair ``model.xml`` and ``model.bin``."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from ..artifact import Artifact, check_float_onnx, write_artifact
from ..errors import ExportError, InputError
from ..manifest import EMBEDDED_KEY, Manifest, Report
from ..runtimes.openvino_backend import OpenVinoBackend
from ..runtimes.openvino_library import import_openvino, openvino_core, read_network
from .verify import Frame, check_half_parity, check_parity, compare_with_onnx, verification_frames

if TYPE_CHECKING:
    import openvino

__all__ = ["count_int8_convolutions", "openvino_files", "openvino_from_onnx"]

_MODEL, _WEIGHTS = "model.xml", "model.bin"
_INDENT = re.compile(rb"\n\t*(?=<)")
_COUNTED = re.compile(r"[A-Za-z]+_\d+(/.*)?")  # names that OpenVINO gives, with a count that goes on in each process


def openvino_from_onnx(
    source: Artifact,
    out: Path | str,
    *,
    precision: Literal["fp32", "fp16"] = "fp32",
    verify: bool = True,
    images: Sequence[Path | Frame] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Convert an FP32 ONNX artifact to an OpenVINO artifact.

    Input and outputs stay float32 and keep their names. The same model and OpenVINO give the same bytes.

    Args:
        source: The FP32 ONNX artifact.
        out: Directory to write.
        precision: ``"fp16"`` stores weights in half precision. Where a device has no half-precision arithmetic, which
            is so on most CPUs, it computes with them in float32.
        verify: Whether the result must agree with the source in ONNX Runtime before it is written.
        images: Pictures to compare on, as files or uint8 BGR arrays; None renders a few scenes.
        overwrite: Whether an artifact at ``out`` may be replaced.

    Returns:
        The artifact; with ``verify``, its report says how well it agrees.

    Raises:
        InputError: If the source is not FP32 ONNX, the precision is another, or ``out`` must not be replaced.
        MissingDependencyError: If openvino, or for ``verify`` onnxruntime, is not installed.
        ExportError: If the conversion lost an input or output.
        VerificationError: If the result does not agree with the source; nothing is written then.
    """
    manifest = source.manifest
    check_float_onnx(manifest, source.path)
    if precision not in ("fp32", "fp16"):
        raise InputError(f"precision {precision!r} is not known here", expected="'fp32' or 'fp16'")
    version = import_openvino().__version__.split("-")[0]
    versions = {**manifest.provenance.versions, "openvino": version}
    manifest = msgspec.structs.replace(
        manifest,
        format="openvino",
        precision=precision,
        files=[],
        provenance=msgspec.structs.replace(manifest.provenance, versions=versions),
        report=Report(),
    )
    files = openvino_files(source.model_file.read_bytes(), manifest)
    if verify:
        with closing(_opened(files)) as candidate:  # the very files that will be written
            parity, rounding = compare_with_onnx(source.model_file, candidate, manifest, verification_frames(images))
        check = check_parity if precision == "fp32" else check_half_parity
        check(parity, rounding=rounding)
        manifest = msgspec.structs.replace(manifest, report=Report(parity=parity))
    return write_artifact(out, manifest, files, overwrite=overwrite)


def openvino_files(content: bytes, manifest: Manifest) -> dict[str, bytes]:
    """Convert an ONNX model, float or with Q/DQ pairs, whose INT8 weights stay INT8.

    Args:
        content: Of the ``.onnx`` file.
        manifest: Of the OpenVINO artifact; it is embedded, and with precision ``"fp16"`` weights are stored in half.

    Returns:
        What belongs into the artifact, by name: ``model.xml``, then ``model.bin``.

    Raises:
        MissingDependencyError: If openvino is not installed.
        ArtifactError: If OpenVINO cannot read the model.
        ExportError: If the result has not the input and outputs of the manifest.
    """
    return write_network(read_network(openvino_core(), content), manifest)


def write_network(network: openvino.Model, manifest: Manifest) -> dict[str, bytes]:
    """Return the files of a model in memory; arguments and errors are those of ``openvino_files``."""
    ov = import_openvino()
    _check_tensors(network, manifest)
    _share_bounds(network)
    for index, op in enumerate(network.get_ordered_ops()):
        if _COUNTED.fullmatch(op.get_friendly_name()):
            op.set_friendly_name(f"{op.get_type_name()}_{index}")
    if network.has_rt_info(["framework"]):  # the metadata of the ONNX file, whose manifest is another
        del network.rt_info["framework"]
    # In ASCII: XML cannot hold every character that JSON can.
    text = json.dumps(json.loads(manifest.to_embedded_json()), separators=(",", ":"))
    network.set_rt_info(text, [EMBEDDED_KEY])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / _MODEL
        ov.save_model(network, str(place), compress_to_fp16=manifest.precision == "fp16")
        # A third of the text is the indentation of its elements.
        return {
            _MODEL: _INDENT.sub(b"", place.read_bytes()),
            _WEIGHTS: place.with_name(_WEIGHTS).read_bytes(),
        }


def _share_bounds(network: openvino.Model) -> None:
    """Give each FakeQuantize two scalars for its four bounds, where input and output have the same: less to store."""
    opset1 = import_openvino().opset1
    for op in network.get_ordered_ops():
        if op.get_type_name() != "FakeQuantize":
            continue
        for inner, outer in ((1, 3), (2, 4)):
            given, other = op.input_value(inner).get_node(), op.input_value(outer).get_node()
            if given.get_type_name() != "Constant" or other.get_type_name() != "Constant":
                continue
            if given.data.size == other.data.size == 1 and given.data.item() == other.data.item():
                bound = opset1.constant(given.data.item(), given.get_element_type().to_dtype()).output(0)
                op.input(inner).replace_source_output(bound)
                op.input(outer).replace_source_output(bound)


def count_int8_convolutions(model: Path | bytes) -> tuple[int, int]:
    """Return how many convolutions OpenVINO runs in INT8 on this CPU, and how many there are.

    Args:
        model: Path of an ``.xml`` or ``.onnx`` file, or the content of an ``.onnx`` file.

    Raises:
        MissingDependencyError: If openvino is not installed.
        ArtifactError: If OpenVINO cannot read the model.
    """
    core = openvino_core()
    compiled = core.compile_model(read_network(core, model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    facts = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    kinds = [fact["primitiveType"].astype(str) for fact in facts if "Convolution" in fact["layerType"].astype(str)]
    return sum(kind.endswith("_I8") for kind in kinds), len(kinds)


def _check_tensors(network: openvino.Model, manifest: Manifest) -> None:
    spec = manifest.input
    wanted = {spec.name: (1, 3, spec.height, spec.width)} | {output.name: output.shape for output in manifest.outputs}
    found = {}
    for port in (*network.inputs, *network.outputs):
        shape = port.get_partial_shape()
        if port.get_element_type().to_string() == "f32" and shape.is_static:
            found[port.get_any_name()] = tuple(shape.to_shape())
    if found != wanted:
        raise ExportError(f"OpenVINO's model has the float32 tensors {found}", expected=f"{wanted}")


def _opened(files: dict[str, bytes]) -> OpenVinoBackend:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return OpenVinoBackend(Path(folder) / _MODEL, device="cpu")
