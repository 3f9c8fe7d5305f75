"""Float ONNX + statistics → INT8 ONNX."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import MissingDependencyError
from .emit import emit_qdq
from .observe import Statistics
from .placement_ort import Placement, place_for_ort
from .quantizers import QuantParams, activation_params
from .ranges import Method, solve_range

__all__ = ["observed_tensors", "quantize_for_ort", "solve_params"]


def observed_tensors(placement: Placement) -> list[str]:
    """Return the tensors whose values must be observed before the placement can be solved."""
    return [name for name in placement.tensors if name not in placement.unit and name not in placement.same_as]


def solve_params(
    placement: Placement, statistics: Statistics, method: Method, *, signed: bool
) -> dict[str, QuantParams]:
    """Return scale and zero point of every quantized activation.

    Args:
        placement: What is quantized.
        statistics: Of at least ``observed_tensors(placement)``.
        method: How ranges are solved.
        signed: int8 symmetric (ARM) instead of uint8 (x86).
    """
    params = {
        # 1/256, the output scale that ONNX Runtime's integer sigmoid is made for, never quite reaches 1.
        name: QuantParams(np.float32(1 / 127), np.int8(0)) if signed else QuantParams(np.float32(1 / 256), np.uint8(0))
        for name in placement.unit
    }
    for name in observed_tensors(placement):
        low, high = solve_range(statistics.tensors[name], method, symmetric=signed)
        params[name] = activation_params(low, high, signed=signed)
    for name, source in placement.same_as.items():
        params[name] = params[source]
    return params


def quantize_for_ort(
    model: bytes,
    statistics: Statistics,
    *,
    method: Method,
    signed: bool,
    reduced_range: bool,
    metadata: Mapping[str, str],
) -> bytes:
    """Return the INT8 form of a float ONNX model for ONNX Runtime; the same arguments give the same bytes.

    Args:
        model: Content of the float ``.onnx`` file.
        statistics: What ``observe`` recorded of it.
        method: How ranges are solved.
        signed: int8 symmetric activations, for ARM; x86 wants uint8.
        reduced_range: 7-bit weights, for x86 without VNNI.
        metadata: Custom metadata of the new model.

    Raises:
        MissingDependencyError: If onnx is not installed.
        ExportError: If the model is not one that this project has exported.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", extra="export", purpose="to quantize") from error
    proto = onnx.load_from_string(model)
    placement = place_for_ort(proto)
    params = solve_params(placement, statistics, method, signed=signed)
    result = emit_qdq(proto, placement, params, reduced_range=reduced_range, metadata=metadata)
    content: bytes = result.SerializeToString(deterministic=True)
    return content
