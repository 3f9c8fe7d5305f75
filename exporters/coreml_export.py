"""ONNX → Core ML artifact, compared with its source by the reference evaluator, which needs no Mac."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..artifact import Artifact, check_float_onnx, write_artifact
from ..errors import VerificationError
from ..manifest import Report
from ..metrics.evaluate import evaluate_pair
from ..runtimes import Runtime
from .coreml_converter import CoremlConverter
from .coreml_package import CoremlForm, coreml_files, coreml_manifest
from .scored import accuracy_of
from .verify import Frame, check_half_parity, check_parity, compare_with_onnx, verification_frames

if TYPE_CHECKING:
    from ..data.dataset import Sample

__all__ = ["coreml_from_onnx"]

_STORED = 2.0
"""The evaluator stores every value in half precision; ONNX Runtime, whose error the tolerances are made for, computes
some in a row in float32. Measured on a trained network: 4.6 px against 2.7 px."""


def coreml_from_onnx(
    source: Artifact,
    out: Path | str,
    form: CoremlForm,
    *,
    images: Sequence[Path | Frame] | None = None,
    samples: Sequence[Sample] = (),
    dataset: str = "",
    overwrite: bool = False,
) -> Artifact:
    """Convert an FP32 ONNX artifact to a float Core ML artifact.

    The same model and coremltools give the same bytes. Compressed weights are a loss that is wanted: how far they are
    from the source is in the report, and is not judged, as long as it is a number.

    Args:
        source: The FP32 ONNX artifact.
        out: Directory to write.
        form: Precision, weights, deployment target, input and batch.
        images: Pictures to compare on, and to look on for values that half precision cannot hold, as files or uint8 BGR
            arrays; None renders a few scenes.
        samples: Labelled images to score compressed weights on, beside the source, in the evaluator.
        dataset: Their dataset's name, for the report.
        overwrite: Whether an artifact at ``out`` may be replaced.

    Returns:
        The artifact; its report says how well it agrees with the source.

    Raises:
        InputError: If the source is not FP32 ONNX, the target cannot run the form, or ``out`` must not be replaced.
        MissingDependencyError: If coremltools, onnx, onnxruntime or torch is not installed.
        ExportError: If an operator has no counterpart in Core ML.
        VerificationError: If the result does not agree with the source; nothing is written then.
    """
    from .mil_evaluator import MilBackend

    check_float_onnx(source.manifest, source.path)
    manifest, model = coreml_manifest(source.manifest, form), source.model_file.read_bytes()
    frames = verification_frames(images)
    form = CoremlConverter(form).for_pictures(model, source.manifest, frames).form
    files = coreml_files(model, manifest, form)
    with closing(MilBackend(files)) as candidate:  # the very files that will be written
        parity, rounding = compare_with_onnx(source.model_file, candidate, manifest, frames)
    if form.precision == "fp32":
        check_parity(parity, rounding=rounding)
    elif form.weights == "float":
        check_half_parity(parity, rounding=rounding, slack=_STORED)
    elif not np.isfinite(list(parity.errors.values())).all():
        raise VerificationError(
            f"with {form.weights} weights the model gives values that are not finite",
            remedy="leave the weights as they are; nothing was written",
        )
    accuracy = None
    if samples and form.weights != "float":
        with Runtime.of(MilBackend(files), manifest, warmup=0) as runtime, Runtime(source, device="cpu") as reference:
            own, other = evaluate_pair(runtime, reference, samples, manifest.class_names)
        accuracy = accuracy_of(own, other, reference=source.path.name, dataset=dataset)
    manifest = msgspec.structs.replace(manifest, report=Report(parity=parity, accuracy=accuracy))
    return write_artifact(out, manifest, files, overwrite=overwrite)
