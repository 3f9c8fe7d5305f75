"""A network in the arithmetic of its own INT8 graph, for quantization-aware training; and what that has learned.

The graph is the exported one and the quantizers stand where the target's placement has its Q/DQ pairs, so the network
computes what the emitted model will. Where the graph's constants come from need not be described a second time either:
the network is written once more with addresses in place of its weights, and each constant shows which numbers it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..calibration.graph import Graph, head_last
from ..calibration.learned import LearnedRanges
from ..calibration.placement import TARGETS, Placement, place
from ..calibration.quantizers import QuantParams, largest_weight
from ..calibration.ranges import METHODS
from ..calibration.recipe import Recipe
from ..errors import CheckpointError, ExportError
from ..nn import YOLO12, DeployModel, deploy_form
from ..nn.fake_quant import ActivationQuantizer, WeightQuantizer
from ..nn.quantized import OPERATORS, PREFIX, Program, QuantizedYOLO12, Source, Step, begin_at, key_of
from .onnx_network import write_network
from .onnx_writer import GraphWriter

if TYPE_CHECKING:
    import onnx

    from ..checkpoint import Checkpoint
    from ..checkpoint.metadata import Int8Facts

__all__ = ["learned_ranges", "quantized_network"]

_IMAGES = "images"


def quantized_network(network: YOLO12, ranges: LearnedRanges, *, image_size: int) -> QuantizedYOLO12:
    """Put a network into the arithmetic of its INT8 graph.

    Args:
        network: In its training form; its modules become those of the result.
        ranges: Recipe, where the quantizers begin and, where they have not learned yet, what the weights begin at.
        image_size: Side of the square input in pixels, a multiple of 32.

    Raises:
        ExportError: If the graph has what the network cannot run.
    """
    deploy = deploy_form(network)
    graph = Graph.of(_model(deploy, image_size))
    recipe = ranges.recipe
    placement = _place(graph, recipe)
    steps = _steps(graph, placement)
    constants = {name for step in steps for name in step.inputs if name in graph.constants}
    sources = _sources(deploy, graph, constants, image_size)
    shared = {name: group[0] for group in placement.same_scale for name in group}
    quantizers = {name: shared.get(name, name) for name in placement.reads}
    program = Program(_IMAGES, (image_size, image_size), steps, sources, quantizers)
    activations = {
        name: ActivationQuantizer(
            torch.tensor(ranges.activations[name].scale),
            int(ranges.activations[name].zero_point),
            signed=placement.signed,
            learned=name not in placement.unit,
        )
        for name in sorted(set(quantizers.values()))
    }
    weights = {
        name: WeightQuantizer(torch.from_numpy(ranges.weights[name]), largest=largest_weight(recipe.reduced_range))
        for name in placement.weights
    }
    quantized = QuantizedYOLO12(network, program, activations, weights)
    begin_at(
        quantized,
        {
            name: (torch.from_numpy(weight.integers), None if weight.bias is None else torch.from_numpy(weight.bias))
            for name, weight in ranges.rounded.items()
        },
    )
    return quantized


def learned_ranges(checkpoint: Checkpoint) -> LearnedRanges | None:
    """Return what a checkpoint has learned; None if it was not trained so.

    Raises:
        CheckpointError: If what it has learned is not whole.
    """
    facts = checkpoint.meta.int8
    if facts is None:
        return None
    recipe = _recipe_of(facts)
    deploy = deploy_form(checkpoint.model())
    graph = Graph.of(_model(deploy, facts.image_size))
    placement = _place(graph, recipe)
    shared = {name: group[0] for group in placement.same_scale for name in group}
    kind = np.int8 if placement.signed else np.uint8

    def tensor(part: str, name: str, what: str) -> torch.Tensor:
        key = f"{PREFIX}{part}.{key_of(name)}.{what}"
        if key not in checkpoint.tensors:
            raise CheckpointError(
                f"the checkpoint has no {key}", expected="what training has learned of every tensor in 8 bits"
            )
        return checkpoint.tensors[key]

    def steps(part: str, name: str) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = tensor(part, name, "log_scale").exp().numpy()
        if not np.isfinite(found).all() or not found.all():
            raise CheckpointError(f"the steps of {name} are not usable", remedy="take an earlier checkpoint")
        return found

    def params(name: str) -> QuantParams:
        zero_point = int(tensor("activations", name, "zero_point").item())
        return QuantParams(np.float32(steps("activations", name)), kind(zero_point))

    return LearnedRanges(
        recipe,
        {name: params(shared.get(name, name)) for name in placement.reads},
        {name: steps("weights", name) for name in placement.weights},
    )


def _place(graph: Graph, recipe: Recipe) -> Placement:
    return place(
        graph,
        recipe.target,
        attention=recipe.attention,
        join_concats=recipe.join_concats,
        float_groups=recipe.float_groups,
    )


def _recipe_of(facts: Int8Facts) -> Recipe:
    if facts.target not in TARGETS or facts.method not in METHODS:
        raise CheckpointError(
            f"the checkpoint has learned ranges for {facts.target!r}, {facts.method!r} at first",
            expected=f"one of {', '.join(TARGETS)}; one of {', '.join(METHODS)}",
            remedy="use the version of yolo12edge that wrote it",
        )
    return Recipe(
        facts.target,
        method=facts.method,
        attention=facts.attention,
        join_concats=facts.join_concats,
        float_groups=frozenset(facts.float_groups),
        learned=True,
    )


def _model(deploy: DeployModel, image_size: int) -> onnx.ModelProto:
    """Return the float graph without outputs: its nodes and constants are read, and nothing runs it."""
    return _written(deploy, image_size).model(inputs={_IMAGES: (1, 3, image_size, image_size)}, outputs={}, metadata={})


def _written(deploy: DeployModel, image_size: int) -> GraphWriter:
    writer = GraphWriter()
    write_network(writer, deploy, images=_IMAGES, height=image_size, width=image_size)
    return writer


def _steps(graph: Graph, placement: Placement) -> tuple[Step, ...]:
    """Return the nodes that the head's last convolutions need, themselves included."""
    needed: set[str] = set()
    found: list[Step] = []
    for node in reversed(graph.nodes):
        if not head_last(node.name) and not needed.intersection(node.output):
            continue
        needed.update(graph.activations(node))
        quantized = {name for name, readers in placement.reads.items() if node.name in readers}
        attributes, inputs = _attributes(graph, node)
        found.append(Step(node.name, node.op_type, inputs, node.output[0], frozenset(quantized), attributes))
    return tuple(reversed(found))


