"""A small writer of ONNX graphs: static shapes, names chosen by the caller, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ExportError
from ..onnx_model import checked_model

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphWriter"]


class GraphWriter:
    """Collects nodes and constants; every node names its one output after itself."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add a constant tensor and return its name."""
        from onnx import numpy_helper

        self._claim(name)
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    @property
    def constants(self) -> dict[str, npt.NDArray[Any]]:
        """The constants so far, by name."""
        from onnx import numpy_helper

        return {name: numpy_helper.to_array(item) for name, item in self._constants.items()}

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output and return the name that node and output share."""
        return self.nodes(op, inputs, name, [name], **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], name: str, outputs: Sequence[str], **attributes: Any
    ) -> Sequence[str]:
        """Add a node with several outputs and return their names."""
        from onnx import helper

        for output in outputs:
            self._claim(output)
        self._nodes.append(helper.make_node(op, list(inputs), list(outputs), name=name, **attributes))
        return outputs

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        """Add a Reshape to a fixed shape."""
        return self.node("Reshape", [x, self.constant(f"{name}.shape", np.array(shape, np.int64))], name)

    def model(
        self,
        *,
        inputs: Mapping[str, tuple[int, ...]],
        outputs: Mapping[str, tuple[int, ...]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Return the checked model with the shapes of all tensors filled in.

        Args:
            inputs: float32 inputs with their shapes.
            outputs: float32 outputs with their shapes.
            metadata: Custom metadata.

        Raises:
            ExportError: If the graph is not valid ONNX.
        """
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            "yolo12",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            list(self._constants.values()),
        )
        return checked_model(graph, metadata)

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise ExportError(f"two tensors of the ONNX graph would be named {name!r}")
        self._names.add(name)
