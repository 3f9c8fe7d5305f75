"""The deploy form: batch norm and attention scale folded into weights, outputs decoded in the graph."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from .blocks import AreaAttention, Conv
from .config import HEAD_DIM
from .model import YOLO12

__all__ = ["DeployModel", "deploy_form"]


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


def _fold_batch_norm(module: Conv) -> None:
    conv, norm = module.conv, module.bn
    if not isinstance(norm, nn.BatchNorm2d):
        return
    assert norm.running_var is not None
    assert norm.running_mean is not None
    # In float64, so that folding costs no accuracy of its own.
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * factor
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.double() * factor.view(-1, 1, 1, 1)).to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    module.bn = nn.Identity()


def _fold_scale(module: AreaAttention) -> None:
    """Multiply the q rows by the softmax scale: engines fuse attention best without a scale of its own."""
    projection = module.qkv if module.joint_qkv else module.qk
    conv = projection.conv
    factor = torch.ones(conv.out_channels, dtype=conv.weight.dtype, device=conv.weight.device)
    if module.joint_qkv:
        factor.view(module.heads, 3, HEAD_DIM)[:, 0] = module.scale
    else:
        factor[: conv.out_channels // 2] = module.scale
    assert conv.bias is not None
    conv.weight.data *= factor.view(-1, 1, 1, 1)
    conv.bias.data *= factor
    module.scale = 1.0