def _attributes(graph: Graph, node: onnx.NodeProto) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what a step needs to know of its node, and the inputs that are values."""
    from onnx import helper

    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    inputs = tuple(node.input)
    if node.op_type not in OPERATORS:
        raise ExportError(f"{node.name} is a {node.op_type}, which a quantized network cannot run")
    if node.op_type == "Conv":
        return {"stride": given["strides"][0], "padding": given["pads"][0], "groups": given["group"]}, inputs
    if node.op_type == "Reshape":
        return {"shape": graph.constants[node.input[1]].tolist()}, inputs[:1]
    if node.op_type == "Transpose" and given["perm"][0] != 0:
        raise ExportError(f"{node.name} moves the batch", expected="a graph that this project has exported")
    if node.op_type == "Resize":
        return {}, inputs[:1]
    return {"axis": given.get("axis"), "perm": given.get("perm")}, inputs


def _sources(deploy: DeployModel, graph: Graph, names: set[str], image_size: int) -> dict[str, Source]:
    """Return which numbers of which parameter each constant holds, found by writing addresses in their place."""
    kept = {name: parameter.detach().clone() for name, parameter in deploy.network.named_parameters()}
    numbers = {name: torch.full_like(value, index) for index, (name, value) in enumerate(kept.items())}
    places = {name: torch.arange(value.numel(), dtype=torch.float32).view(value.shape) for name, value in kept.items()}
    which = _constants(deploy, numbers, image_size)
    where = _constants(deploy, places, image_size)
    order = list(kept)
    found: dict[str, Source] = {}
    for name in names:
        own, number = graph.constants[name], int(which[name].flat[0])
        parameter = order[min(number, len(order) - 1)]
        index = torch.from_numpy(where[name].astype(np.int64))
        flat = kept[parameter].flatten()
        # The last look catches everything, addresses that a float cannot hold among it.
        if number >= len(order) or index.max() >= len(flat) or not np.array_equal(flat[index].numpy(), own):
            raise ExportError(
                f"the constant {name} of the graph is not made of numbers of one parameter",
                expected="weights that are moved, and not computed with",
            )
        whole = index.numel() == len(flat) and bool((index.flatten() == torch.arange(len(flat))).all())
        found[name] = Source(parameter, None if whole else index, own.shape)
    return found


def _constants(deploy: DeployModel, values: Mapping[str, torch.Tensor], image_size: int) -> Mapping[str, Any]:
    """Return the constants of the graph of a network with other parameters."""
    for name, parameter in deploy.network.named_parameters():
        parameter.data = values[name]
    return _written(deploy, image_size).constants
