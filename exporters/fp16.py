"""FP32 ONNX artifact → FP16 ONNX artifact, for engines with half-precision kernels (CUDA, TensorRT, ARM)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..artifact import Artifact, check_float_onnx, write_artifact
from ..calibration.graph import Graph, head_last, load_model
from ..errors import ExportError
from ..manifest import EMBEDDED_KEY, Report
from ..onnx_model import checked_model
from .onnx_from_torch import MODEL_NAME
from .verify import Frame, check_half_parity, compare_with_onnx, verification_frames

if TYPE_CHECKING:
    import onnx

__all__ = ["half_precision", "onnx_fp16_from_onnx"]

_LARGEST = float(np.finfo(np.float16).max)
# Inputs that the standard wants in another type, whatever the data is: scales of Resize, shapes of Reshape.
_DATA_INPUTS = {"Resize": 1, "Reshape": 1}


def onnx_fp16_from_onnx(
    source: Artifact,
    out: Path | str,
    *,
    images: Sequence[Path | Frame] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Cast an FP32 ONNX artifact to half precision, typed in the graph; input and outputs stay float32.

    Boxes are decoded in float32: half precision steps by 0.5 px from 512 px on.

    Args:
        source: The FP32 artifact.
        out: Directory to write.
        images: Pictures to compare on, as files or uint8 BGR arrays; None renders a few scenes.
        overwrite: Whether an artifact at ``out`` may be replaced.

    Raises:
        InputError: If the source is not FP32 ONNX, or ``out`` must not be replaced.
        MissingDependencyError: If onnx or onnxruntime is not installed.
        ExportError: If a weight does not fit half precision.
        VerificationError: If the result does not agree with the source; nothing is written then.
    """
    from ..runtimes.ort_backend import OrtBackend

    check_float_onnx(source.manifest, source.path)
    manifest = msgspec.structs.replace(source.manifest, precision="fp16", report=Report(), files=[])
    model = source.model_file.read_bytes()
    content = half_precision(Graph.of(load_model(model)), {EMBEDDED_KEY: manifest.to_embedded_json()})
    with closing(OrtBackend(content, device="cpu")) as candidate:
        parity, rounding = compare_with_onnx(model, candidate, manifest, verification_frames(images))
    check_half_parity(parity, rounding=rounding)
    finished = msgspec.structs.replace(manifest, report=Report(parity=parity))
    return write_artifact(out, finished, {MODEL_NAME: content}, overwrite=overwrite)


def half_precision(graph: Graph, metadata: dict[str, str]) -> bytes:
    """Return the content of the FP16 model.

    Raises:
        ExportError: If a weight does not fit half precision.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    halves: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    images = graph.model.graph.input[0].name
    nodes.append(helper.make_node("Cast", [images], [f"{images}.half"], name=f"{images}.half", to=TensorProto.FLOAT16))

    def half_constant(name: str) -> str:
        array = graph.constants[name]
        if array.dtype != np.float32:
            return name
        if np.abs(array).max(initial=0) > _LARGEST:
            raise ExportError(
                f"the weight {name} reaches {np.abs(array).max():.3g}", expected=f"at most {_LARGEST:.0f} for fp16"
            )
        halves[f"{name}.half"] = numpy_helper.from_array(array.astype(np.float16), f"{name}.half")
        return f"{name}.half"

    for original in graph.nodes:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        last = head_last(node.name)
        if graph.is_body(original) or last:
            for index, name in enumerate(original.input[: _DATA_INPUTS.get(node.op_type)]):
                if name == images:
                    node.input[index] = f"{images}.half"
                elif name in graph.constants:
                    node.input[index] = half_constant(name)
        nodes.append(node)
        if last:
            output = node.output[0]
            node.output[0] = f"{output}.half"
            nodes.append(
                helper.make_node("Cast", [f"{output}.half"], [output], name=output + ".float", to=TensorProto.FLOAT)
            )
    used = {name for node in nodes for name in node.input}
    kept = [item for item in graph.model.graph.initializer if item.name in used]
    whole = graph.model.graph
    rebuilt = helper.make_graph(nodes, whole.name, list(whole.input), list(whole.output), [*kept, *halves.values()])
    content: bytes = checked_model(rebuilt, metadata).SerializeToString(deterministic=True)
    return content
