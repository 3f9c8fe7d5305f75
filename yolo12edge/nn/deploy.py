"""The deploy form: batch norm and attention scale folded into weights, outputs decoded in the graph."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from .blocks import AreaAttention, Conv
from .config import HEAD_DIM
from .model import YOLO12

__all__ = ["DeployModel", "deploy_form", "folded", "query_factors", "query_projection"]


class DeployModel(nn.Module):
    """A YOLO12 ready for export; made by ``deploy_form``."""

    def __init__(self, network: YOLO12) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Run the model and decode what it gives.

        Args:
            images: (B, 3, H, W), RGB in [0, 1]; H and W are multiples of 32.

        Returns:
            The outputs by their roles in a manifest, as ``OutputSpec`` describes them.
        """
        return self.network.head.decode(self.network(images))


def deploy_form(model: YOLO12) -> DeployModel:
    """Return an independent deploy form of a model, in evaluation mode.

    Args:
        model: Any YOLO12; left as it is.

    Returns:
        A module with the same answers up to rounding, without batch norm.
    """
    network = deepcopy(model).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, Conv):
            _fold_batch_norm(module)
    for module in network.modules():
        if isinstance(module, AreaAttention):
            _fold_scale(module)
    return DeployModel(network).eval()


def folded(module: Conv) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that a ``Conv`` is with its batch norm's statistics; differentiable."""
    conv, norm = module.conv, module.bn
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    # In float64, so that folding costs no accuracy of its own.
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * factor
    dtype = conv.weight.dtype
    return (conv.weight.double() * factor.view(-1, 1, 1, 1)).to(dtype), bias.to(dtype)


def query_factors(module: AreaAttention) -> Tensor:
    """Return what multiplies each output channel of the projection that q comes from: the softmax scale, or 1."""
    conv = query_projection(module).conv
    factor = torch.ones(conv.out_channels, dtype=conv.weight.dtype, device=conv.weight.device)
    if module.joint_qkv:
        factor.view(module.heads, 3, HEAD_DIM)[:, 0] = module.scale
    else:
        factor[: conv.out_channels // 2] = module.scale
    return factor


def query_projection(module: AreaAttention) -> Conv:
    """Return the projection that q comes from."""
    return module.qkv if module.joint_qkv else module.qk


def _fold_batch_norm(module: Conv) -> None:
    if not isinstance(module.bn, nn.BatchNorm2d):
        return
    weight, bias = folded(module)
    module.conv.weight = nn.Parameter(weight, requires_grad=False)
    module.conv.bias = nn.Parameter(bias, requires_grad=False)
    module.bn = nn.Identity()


def _fold_scale(module: AreaAttention) -> None:
    """Multiply the q rows by the softmax scale: engines fuse attention best without a scale of its own."""
    conv, factor = query_projection(module).conv, query_factors(module)
    assert conv.bias is not None
    conv.weight.data *= factor.view(-1, 1, 1, 1)
    conv.bias.data *= factor
    module.scale = 1.0
