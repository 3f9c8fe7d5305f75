"""FP32 ONNX, or its Q/DQ form → strongly typed ONNX for TensorRT: what the engine computes in stands in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from ..calibration.graph import load_model
from ..errors import ExportError, InputError
from ..manifest import EMBEDDED_KEY, InputSpec, Manifest, Report
from ..onnx_model import OPSET
from .attention_forms import PLUGIN_DOMAIN, Attention, write_attention
from .batching import FREE, batch_network
from .fp16 import half_nodes, half_overflows, half_scales, half_types
from .graph_edit import GraphEdit
from .graph_ends import WHOLE, best_candidates, pixel_input

if TYPE_CHECKING:
    import onnx

__all__ = ["TensorRtForm", "check_symmetric", "half_overflows", "tensorrt_onnx"]

# Q and DQ know float16 since 19, Attention is of 23; the older, the more versions of TensorRT read it.
_HALF_QDQ_OPSET, _ATTENTION_OPSET = 19, 23
_LARGEST_BATCH = 1024  # of a manifest
_PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class TensorRtForm:
    """How a model is written for TensorRT.

    Attributes:
        precision: Of what is not INT8.
        attention: See ``attention_forms``.
        batch: Number of images, the largest with ``min_batch``.
        min_batch: The smallest number of images; None: it is always ``batch``.
        uint8: Whether the graph takes pixels, uint8 (batch, height, width, 3) BGR, and does the rest.
        candidates: Only the best so many leave the graph; None: all.
        nms_iou: Where the graph suppresses overlapping candidates; None: it does not.
        float_names: Nodes of the source that stay float32, as ``half_overflows`` finds them.

    Raises:
        InputError: If this is impossible or contradicts itself.
    """

    precision: Literal["fp32", "fp16"] = "fp16"
    attention: Attention = "native"
    batch: int = 1
    min_batch: int | None = None
    uint8: bool = False
    candidates: int | None = None
    nms_iou: float | None = None
    float_names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "fp16"):
            raise InputError(f"precision {self.precision!r} is not known here", expected="'fp32' or 'fp16'")
        if self.attention not in ("native", "onnx", "plugin"):
            raise InputError(f"attention {self.attention!r} is not known", expected="'native', 'onnx' or 'plugin'")
        if self.attention == "plugin" and self.precision != "fp16":
            raise InputError(
                "the attention plugin computes in float16", expected="precision='fp16'", remedy="or attention='native'"
            )
        least = self.batch if self.min_batch is None else self.min_batch
        if not 1 <= least <= self.batch <= _LARGEST_BATCH:
            raise InputError(
                f"the batch is {least} to {self.batch}", expected=f"1 <= min_batch <= batch <= {_LARGEST_BATCH}"
            )
        if self.candidates is not None and self.candidates < 1:
            raise InputError(f"{self.candidates} candidates are asked for", expected="at least one")
        if self.nms_iou is None:
            return
        if self.candidates is None:
            raise InputError("the graph cannot suppress all candidates", remedy="say how many: candidates=2048")
        if not 0 <= self.nms_iou <= 1:
            raise InputError(f"nms_iou is {self.nms_iou}", expected="0 to 1")


def tensorrt_onnx(model: bytes, manifest: Manifest, form: TensorRtForm) -> tuple[bytes, Manifest]:
    """Write a model for TensorRT, which computes in the types that stand in the graph.

    Boxes are decoded, candidates chosen and suppressed in float32. Outputs are float32 always, and so is the input,
    unless it takes pixels. The same arguments give the same bytes.

    Args:
        model: Content of the FP32 ``.onnx`` that ``onnx_from_checkpoint`` wrote, or of its Q/DQ form for the target
            ``tensorrt``.
        manifest: Of that model; its format is kept.
        form: How.

    Returns:
        Content of the ``.onnx`` file, with the manifest embedded, and that manifest.

    Raises:
        MissingDependencyError: If onnx is not installed.
        ExportError: If the model is not one that this project has exported, is quantized for another target, or a
            weight does not fit float16.
        InputError: If the form asks for more candidates than TensorRT can choose, or for what the graph of this task
            does not do, or has a node of the plugin in float32.
    """
    proto = load_model(model)
    check_symmetric(proto)
    graph = GraphEdit.of(proto)
    quantized = any(node.op_type in _PAIR for node in graph.nodes)
    _check_task(manifest, form)
    opset = _opset(form, quantized)
    _check_source(proto, manifest.input, quantized, manifest)
    try:
        candidates = _rewrite(graph, manifest, form, opset)
    except (LookupError, ValueError, TypeError) as error:  # the graph may be anybody's
        raise ExportError(
            f"the ONNX graph is not as this project writes it: {type(error).__name__}",
            expected="what `yolo12edge export` wrote",
            remedy="export the checkpoint again",
        ) from error
    finished = _manifest(manifest, form, candidates, quantized)
    domains = (PLUGIN_DOMAIN,) if form.attention == "plugin" else ()
    result = graph.model({EMBEDDED_KEY: finished.to_embedded_json()}, opset=opset, domains=domains)
    del result.graph.value_info[:]  # engines infer the shapes
    return result.SerializeToString(deterministic=True), finished


def _rewrite(graph: GraphEdit, manifest: Manifest, form: TensorRtForm, opset: int) -> int | None:
    """Bring a graph into its form; return how many candidates it chooses, if it does."""
    batch = form.batch if form.min_batch is None else FREE
    float_names = write_attention(graph, form.attention, batch, form.float_names)
    batch_network(graph, batch)
    if form.uint8:
        pixel_input(graph, manifest.input.scale)
    candidates = None
    if form.candidates is not None:
        candidates = best_candidates(graph, form.candidates, nms_iou=form.nms_iou, opset=opset)
    if form.precision == "fp16":
        half_scales(graph)
        half_types(graph, half_nodes(graph.nodes) - float_names)
    return candidates


def check_symmetric(model: onnx.ModelProto) -> None:
    """Refuse Q/DQ pairs that TensorRT does not know.

    Its parser reads uint8 with zero point 0 as int8, with a warning only: half of the codes saturate then.

    Args:
        model: Any; a float model passes.

    Raises:
        ExportError: If a pair is not int8, or has a zero point other than 0.
    """
    from onnx import numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in _PAIR:
            continue
        # Without a zero point the standard means uint8.
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        values = None if zero is None else numpy_helper.to_array(zero)
        if values is not None and values.dtype == np.int8 and not values.any():
            continue
        kind = "no constant zero point" if values is None else f"a zero point of {values.dtype}, up to {values.max()}"
        raise ExportError(
            f"{node.output[0]} has {kind}",
            expected="int8 with zero point 0, all that TensorRT computes with",
            remedy="quantize for the target 'tensorrt'",
        )


def _check_task(manifest: Manifest, form: TensorRtForm) -> None:
    """Refuse a selection that the graph of this task does not make."""
    if form.candidates is not None and manifest.task == "classify":
        raise InputError("a model that classifies has no candidates to choose from", remedy="leave --nms out")
    if form.nms_iou is not None and manifest.task != "detect":
        raise InputError(
            f"the graph suppresses boxes for detect alone, and the task is {manifest.task}",
            remedy="leave --nms out: the Runtime suppresses",
        )


def _opset(form: TensorRtForm, quantized: bool) -> int:
    if form.attention == "onnx":
        return _ATTENTION_OPSET
    return _HALF_QDQ_OPSET if quantized and form.precision == "fp16" else OPSET


def _check_source(model: onnx.ModelProto, spec: InputSpec, quantized: bool, manifest: Manifest) -> None:
    shapes = [[dim.dim_value for dim in item.type.tensor_type.shape.dim] for item in model.graph.input]
    if shapes != [[1, 3, spec.height, spec.width]] or spec.pixels or spec.batch != 1:
        raise ExportError(
            f"the model takes {', '.join(map(str, shapes)) or 'nothing'}",
            expected=f"[1, 3, {spec.height}, {spec.width}], what `yolo12edge export` wrote",
        )
    if quantized != (manifest.precision == "int8"):
        raise ExportError(
            f"the model has {'' if quantized else 'no '}Q/DQ pairs, and its manifest says {manifest.precision}",
            remedy="give the manifest of this very model"
            if quantized
            else "use the float artifact, or allow INT8 to lose more (--max-map-drop): all of its layers are float",
        )


def _manifest(manifest: Manifest, form: TensorRtForm, candidates: int | None, quantized: bool) -> Manifest:
    spec = msgspec.structs.replace(manifest.input, batch=form.batch, min_batch=form.min_batch)
    if form.uint8:
        spec = msgspec.structs.replace(spec, dtype="uint8", layout="NHWC", color="BGR")
    outputs = []
    for output in manifest.outputs:
        shape = (form.batch, *output.shape[1:])
        if candidates is not None and output.role not in WHOLE:
            shape = (*shape[:-1], candidates)
        outputs.append(msgspec.structs.replace(output, shape=shape))
    return msgspec.structs.replace(
        manifest,
        precision="int8" if quantized else form.precision,
        input=spec,
        outputs=outputs,
        nms_iou=form.nms_iou,
        files=[],
        report=Report(),
    )
