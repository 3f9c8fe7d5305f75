"""FP32 ONNX artifact → FP16 ONNX artifact, for engines with half-precision kernels (CUDA, TensorRT, ARM)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..artifact import Artifact, check_float_onnx, write_artifact
from ..calibration.graph import Graph, head_last, load_model, stage_of
from ..errors import ExportError, InputError
from ..manifest import EMBEDDED_KEY, InputSpec, Report
from ..preprocess import Preprocessor
from .graph_edit import GraphEdit
from .onnx_from_torch import MODEL_NAME
from .verify import Frame, check_half_parity, compare_with_onnx, verification_frames

if TYPE_CHECKING:
    import onnx

__all__ = [
    "LARGEST_ON_IMAGES",
    "half_nodes",
    "half_overflows",
    "half_precision",
    "half_scales",
    "half_types",
    "onnx_fp16_from_onnx",
]

_LARGEST = float(np.finfo(np.float16).max)
LARGEST_ON_IMAGES = _LARGEST / 8
"""What a tensor may reach on the images that are looked at, see ``half_overflows``."""
# Inputs that the standard wants in another type, whatever the data is: scales of Resize, shapes of Reshape.
_DATA_INPUTS = {"Resize": 1, "Reshape": 1, "Slice": 1}


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
    edit = GraphEdit.of(graph.model)
    half_types(edit, half_nodes(edit.nodes))
    content: bytes = edit.model(metadata).SerializeToString(deterministic=True)
    return content


def half_nodes(nodes: Sequence[onnx.NodeProto]) -> frozenset[str]:
    """Return the names of the nodes that may compute in half precision: all up to the head's last convolutions."""
    found: set[str] = set()
    decoded: set[str] = set()
    for node in nodes:
        is_decoded = bool(decoded.intersection(node.input))
        if stage_of(node.name) is not None and not is_decoded:
            found.add(node.name)
        if is_decoded or head_last(node.name):
            decoded.update(node.output)
    return frozenset(found)


def half_types(graph: GraphEdit, half: frozenset[str]) -> None:
    """Let nodes compute in half precision and all others in float32, with casts where they meet.

    A Q follows the tensor that it reads, a DQ the nodes that read it.

    Args:
        graph: All of it float32, or int8 between Q and DQ; changed in place.
        half: Names of the nodes.

    Raises:
        ExportError: If a weight does not fit half precision.
    """
    from onnx import TensorProto, helper

    readers = graph.readers()
    is_half: dict[str, bool] = {}  # by tensor
    nodes: list[onnx.NodeProto] = []
    casts: set[str] = set()

    def typed(name: str, wanted: bool) -> str:
        """Return a tensor in the type that is wanted."""
        array = graph.constants.get(name)
        if array is not None:
            return _half_constant(graph, name) if wanted and array.dtype == np.float32 else name
        if is_half.get(name, False) == wanted:
            return name
        other = f"{name}.half" if wanted else f"{name}.float"
        if other not in casts:
            casts.add(other)
            kind = TensorProto.FLOAT16 if wanted else TensorProto.FLOAT
            nodes.append(helper.make_node("Cast", [name], [other], name=other, to=kind))
        return other

    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            wanted = is_half.get(node.input[0], False)
        elif node.op_type == "DequantizeLinear":
            wanted = any(reader.name in half for reader in readers.get(node.output[0], ()))
        else:
            wanted = node.name in half
        first = 1 if node.op_type == "DequantizeLinear" else 0  # what it reads is int8
        for index, name in enumerate(node.input[: _DATA_INPUTS.get(node.op_type)]):
            if name and index >= first:
                node.input[index] = typed(name, wanted)
        is_half.update(dict.fromkeys(node.output, wanted and node.op_type != "QuantizeLinear"))
        nodes.append(node)
    graph.nodes = nodes


