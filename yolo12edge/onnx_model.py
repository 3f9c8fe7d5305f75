"""Finishing an ONNX model, however its graph came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import __version__
from .errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["IR_VERSIONS", "OPSET", "checked_model"]

# The newest that TensorRT 10, OpenVINO and every ONNX Runtime since 1.14 read; ONNX Runtime's CUDA kernels for
# Resize and the static INT8 tools of several engines want it below 19.
OPSET = 17
IR_VERSIONS = {17: 8, 19: 9, 23: 11}
"""The oldest version of the file format that an operator set may be used in."""


def checked_model(
    graph: onnx.GraphProto, metadata: Mapping[str, str], *, opset: int = OPSET, domains: Sequence[str] = ()
) -> onnx.ModelProto:
    """Return the model of a graph, with the shapes of all tensors filled in.

    Args:
        graph: Complete.
        metadata: Custom metadata.
        opset: Of ONNX's own operators, one of ``IR_VERSIONS``.
        domains: Of other operators in the graph, whose shapes are not inferred.

    Raises:
        ExportError: If it is not valid ONNX.
    """
    import onnx
    from onnx import helper

    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSIONS[opset])
    model.producer_name, model.producer_version = "yolo12edge", __version__
    helper.set_model_props(model, dict(metadata))
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=not domains, data_prop=True)
        onnx.checker.check_model(model, full_check=not domains)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX graph is not valid: {error}") from error
    return model
