"""What calibration must know of an exported YOLO12 graph: who gives and reads a tensor, and which part it is in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ExportError, MissingDependencyError

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Graph",
    "graph_digest",
    "group_of",
    "groups_of",
    "head_last",
    "load_model",
    "observable_tensors",
    "stage_of",
]

_STAGE = re.compile(r"model\.(\d+)(?:\.|$)")
# The outputs come out of these; quantized they cost most of the accuracy for a small share of the time.
_HEAD_LAST = re.compile(r"model\.\d+\.(?:cv[234]\.\d+\.2|proto\.cv3\.conv|linear)")
_GROUP = re.compile(r"model\.\d+(?:\.cv[234]\.\d+(?=\.\d)|\.proto(?=\.)|\.m\.\d+\.\d+\.(?:attn|mlp)|\.m\.\d+)?")

# Operators whose inputs and outputs some placement quantizes; the rest of the body only moves values.
_ARITHMETIC = frozenset({"Conv", "Mul", "Add", "Concat", "Resize", "MaxPool", "MatMul", "Gemm", "Softmax"})


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A read-only view of a float ONNX model that this project has exported.

    Attributes:
        model: The model.
        constants: Initializers by name.
        producer: The node that gives a tensor.
        consumers: The nodes that read a tensor.
        decoded: Tensors that depend on the head's last convolutions: never quantized.
    """

    model: onnx.ModelProto
    constants: dict[str, npt.NDArray[Any]]
    producer: dict[str, onnx.NodeProto]
    consumers: dict[str, list[onnx.NodeProto]]
    decoded: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Graph:
        """Analyse a model.

        Raises:
            ExportError: If this is not a graph that this project has exported.
        """
        from onnx import numpy_helper

        constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        producer: dict[str, onnx.NodeProto] = {}
        consumers: dict[str, list[onnx.NodeProto]] = {}
        decoded: set[str] = set()
        for node in model.graph.node:
            if node.op_type == "Conv" and (len(node.input) < 2 or node.input[1] not in constants):
                raise ExportError(f"the weight of {node.name} is not a constant", expected="an exported model")
            reads = [name for name in node.input if name and name not in constants]
            for name in reads:
                consumers.setdefault(name, []).append(node)
            producer.update(dict.fromkeys(node.output, node))
            if head_last(node.name) or decoded.intersection(reads):
                decoded.update(node.output)
        if not decoded or not any(stage_of(node.name) is not None for node in model.graph.node):
            raise ExportError(
                "the ONNX graph has no layers named as this project names them",
                expected="a float model that `yolo12edge export` wrote",
                remedy="export the checkpoint with yolo12edge",
            )
        return cls(model, constants, producer, consumers, frozenset(decoded))

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes in the order in which they run."""
        return list(self.model.graph.node)

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """Return the inputs of a node that are not constants."""
        return [name for name in node.input if name and name not in self.constants]

    def is_body(self, node: onnx.NodeProto) -> bool:
        """Return whether a node lies before the head's last convolutions, where quantization is allowed."""
        return stage_of(node.name) is not None and not self.decoded.intersection(node.output)


def load_model(content: bytes) -> onnx.ModelProto:
    """Parse the content of an ``.onnx`` file.

    Raises:
        MissingDependencyError: If onnx is not installed.
        ExportError: If it is not ONNX, or a constant holds NaN or infinity.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingDependencyError("onnx", extra="export", purpose="to calibrate and quantize") from error
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError, whose package nothing else here needs
        raise ExportError(f"the model is not ONNX: {error}") from error
    for item in model.graph.initializer:
        try:
            array = numpy_helper.to_array(item)
        except Exception as error:  # data cut short, of an unknown type, or kept in another file
            raise ExportError(f"the constant {item.name} cannot be read: {error}") from error
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ExportError(
                f"the weight {item.name} holds values that are not finite",
                expected="a trained model",
                remedy="train again with a lower learning rate, or take an earlier checkpoint",
            )
    return model


def observable_tensors(graph: Graph) -> list[str]:
    """Return every activation that a placement may quantize, each once, in the order of the graph.

    Left out are outputs of sigmoids, which lie in [0, 1] whatever the data, and of operators that only move values.
    """
    found: dict[str, None] = {}
    for node in graph.nodes:
        if node.op_type not in _ARITHMETIC:
            continue
        if graph.is_body(node):
            found.update(dict.fromkeys([*graph.activations(node), *node.output]))
        elif head_last(node.name):
            found.update(dict.fromkeys(graph.activations(node)))
    fixed = {name for name, node in graph.producer.items() if node.op_type in ("Sigmoid", "Softmax")}
    return [name for name in found if name not in fixed]


def graph_digest(model: onnx.ModelProto) -> str:
    """Return the SHA-256 over the computation: nodes, constants, inputs and outputs, but no metadata."""
    digest = hashlib.sha256()
    for part in (model.graph.node, model.graph.initializer, model.graph.input, model.graph.output):
        for item in part:
            content = item.SerializeToString(deterministic=True)
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.hexdigest()


def groups_of(conv: onnx.NodeProto) -> int:
    """Return into how many groups a convolution divides its channels."""
    return next((item.i for item in conv.attribute if item.name == "group"), 1)


def stage_of(node: str) -> int | None:
    """Return the number of the stage that a node belongs to."""
    match = _STAGE.match(node)
    return int(match[1]) if match else None


def head_last(node: str) -> bool:
    """Return whether this is one of the head's last convolutions."""
    return bool(_HEAD_LAST.fullmatch(node))


def group_of(node: str) -> str | None:
    """Return the group that goes back to float together: a block, an attention, an MLP, a branch of the head.

    None for what is never quantized.
    """
    match = _GROUP.match(node)
    if match is None or head_last(node):
        return None
    return match[0]
