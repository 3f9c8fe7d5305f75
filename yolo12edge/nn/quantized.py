"""``QuantizedYOLO12``: a network that computes as its exported INT8 graph does, and can be trained so.

What runs in 8 bits is decided on the exported graph, tensor by tensor. Rather than to place quantizers into the modules
a second time, the network runs that graph: its nodes up to the head's last convolutions are ``Step``s, and each of its
constants is gathered from the network's own parameters, batch norms folded as for the export. So the parameters stay
those of a ``YOLO12``, with the steps of the quantizers beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import AreaAttention, Conv
from .deploy import folded, query_factors, query_projection
from .fake_quant import ActivationQuantizer, WeightQuantizer
from .heads import HeadOutput, anchor_grid
from .model import YOLO12

__all__ = [
    "OPERATORS",
    "PREFIX",
    "Program",
    "QuantizedYOLO12",
    "Source",
    "Step",
    "begin_at",
    "deploy_parameters",
    "key_of",
]

PREFIX = "int8."
"""What the keys of the quantizers begin with, beside those of the network."""
_INSIDE = 0.45  # steps from the middle of its interval at which a weight that was moved into it lies at most


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the graph.

    Attributes:
        name: Of the node.
        op: Its operator, one of ``OPERATORS``.
        inputs: Tensors and constants that it reads.
        output: The tensor that it gives.
        quantized: Those of ``inputs`` that it reads in 8 bits.
        attributes: What else the operator needs: ``stride``, ``padding`` and ``groups``; ``axis``; ``perm``; ``shape``.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    quantized: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where a constant of the graph comes from: ``parameter.flatten()[index]``.

    Attributes:
        parameter: Name of the parameter in the deploy form.
        index: int64, of the shape of the constant; None if it is the whole parameter as it is.
        shape: Of the constant.
    """

    parameter: str
    index: Tensor | None
    shape: tuple[int, ...]

    def of(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the constant."""
        flat = parameters[self.parameter].flatten()
        return (flat if self.index is None else flat[self.index]).view(self.shape)

    def put(self, parameters: Mapping[str, Tensor], constant: Tensor) -> None:
        """Write the constant into its parameter, a contiguous one; of a number held several times, the mean."""
        flat, given = parameters[self.parameter].view(-1), constant.flatten()
        index = torch.arange(len(flat)) if self.index is None else self.index.flatten()
        times = torch.zeros_like(flat).index_add(0, index, torch.ones_like(given))
        total = torch.zeros_like(flat).index_add(0, index, given)
        flat.copy_(torch.where(times > 0, total / times, flat))


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What a quantized network runs.

    Attributes:
        images: Name of the input.
        size: Height and width that it is made for, in pixels.
        steps: In the order in which they run.
        sources: Of each constant that the steps read.
        quantizers: By tensor that is read in 8 bits, the name of its quantizer: tensors of one scale share it.
    """

    images: str
    size: tuple[int, int]
    steps: tuple[Step, ...]
    sources: Mapping[str, Source]
    quantizers: Mapping[str, str]


class QuantizedYOLO12(YOLO12):
    """A YOLO12 in the arithmetic of its INT8 graph; batch norms keep the statistics that they have.

    Args:
        network: The network; its modules and parameters become those of this one.
        program: Of its exported graph.
        activations: Quantizers by the names in ``program.quantizers``.
        weights: Quantizers by the names of the convolutions with 8-bit weights.
    """

    def __init__(
        self,
        network: YOLO12,
        program: Program,
        activations: Mapping[str, ActivationQuantizer],
        weights: Mapping[str, WeightQuantizer],
    ) -> None:
        nn.Module.__init__(self)
        self.config = network.config
        self.model = network.model
        self.program = program
        self.int8 = nn.ModuleDict(
            {
                "activations": nn.ModuleDict({key_of(name): item for name, item in activations.items()}),
                "weights": nn.ModuleDict({key_of(name): item for name, item in weights.items()}),
            }
        )

    def forward(self, images: Tensor) -> HeadOutput | Tensor:
        """Map images (B, 3, H, W) of the program's size to what the head gives before it is decoded."""
        if tuple(images.shape[2:]) != self.program.size:
            raise ValueError(f"the images are {tuple(images.shape[2:])}, not {self.program.size}")
        return self._gathered(self.run(images), images)

    def run(self, images: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Run the steps and return what each gives, by the name of the tensor.

        Args:
            images: (B, 3, H, W).
            given: Tensors that the steps read in place of those that were computed: of another engine, to compare
                with it node by node.
        """
        parameters = deploy_parameters(self)
        found: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {**(given or {}), self.program.images: images}
        rounded: dict[str, Tensor] = {}
        constants: dict[str, Tensor] = {}
        activations, weights = self.int8["activations"], self.int8["weights"]
        assert isinstance(activations, nn.ModuleDict)
        assert isinstance(weights, nn.ModuleDict)

        def read(step: Step, name: str) -> Tensor:
            if name in self.program.sources:
                if name not in constants:
                    constants[name] = self.program.sources[name].of(parameters)
                return constants[name]
            if name not in step.quantized:
                return values[name]
            if name not in rounded:
                rounded[name] = activations[key_of(self.program.quantizers[name])](values[name])
            return rounded[name]

        for step in self.program.steps:
            inputs = [read(step, name) for name in step.inputs]
            if (key := key_of(step.name)) in weights:
                inputs[1] = weights[key](inputs[1])
            found[step.output] = OPERATORS[step.op](inputs, step.attributes)
            values.setdefault(step.output, found[step.output])
        return found

    def _gathered(self, values: Mapping[str, Tensor], images: Tensor) -> HeadOutput | Tensor:
        """Return what the head's last convolutions gave, as the head would."""
        path = f"model.{len(self.model) - 1}"
        if (linear := f"{path}.linear") in values:
            return values[linear].flatten(1)

        def flat(branch: str) -> Tensor:
            return torch.cat([values[f"{path}.{branch}.{index}.2"].flatten(2) for index in range(3)], 2)

        sizes = [(map.shape[2], map.shape[3]) for map in (values[f"{path}.cv2.{index}.2"] for index in range(3))]
        anchors, strides = anchor_grid(sizes, device=images.device, dtype=torch.float32)
        branch = flat("cv4") if f"{path}.cv4.0.2" in values else None
        prototypes = values.get(f"{path}.proto.cv3.conv")
        if prototypes is not None:
            prototypes = F.silu(prototypes)
        return HeadOutput(flat("cv2"), flat("cv3"), anchors, strides, branch, prototypes)


def deploy_parameters(network: YOLO12) -> dict[str, Tensor]:
    """Return the parameters of the network's deploy form by name, as functions of its own parameters."""
    found: dict[str, Tensor] = {
        name: parameter for name, parameter in network.named_parameters() if not name.startswith(PREFIX)
    }
    modules = dict(network.named_modules())
    for path, module in modules.items():
        if isinstance(module, Conv):
            weight, bias = folded(module)
            found.update({f"{path}.conv.weight": weight, f"{path}.conv.bias": bias})
    for path, module in modules.items():
        if isinstance(module, AreaAttention):
            factor, projection = query_factors(module), "qkv" if module.joint_qkv else "qk"
            assert query_projection(module) is getattr(module, projection)
            name = f"{path}.{projection}.conv"
            found[f"{name}.weight"] = found[f"{name}.weight"] * factor.view(-1, 1, 1, 1)
            found[f"{name}.bias"] = found[f"{name}.bias"] * factor
    return found


@torch.no_grad()
def begin_at(network: QuantizedYOLO12, rounded: Mapping[str, tuple[Tensor, Tensor | None]]) -> None:
    """Let a network begin at given integers: weights that the nearest would not give are moved, as little as will do.

    So training begins with the very model that calibration made, of roundings that make up for each other and of biases
    that make up for their mean, and not with one that it would have to find again.

    Args:
        network: Changed in place.
        rounded: By convolution its integers, and its bias if it has one.
    """
    if not rounded:
        return
    before = deploy_parameters(network)
    after = {name: parameter.clone(memory_format=torch.contiguous_format) for name, parameter in before.items()}
    weights = network.int8["weights"]
    assert isinstance(weights, nn.ModuleDict)
    for step in network.program.steps:
        if step.name not in rounded:
            continue
        integers, bias = rounded[step.name]
        quantizer = weights[key_of(step.name)]
        assert isinstance(quantizer, WeightQuantizer)
        scale = quantizer.scale.view(-1, 1, 1, 1)
        source = network.program.sources[step.inputs[1]]
        units = source.of(before) / scale
        moved = units.clamp(integers - _INSIDE, integers + _INSIDE)
        kept = units.round().clamp(-quantizer.largest, quantizer.largest) == integers
        source.put(after, torch.where(kept, units, moved) * scale)
        if bias is not None:
            network.program.sources[step.inputs[2]].put(after, bias)
    for name, (parameter, factor) in _origins(network).items():
        change = after[name] - before[name]
        shape = (-1, *[1] * (change.ndim - 1))
        parameter += torch.where(change == 0, 0.0, change / factor.view(shape))


def _origins(network: YOLO12) -> dict[str, tuple[Tensor, Tensor]]:
    """Return by which parameter one of the deploy form moves, and what that is multiplied by in it, by channel."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for path, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None:
            found.update({f"{path}.{name}": (item, item.new_ones(1)) for name, item in module.named_parameters()})
        elif isinstance(module, Conv):
            conv, norm = module.conv, module.bn
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_var is not None
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            found[f"{path}.conv.weight"] = conv.weight, factor
            found[f"{path}.conv.bias"] = norm.bias, torch.ones_like(factor)
    for path, module in network.named_modules():
        if isinstance(module, AreaAttention):
            projection = "qkv" if module.joint_qkv else "qk"
            for name in (f"{path}.{projection}.conv.weight", f"{path}.{projection}.conv.bias"):
                parameter, factor = found[name]
                found[name] = parameter, factor * query_factors(module)
    return found


def key_of(name: str) -> str:
    """Return the name of a tensor or node as a key of modules, which have no dots."""
    return name.replace(".", "/")


Run = Callable[[list[Tensor], Mapping[str, Any]], Tensor]

# Written for one image, the graph has the batch in the first number of every shape: as a factor, where heads of
# attention lie there too.
OPERATORS: dict[str, Run] = {
    "Conv": lambda x, a: F.conv2d(
        x[0], x[1], x[2] if len(x) > 2 else None, a["stride"], a["padding"], groups=a["groups"]
    ),
    "Sigmoid": lambda x, a: x[0].sigmoid(),
    "Mul": lambda x, a: x[0] * x[1],
    "Add": lambda x, a: x[0] + x[1],
    "Concat": lambda x, a: torch.cat(x, a["axis"]),
    "MatMul": lambda x, a: x[0] @ x[1],
    "Softmax": lambda x, a: x[0].softmax(a["axis"]),
    "Transpose": lambda x, a: x[0].permute(a["perm"]),
    "Reshape": lambda x, a: x[0].reshape(-1, *a["shape"][1:]),
    "Resize": lambda x, a: F.interpolate(x[0], scale_factor=2.0, mode="nearest"),
    "DepthToSpace": lambda x, a: F.pixel_shuffle(x[0], 2),
    "GlobalAveragePool": lambda x, a: x[0].mean((2, 3), keepdim=True),
}
