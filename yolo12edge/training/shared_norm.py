"""Batch norm over the pictures of all processes; PyTorch's own knows GPUs alone."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from .collectives import process_count, sum_of_all

__all__ = ["SharedNorm", "share_norms"]


class SharedNorm(nn.BatchNorm2d):
    """A ``BatchNorm2d`` whose mean and variance in training are those of all processes' batches, of equal size.

    Parameters, buffers and their names are those of ``BatchNorm2d``, and so is what it computes in evaluation.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training or process_count() == 1:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        variance, mean = torch.var_mean(values.detach(), (0, 2, 3), correction=0)
        whole = _mean(mean)
        spread = _mean(variance + (mean - whole).square())
        count = values.numel() // values.shape[1] * process_count()
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            assert self.running_mean is not None
            assert self.running_var is not None
            self.num_batches_tracked += 1
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(whole, momentum)
            self.running_var.lerp_(spread * (count / max(count - 1, 1)), momentum)
        result = _Normalise.apply(values, self.weight, self.bias, whole, (spread + self.eps).rsqrt())  # type: ignore[no-untyped-call]
        return cast("Tensor", result).to(input.dtype)


class _Normalise(torch.autograd.Function):
    """``(x - mean) * scale * weight + bias``, where mean and scale depend on the inputs of all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight, mean, scale)
        slope = weight * scale
        return values * _planes(slope) + _planes(bias - mean * slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, scale = ctx.saved_tensors
        gradient = gradients[0]
        normal = (values - _planes(mean)) * _planes(scale)
        by_bias, by_weight = gradient.sum((0, 2, 3)), (gradient * normal).sum((0, 2, 3))
        # What moves mean and variance moves the outputs of all.
        count = values.numel() // values.shape[1]
        of_mean, of_scale = _mean(torch.stack((by_bias, by_weight))).div_(count)
        by_values = (gradient - _planes(of_mean) - normal * _planes(of_scale)) * _planes(weight * scale)
        return by_values, by_weight, by_bias, None, None


def _mean(values: Tensor) -> Tensor:
    return sum_of_all(values) / process_count()


def _planes(values: Tensor) -> Tensor:
    return values[None, :, None, None]


def share_norms(network: nn.Module) -> None:
    """Make all batch norms of a network shared ones; its state keeps its names."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedNorm
