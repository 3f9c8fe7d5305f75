"""``GraphEdit``: an ONNX graph while it is rewritten, its nodes in order and its constants as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..onnx_model import OPSET, checked_model

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphEdit", "Writer"]


@dataclass(slots=True, eq=False)
class GraphEdit:
    """A graph to rewrite; the model that it came from stays as it is.

    Attributes:
        name: Of the graph.
        nodes: In the order in which they run; every one has a name.
        constants: Initializers by name.
        inputs: Of the graph.
        outputs: Of the graph.
    """

    name: str
    nodes: list[onnx.NodeProto]
    constants: dict[str, npt.NDArray[Any]]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> GraphEdit:
        """Take over a model; a node without a name gets that of its first output."""
        import onnx
        from onnx import numpy_helper

        copy = onnx.GraphProto()
        copy.CopyFrom(model.graph)
        for node in copy.node:
            node.name = node.name or node.output[0]
        constants = {item.name: numpy_helper.to_array(item) for item in copy.initializer}
        return cls(copy.name, list(copy.node), constants, list(copy.input), list(copy.output))

    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """Return the nodes that read each tensor."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    def producers(self) -> dict[str, onnx.NodeProto]:
        """Return the node that gives each tensor."""
        return {name: node for node in self.nodes for name in node.output}

    def model(self, metadata: Mapping[str, str], *, opset: int = OPSET, domains: Sequence[str] = ()) -> onnx.ModelProto:
        """Return the checked model, without what no output depends on.

        Args:
            metadata: Custom metadata.
            opset: Of ONNX's own operators.
            domains: Of other operators in the graph.

        Raises:
            ExportError: If the graph is not valid ONNX.
        """
        from onnx import helper, numpy_helper

        wanted, kept = {item.name for item in self.outputs}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in wanted]
        graph = helper.make_graph(kept[::-1], self.name, self.inputs, self.outputs, constants)
        return checked_model(graph, metadata, opset=opset, domains=domains)


class Writer:
    """Writes nodes that take the place of others, and puts their constants into the graph.

    Attributes:
        nodes: What was written.
    """

    def __init__(self, graph: GraphEdit) -> None:
        self._graph = graph
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, value: Any, dtype: npt.DTypeLike) -> str:
        """Add a constant, or replace the one of this name; return the name."""
        self._graph.constants[name] = np.ascontiguousarray(np.array(value, dtype))
        return name

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output; return the name that node and output share."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        """Add a Reshape to a constant shape, of which one number may be -1."""
        return self.node("Reshape", [x, self.constant(f"{name}.shape", shape, np.int64)], name)
