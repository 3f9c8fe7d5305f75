"""How the inputs of a convolution vary together: what a rounding of its weights must be judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..manifest import InputSpec
from ..runtimes.cores import physical_cores
from .graph import Graph, groups_of, load_model
from .images import CalibrationImages
from .observe import activations, parts_of

if TYPE_CHECKING:
    import onnx

__all__ = ["observe_grams"]

Floats = npt.NDArray[np.float32]


def observe_grams(
    model: bytes,
    convolutions: Sequence[str],
    images: CalibrationImages,
    spec: InputSpec,
    *,
    patches: int = 256,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Floats]:
    """Record the Gram matrices of convolutions' inputs.

    The squared change of a layer's output, when its weight changes by ``d``, is ``dᵀ gram d`` on average.

    Args:
        model: Content of the float ``.onnx`` file.
        convolutions: Names of its Conv nodes.
        images: What to run it on.
        spec: Its input.
        patches: At how many random output positions of each image to look.
        threads: CPU threads; None takes the physical cores that this process may use.
        progress: Called after each run with the number done and the number of all.

    Returns:
        By name of the node, E[patch patchᵀ] of what one output sees, float32, shape (groups, K, K) with
        K = in / groups * height * width, in the order of the flattened weight.

    Raises:
        MissingDependencyError: If onnx or onnxruntime is not installed.
        ExportError: If the model is not one that this project has exported.
        InputError: If an image cannot be read.
    """
    proto = load_model(model)
    graph = Graph.of(proto)
    wanted = set(convolutions)
    layers = [_Layer.of(node, graph) for node in graph.nodes if node.name in wanted]
    parts = parts_of(proto, list(dict.fromkeys(layer.source for layer in layers)))
    grams: dict[str, Floats] = {}
    seen: dict[str, int] = {}
    done = 0
    for part in parts:
        for index, values in enumerate(activations(proto, part, images, spec, threads=threads or physical_cores())):
            random = np.random.default_rng(index)
            for layer in layers:
                if layer.source in values:
                    rows = layer.patches(values[layer.source], patches, random)
                    gram = rows.swapaxes(1, 2) @ rows
                    grams[layer.name] = grams[layer.name] + gram if layer.name in grams else gram
                    seen[layer.name] = seen.get(layer.name, 0) + rows.shape[1]
            done += 1
            if progress is not None:
                progress(done, len(parts) * len(images.paths))
    return {name: grams[name] / np.float32(seen[name]) for name in convolutions}


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution's geometry; pairs are (height, width)."""

    name: str
    source: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, left, bottom, right
    groups: int

    @classmethod
    def of(cls, node: onnx.NodeProto, graph: Graph) -> _Layer:
        from onnx import helper

        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        kernel = graph.constants[node.input[1]].shape[2:]
        return cls(
            node.name,
            node.input[0],
            (kernel[0], kernel[1]),
            tuple(given.get("strides", (1, 1))),
            tuple(given.get("dilations", (1, 1))),
            tuple(given.get("pads", (0, 0, 0, 0))),
            groups_of(node),
        )

    def patches(self, values: Floats, count: int, random: np.random.Generator) -> Floats:
        """Return what some outputs see, zero where that is padding.

        Args:
            values: Input of the layer, shape (1, in, height, width).
            count: How many positions to draw; all of them if there are fewer.
            random: Draws them.

        Returns:
            Shape (groups, positions, K).
        """
        _, channels, *size = values.shape
        steps, inside = [], []
        outputs = [
            (
                size[axis]
                + self.padding[axis]
                + self.padding[axis + 2]
                - self.dilation[axis] * (self.kernel[axis] - 1)
                - 1
            )
            // self.stride[axis]
            + 1
            for axis in (0, 1)
        ]
        total = outputs[0] * outputs[1]
        drawn = random.choice(total, count, replace=False) if count < total else np.arange(total)
        for axis, position in enumerate(divmod(drawn, outputs[1])):
            offset = np.arange(self.kernel[axis]) * self.dilation[axis] - self.padding[axis]
            place = position[:, None] * self.stride[axis] + offset
            inside.append((place >= 0) & (place < size[axis]))
            steps.append(np.clip(place, 0, size[axis] - 1))
        index = steps[0][:, :, None] * size[1] + steps[1][:, None, :]
        seen = values.reshape(channels, -1)[:, index.reshape(-1)].reshape(self.groups, -1, len(drawn), index[0].size)
        seen *= (inside[0][:, :, None] & inside[1][:, None, :]).reshape(len(drawn), -1)
        rows: Floats = np.ascontiguousarray(seen.swapaxes(1, 2)).reshape(self.groups, len(drawn), -1)
        return rows
