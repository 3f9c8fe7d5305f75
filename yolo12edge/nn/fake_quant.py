"""Quantizers of quantization-aware training: values on the grid of 8 bits, with a step that is learned.

LSQ: Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153. The step is kept as its logarithm, so that
it stays positive and an optimizer moves it by a share of itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ActivationQuantizer", "WeightQuantizer", "fake_quantize"]


def fake_quantize(x: Tensor, scale: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Round to multiples of ``scale`` from ``low`` to ``high``; gradients pass where nothing is clipped.

    Args:
        x: Any shape.
        scale: The step, more than 0, of a shape that broadcasts.
        low: Least integer.
        high: Largest integer.

    Returns:
        ``scale`` times integers, of the shape of ``x``. The step's gradient is that of LSQ: what rounding adds where
        nothing is clipped, the bound where something is.
    """
    units = torch.clamp(x / scale, low, high)  # type: ignore[arg-type]
    return (units + (units.round() - units).detach()) * scale


class _Quantizer(nn.Module):
    """A quantizer with its step as a parameter; what the step's gradient is scaled by is LSQ's."""

    decayed = False  # a step is no weight: pulling its logarithm to 0 would mean a step of 1

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(scale.detach().float().log())

    @property
    def scale(self) -> Tensor:
        """The step."""
        scale: Tensor = self.log_scale.exp()
        return scale

    def _step(self, values: int, high: int) -> Tensor:
        """Return the step with its gradient divided by the root of the values that share it times the levels."""
        share = (values * high) ** -0.5
        log = self.log_scale
        step: Tensor = (log.detach() + share * (log - log.detach())).exp()
        return step


class ActivationQuantizer(_Quantizer):
    """One step for a whole tensor, and a fixed integer that stands for zero.

    Args:
        scale: Shape ().
        zero_point: Integer that stands for 0.
        signed: Whether the integers are int8, else uint8.
        learned: Whether the step is learned; False where the range is known whatever the data.
    """

    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: int, *, signed: bool, learned: bool = True) -> None:
        super().__init__(scale)
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int64))
        self.least, self.largest = (-128, 127) if signed else (0, 255)
        self.log_scale.requires_grad_(learned)

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a tensor whose first dimension is the batch."""
        scale = self._step(max(x.numel() // len(x), 1), self.largest)
        return fake_quantize(x, scale, self.least - self.zero_point, self.largest - self.zero_point)


class WeightQuantizer(_Quantizer):
    """One step for each output channel, symmetric.

    Args:
        scale: Shape (out,).
        largest: Largest magnitude of the integers.
    """

    def __init__(self, scale: Tensor, *, largest: int) -> None:
        super().__init__(scale)
        self.largest = largest

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a weight (out, in / groups, height, width)."""
        scale = self._step(max(weight[0].numel(), 1), self.largest)
        return fake_quantize(weight, scale.view(-1, 1, 1, 1), -self.largest, self.largest)
