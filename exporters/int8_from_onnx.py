"""FP32 ONNX artifact → INT8 (Q/DQ) ONNX artifact for ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..artifact import Artifact, write_artifact
from ..calibration.images import CalibrationImages
from ..calibration.observe import observe
from ..calibration.placement_ort import Placement, place_for_ort
from ..calibration.quantize import observed_tensors, quantize_for_ort
from ..calibration.ranges import Method
from ..errors import InputError, MissingDependencyError, VerificationError
from ..machine import int8_saturates, is_x86
from ..manifest import EMBEDDED_KEY, Calibration, Report
from ..preprocess import Preprocessor
from ..runtimes.cores import physical_cores

__all__ = ["count_integer_convolutions", "onnx_int8_from_onnx"]

MODEL_NAME = "model.onnx"


def onnx_int8_from_onnx(
    source: Artifact,
    out: Path | str,
    *,
    images: CalibrationImages,
    method: Method = "mse",
    overwrite: bool = False,
    progress: Callable[[], object] | None = None,
) -> Artifact:
    """Quantize an FP32 ONNX artifact with ranges calibrated on real images.

    The images go through the very preprocessing of the Runtime. Activations are uint8 on x86 and int8 on ARM, weights
    int8 per output channel; without VNNI, x86 gets 7-bit weights, because its products would saturate.

    Args:
        source: The float artifact.
        out: Directory to write.
        images: Real images of the kind that the model will see, not those that it is scored on.
        method: How ranges are solved.
        overwrite: Whether an artifact at ``out`` may be replaced.
        progress: Called after each image.

    Raises:
        InputError: If the source is not FP32 ONNX, there is no image, or ``out`` must not be replaced.
        MissingDependencyError: If onnx or onnxruntime is not installed.
        VerificationError: If ONNX Runtime would not run the quantized convolutions in integers; nothing is written.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", extra="export", purpose="to quantize") from error
    manifest = source.manifest
    if manifest.format != "onnx" or manifest.precision != "fp32":
        raise InputError(f"{source.path} is {manifest.precision} {manifest.format}", expected="fp32 onnx")
    model = source.model_file.read_bytes()
    placement = place_for_ort(onnx.load_from_string(model))
    batches = images.batches(Preprocessor(manifest.input))
    statistics = observe(model, observed_tensors(placement), batches, progress=progress)
    signed, reduced_range = not is_x86(), int8_saturates()
    manifest = msgspec.structs.replace(
        manifest,
        precision="int8",
        calibration=Calibration(
            method=method,
            split=images.split,
            images=images.names,
            images_digest=images.digest(),
            placement=f"{placement.name}-{'s8' if signed else 'u8'}",
            float_nodes=list(placement.float_nodes),
            reduced_range=reduced_range,
        ),
        report=Report(),
    )
    content = quantize_for_ort(
        model,
        statistics,
        method=method,
        signed=signed,
        reduced_range=reduced_range,
        metadata={EMBEDDED_KEY: manifest.to_embedded_json()},
    )
    _check_integer(content, placement)
    return write_artifact(out, manifest, {MODEL_NAME: content}, overwrite=overwrite)


def count_integer_convolutions(model: bytes) -> int:
    """Return how many convolutions ONNX Runtime runs in integers here, as its own optimised graph tells."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(place)
        options.intra_op_num_threads = physical_cores()
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return sum(node.op_type == "QLinearConv" for node in onnx.load(place).graph.node)


def _check_integer(content: bytes, placement: Placement) -> None:
    import onnx

    quantized = set(placement.nodes)
    wanted = sum(
        node.op_type == "Conv" and node.name in quantized for node in onnx.load_from_string(content).graph.node
    )
    found = count_integer_convolutions(content)
    if found < wanted:
        raise VerificationError(
            f"ONNX Runtime runs {found} of {wanted} quantized convolutions in integers",
            remedy="report it with the versions of onnx and onnxruntime; nothing was written",
        )
