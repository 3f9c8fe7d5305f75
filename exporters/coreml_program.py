"""The project's ONNX graph → an ML program, operator by operator, with our names, our integers and our scales.

What Core ML runs well is kept or made: SiLU is one operator, every map of the attention has rank 4 with the tokens last
(transposes fold into its two products), and integers of weights become ``constexpr`` operators, so that they stay
integers in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ExportError, Yolo12EdgeError
from ..manifest import InputSpec, Weights
from ..runtimes.coreml_library import import_coremltools, one_line
from .attention_forms import write_attention
from .batching import FREE, batch_network
from .coreml_operators import OPERATORS
from .coreml_weights import WeightWriter
from .fp16 import half_scales
from .graph_edit import GraphEdit, Writer
from .tensorrt_onnx import check_symmetric

if TYPE_CHECKING:
    import onnx

__all__ = ["mil_program", "program_name"]

_REMEDY = "name the checkpoint, or the -fp32 artifact that `yolo12edge export` wrote"
_SINGLE = (".dfl", ".points", ".turn")  # where distances, keypoints and angles begin, and all that follows from them


def mil_program(
    model: bytes, spec: InputSpec, *, target: Any, weights: Weights, half: bool, float_names: frozenset[str]
) -> tuple[Any, frozenset[str]]:
    """Translate an ONNX model.

    Args:
        model: Content of the ``.onnx`` file: float, or with int8 Q/DQ pairs.
        spec: Input of the program. Its batch and least batch may be others than the model's; ``uint8`` stands for an
            image, whose values 0 to 255 the program scales itself.
        target: A member of ``coremltools.target``, iOS17 or later with Q/DQ pairs.
        weights: How the weights of a float model are stored.
        half: Whether it is to compute in half precision later on.
        float_names: Nodes of the model that then stay float32.

    Returns:
        The program, with the one function ``main``, all in float32 still; and the names in the program of what stays
        float32: of ``float_names``, and of the last few operators, which give places. Half precision has steps of half
        a pixel at 640, which makes the mean error four times as large.

    Raises:
        MissingDependencyError: If coremltools or onnx is not installed.
        ExportError: If this is not a graph that this project has exported, an operator has no counterpart here, or a
            Q/DQ pair is not int8 with zero point 0.
    """
    from ..calibration.graph import load_model

    import_coremltools()
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types

    onnx_model = load_model(model)
    check_symmetric(onnx_model)
    graph = GraphEdit.of(onnx_model)
    batch = spec.batch if spec.min_batch in (None, spec.batch) else FREE
    if batch != 1:  # for one image, the hub's own attention has one dimension less to move
        float_names = write_attention(graph, "native", batch, float_names)
    batch_network(graph, batch)
    if "boxes" in {item.name for item in graph.outputs}:
        _share_centres(graph, batch)
    if half:
        half_scales(graph)
    program = Program()
    shape = [get_new_symbol() if batch == FREE else batch, 3, spec.height, spec.width]
    placeholder = Builder.placeholder(shape=shape, dtype=types.fp32)
    with Function({spec.name: placeholder}, opset_version=target) as function:
        images = function.inputs[spec.name]
        if spec.pixels:
            images = Builder.mul(x=images, y=np.float32(spec.scale), name=f"{spec.name}_scaled")
        translation = _Translation(graph, {spec.name: images}, WeightWriter(weights, target))
        function.set_outputs([translation.output(item.name) for item in graph.outputs])
    program.add_function("main", function)
    return program, frozenset(program_name(name) for name in _decoded(graph) | float_names)


def program_name(name: str) -> str:
    """Return the name of a tensor in the program, where dots are not allowed."""
    return name.replace(".", "_")


def _decoded(graph: GraphEdit) -> set[str]:
    """Return the first output of each operator that computes places from what the head gives."""
    found: set[str] = set()
    firsts: set[str] = set()
    for node in graph.nodes:
        if node.name.endswith(_SINGLE) or found.intersection(node.input):
            found.update(node.output)
            firsts.add(node.output[0])
    return firsts


def _share_centres(graph: GraphEdit, batch: int) -> None:
    """Let both corners of a box be added to one table of centres: at 640 that saves 67 kB, which a palette feels."""
    flat = next(node for node in graph.nodes if node.name.endswith(".dfl.flat"))
    total = next(node for node in graph.nodes if node.output[0] == "boxes")
    name, centres = f"{flat.name.removesuffix('.dfl.flat')}.xyxy", graph.constants[total.input[1]]
    count = centres.shape[2]
    graph.constants[flat.input[1]] = np.array([batch, 2, 2, count])
    graph.constants[total.input[1]] = np.ascontiguousarray(centres[:, None, :2])  # (1, 1, 2, candidates)
    total.name = total.output[0] = name
    writer = Writer(graph)
    writer.reshape(name, (batch, 4, count), "boxes")
    graph.nodes += writer.nodes


class _Translation:
    """One walk over a graph, which is in the order in which it runs."""

    def __init__(self, graph: GraphEdit, inputs: dict[str, Any], weights: WeightWriter) -> None:
        self._values: dict[str, Any] = dict(inputs)
        self._constants = graph.constants
        self._weights = weights
        self._gates = _gates(graph)
        for node in _reachable(graph):
            try:
                self._translate(node)
            except Yolo12EdgeError:
                raise
            except Exception as error:  # a missing attribute, and whatever coremltools' builder refuses
                raise ExportError(
                    f"the ONNX operator {node.op_type} of {node.name} cannot be translated: {one_line(error)}",
                    remedy=_REMEDY,
                ) from error

    def output(self, name: str) -> Any:
        """Return the variable of an output of the graph."""
        return self._values[name]

    def _translate(self, node: onnx.NodeProto) -> None:
        name, kind = program_name(node.output[0]), node.op_type
        if node.output[0] in self._gates:
            return
        if kind == "DequantizeLinear" and node.input[0] in self._constants:
            integers, scales = self._constants[node.input[0]], self._constants[node.input[1]]
            self._values[node.output[0]] = self._weights.integers(integers, scales, program_name(node.output[0]))
            return
        inputs = [self._value(item) for item in node.input]
        if kind == "Mul" and (gated := [item for item in node.input if item in self._gates]):
            kind, inputs = "SiLU", [self._values[self._gates[gated[0]]]]
        if kind == "Conv" and isinstance(inputs[1], np.ndarray):
            inputs[1] = self._weights.floats(inputs[1], program_name(node.input[1]))
        operator = OPERATORS.get(kind)
        if operator is None:
            raise ExportError(
                f"the ONNX operator {kind} of {node.name} has no counterpart in a Core ML export",
                expected=f"one of {', '.join(OPERATORS)}",
                remedy=_REMEDY,
            )
        given = operator(node, inputs, name)
        self._values.update(zip(node.output, given if isinstance(given, (tuple, list)) else (given,), strict=True))

    def _value(self, name: str) -> Any:
        if name in self._constants:
            return self._constants[name]
        return self._values.get(name)


def _reachable(graph: GraphEdit) -> Sequence[onnx.NodeProto]:
    """Return the nodes that an output depends on."""
    wanted, kept = {item.name for item in graph.outputs}, []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _gates(graph: GraphEdit) -> dict[str, str]:
    """Return what each Sigmoid reads that only serves to multiply just that: together they are SiLU."""
    readers, found = graph.readers(), {}
    ends = {item.name for item in graph.outputs}
    for node in graph.nodes:
        gate = node.output[0]
        if node.op_type != "Sigmoid" or gate in ends:
            continue
        users = readers.get(gate, [])
        if users and all(user.op_type == "Mul" and set(user.input) == {gate, node.input[0]} for user in users):
            found[gate] = node.input[0]
    return found
