"""Building blocks of YOLO12; attribute names are those of the public state dicts.

Source of the architecture: Tian, Ye and Doermann, "YOLOv12: Attention-Centric Real-Time Object
Detectors", arXiv 2502.12524.
"""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import HEAD_DIM

__all__ = ["A2C2f", "ABlock", "AreaAttention", "Bottleneck", "C3k", "C3k2", "Conv", "depthwise"]


class Conv(nn.Module):
    """Convolution without bias, batch norm, SiLU (or nothing).

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel: Odd kernel size; padding keeps the size at stride 1.
        stride: Stride.
        groups: Groups of the convolution.
        act: Whether SiLU follows.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c_out)
        self.act: nn.Module = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, H, W) to (B, c_out, H / stride, W / stride)."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


def depthwise(c_in: int, c_out: int, kernel: int) -> Conv:
    """Return a depthwise ``Conv`` (as far as the channels share a divisor)."""
    return Conv(c_in, c_out, kernel, groups=gcd(c_in, c_out))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions with a residual; ``expansion`` is the hidden width over the outer one."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.cv1 = Conv(channels, hidden, 3)
        self.cv2 = Conv(hidden, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = x + self.cv2(self.cv1(x))
        return out


class C3k(nn.Module):
    """Cross-stage block: one half through two bottlenecks, the other straight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.cv1 = Conv(channels, hidden)
        self.cv2 = Conv(channels, hidden)
        self.cv3 = Conv(2 * hidden, channels)
        self.m = nn.Sequential(Bottleneck(hidden, 1.0), Bottleneck(hidden, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
        return out


class C3k2(nn.Module):
    """ELAN-style block: split in two, ``repeats`` blocks in sequence on the last part, concat all."""

    def __init__(self, c_in: int, c_out: int, repeats: int, *, c3k: bool, expansion: float) -> None:
        super().__init__()
        hidden = int(c_out * expansion)
        self.cv1 = Conv(c_in, 2 * hidden)
        self.cv2 = Conv((2 + repeats) * hidden, c_out)
        self.m = nn.ModuleList(C3k(hidden) if c3k else Bottleneck(hidden, 0.5) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, H, W) to (B, c_out, H, W)."""
        parts = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        out: Tensor = self.cv2(torch.cat(parts, 1))
        return out


class AreaAttention(nn.Module):
    """Multi-head self-attention within ``area`` equal runs of the row-major token sequence.

    Args:
        channels: A multiple of the head dimension, 32.
        area: Number of runs; height times width must be divisible by it.
        joint_qkv: True for variant ``v1`` (one projection, channels ordered q, k, v per head, 7x7
            position encoding), False for ``turbo`` (``qk`` and ``v`` apart, 5x5).
    """

    def __init__(self, channels: int, area: int, *, joint_qkv: bool) -> None:
        super().__init__()
        self.area = area
        self.heads = channels // HEAD_DIM
        self.joint_qkv = joint_qkv
        self.scale = HEAD_DIM**-0.5  # becomes 1 where the scale is folded into the q weights
        if joint_qkv:
            self.qkv = Conv(channels, 3 * channels, act=False)
        else:
            self.qk = Conv(channels, 2 * channels, act=False)
            self.v = Conv(channels, channels, act=False)
        self.pe = Conv(channels, channels, 7 if joint_qkv else 5, groups=channels, act=False)
        self.proj = Conv(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        batch, channels, height, width = x.shape
        heads, area = self.heads, self.area
        run = height * width // area
        if self.joint_qkv:
            q, k, v = self.qkv(x).reshape(batch, heads, 3, HEAD_DIM, height * width).unbind(2)
        else:
            q, k = self.qk(x).reshape(batch, 2, heads, HEAD_DIM, height * width).unbind(1)
            v = self.v(x).reshape(batch, heads, HEAD_DIM, height * width)

        def runs(t: Tensor) -> Tensor:  # (B, heads, 32, tokens) -> (B * area, heads, run, 32)
            t = t.reshape(batch, heads, HEAD_DIM, area, run).permute(0, 3, 1, 4, 2)
            return t.reshape(batch * area, heads, run, HEAD_DIM)

        out = F.scaled_dot_product_attention(runs(q), runs(k), runs(v), scale=self.scale)
        out = out.reshape(batch, area, heads, run, HEAD_DIM).permute(0, 2, 4, 1, 3)
        out = out.reshape(batch, channels, height, width) + self.pe(v.reshape(batch, channels, height, width))
        projected: Tensor = self.proj(out)
        return projected


class ABlock(nn.Module):
    """Area attention and an MLP, each with a residual; no layer norm."""

    def __init__(self, channels: int, area: int, mlp_ratio: float, *, joint_qkv: bool) -> None:
        super().__init__()
        self.attn = AreaAttention(channels, area, joint_qkv=joint_qkv)
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(Conv(channels, hidden), Conv(hidden, channels, act=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class A2C2f(nn.Module):
    """R-ELAN: ``repeats`` stages in sequence, concat, projection, and with attention a scaled residual.

    Args:
        c_in: Input channels.
        c_out: Output channels; half of it must be a multiple of 32.
        repeats: Number of stages.
        area: Token runs of area attention, or None for stages of one ``C3k`` without attention.
        residual: Whether ``x + gamma * y`` is returned (attention stages only, c_in = c_out).
        mlp_ratio: Hidden width of the attention MLP over its input.
        joint_qkv: See ``AreaAttention``.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        repeats: int,
        *,
        area: int | None = None,
        residual: bool = False,
        mlp_ratio: float = 2.0,
        joint_qkv: bool = True,
    ) -> None:
        super().__init__()
        hidden = c_out // 2
        self.cv1 = Conv(c_in, hidden)
        self.cv2 = Conv((1 + repeats) * hidden, c_out)
        self.gamma: nn.Parameter | None = None
        if area is not None and residual:
            self.gamma = nn.Parameter(torch.full((c_out,), 0.01))

        def stage() -> nn.Module:
            if area is None:
                return C3k(hidden)
            return nn.Sequential(*(ABlock(hidden, area, mlp_ratio, joint_qkv=joint_qkv) for _ in range(2)))

        self.m = nn.ModuleList(stage() for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, H, W) to (B, c_out, H, W)."""
        parts = [self.cv1(x)]
        for stage in self.m:
            parts.append(stage(parts[-1]))
        out: Tensor = self.cv2(torch.cat(parts, 1))
        if self.gamma is None:
            return out
        return x + self.gamma.view(1, -1, 1, 1) * out