def half_scales(graph: GraphEdit) -> None:
    """Round the scales of Q/DQ pairs to numbers that half precision has, and INT8 weights to the new scales.

    The scale of a weight may be 1e-5 or less, where half precision knows few numbers, or below the least of them. As
    the integers are rounded anew, no weight moves by more than half a step.

    Args:
        graph: Its scales are float32; changed in place.
    """
    rounded: dict[str, npt.NDArray[np.float32]] = {}
    for node in graph.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        integers, scale = graph.constants.get(node.input[0]), graph.constants[node.input[1]]
        near = np.clip(scale, np.finfo(np.float16).smallest_subnormal, _LARGEST / 2).astype(np.float16)
        # Half a step lower at the end of the range is the most that rounding down may cost.
        near = np.where(near < scale * (1 - 0.5 / 127), np.nextafter(near, np.float16(np.inf)), near)
        # A scale beyond that, which no trained network has, stays float32 with whoever reads it, or is refused.
        near = np.where(scale <= _LARGEST / 2, near.astype(np.float32), scale)
        rounded[node.input[1]] = near
        if integers is not None:
            ratio = (scale.astype(np.float64) / near).reshape(-1, *(1,) * (integers.ndim - 1))
            graph.constants[node.input[0]] = np.clip(np.rint(integers * ratio), -127, 127).astype(np.int8)
    graph.constants.update(rounded)


def half_overflows(model: bytes, spec: InputSpec, frames: Sequence[Frame]) -> frozenset[str]:
    """Return the nodes of a float model that half precision has no room for.

    A tensor has to stay below ``LARGEST_ON_IMAGES``, an eighth of what half precision holds, because other images reach
    further: on two trained networks, by up to 4.9 times beyond the first three images. The nodes that give and that
    read a tensor which does not are returned, and those whose weights do not fit. Sums inside of an operator do not
    count, because engines add up in float32. Values that are too small are no reason either: beside those of their
    tensor that half precision does hold they do not matter, and a tensor without any would fail the parity check.

    Args:
        model: Content of the float ``.onnx`` file.
        spec: Its input.
        frames: Real images, calibration images or rendered scenes, uint8 BGR; noise says nothing.

    Raises:
        MissingDependencyError: If onnx or onnxruntime is not installed.
        InputError: If there is no image.
    """
    from onnx import TensorProto, helper

    from ..runtimes.ort_backend import OrtBackend

    if not len(frames):
        raise InputError("there is no image to look for large values on", remedy="give real images")
    graph = GraphEdit.of(load_model(model))
    half = half_nodes(graph.nodes)
    heavy = {
        node.name
        for node in graph.nodes
        if node.name in half and any(_peak(graph.constants.get(name)) > _LARGEST for name in node.input)
    }
    tensors = list(
        dict.fromkeys(
            name
            for node in graph.nodes
            if node.name in half
            for name in (*node.input[: _DATA_INPUTS.get(node.op_type)], *node.output)
            if name and name not in graph.constants
        )
    )
    for name in tensors:  # the peaks alone leave the model: its tensors together are larger than many memories
        graph.nodes += [
            helper.make_node("Abs", [name], [f"{name}.abs"], name=f"{name}.abs"),
            helper.make_node("ReduceMax", [f"{name}.abs"], [f"{name}.peak"], name=f"{name}.peak", keepdims=0),
        ]
        graph.outputs.append(helper.make_tensor_value_info(f"{name}.peak", TensorProto.FLOAT, []))
    preprocess = Preprocessor(spec)
    large: set[str] = set()
    with closing(OrtBackend(graph.model({}).SerializeToString(), device="cpu")) as engine:
        for frame in frames:
            peaks = engine.infer({spec.name: preprocess(frame)[0]})
            large |= {name for name in tensors if not float(peaks[f"{name}.peak"]) <= LARGEST_ON_IMAGES}  # NaN too
    return frozenset(
        heavy
        | {node.name for node in graph.nodes if node.name in half and large.intersection((*node.input, *node.output))}
    )


def _half_constant(graph: GraphEdit, name: str) -> str:
    array = graph.constants[name]
    if _peak(array) > _LARGEST:
        raise ExportError(f"the weight {name} reaches {_peak(array):.3g}", expected=f"at most {_LARGEST:.0f} for fp16")
    graph.constants[f"{name}.half"] = array.astype(np.float16)
    return f"{name}.half"


def _peak(array: npt.NDArray[Any] | None) -> float:
    return 0.0 if array is None or array.dtype != np.float32 else float(np.abs(array).max(initial=0))
