"""The YOLO12 network: backbone, neck and head for five tasks, at five scales and in two variants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import A2C2f, C3k2, Conv
from .config import SCALES, TRAITS, ModelConfig, scale_channels
from .heads import HEADS, Head, HeadOutput

__all__ = ["BACKBONE_LAYERS", "YOLO12", "backbone_maps", "build_model"]

BACKBONE_LAYERS = 9


class YOLO12(nn.Module):
    """A YOLO12 in its training form.

    ``self.model`` is indexed as the public state dicts are; entries without weights (upsampling,
    concatenation) are identities there and live in ``forward``.

    Args:
        config: What to build.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        scale = SCALES[config.scale]
        large = config.scale in ("m", "l", "x")
        joint_qkv = config.variant == "v1"
        stem_groups = (1, 1) if joint_qkv else (2, 4)

        def width(channels: int) -> int:
            return scale_channels(channels, scale)

        def repeats(count: int) -> int:
            return max(round(count * scale.depth), 1)

        def attention(channels: int, area: int) -> A2C2f:
            return A2C2f(
                width(channels),
                width(channels),
                repeats(4),
                area=area,
                residual=bool(config.residual),
                mlp_ratio=float(config.mlp_ratio or 0),
                joint_qkv=joint_qkv,
            )

        c64, c128, c256, c512, c1024 = (width(c) for c in (64, 128, 256, 512, 1024))
        backbone = [
            Conv(3, c64, 3, 2),
            Conv(c64, c128, 3, 2, groups=stem_groups[0]),
            C3k2(c128, c256, repeats(2), c3k=large, expansion=0.25),
            Conv(c256, c256, 3, 2, groups=stem_groups[1]),
            C3k2(c256, c512, repeats(2), c3k=large, expansion=0.25),
            Conv(c512, c512, 3, 2),
            attention(512, config.areas[0]),
            Conv(c512, c1024, 3, 2),
            attention(1024, config.areas[1]),
        ]
        neck = [
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.Identity(),
            A2C2f(c1024 + c512, c512, repeats(2)),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.Identity(),
            A2C2f(c512 + c512, c256, repeats(2)),
            Conv(c256, c256, 3, 2),
            nn.Identity(),
            A2C2f(c256 + c512, c512, repeats(2)),
            Conv(c512, c512, 3, 2),
            nn.Identity(),
            C3k2(c512 + c1024, c1024, repeats(2), c3k=True, expansion=0.5),
        ]
        traits, head = TRAITS[config.task], HEADS[config.task]
        if traits.head == BACKBONE_LAYERS:
            self.model = nn.ModuleList([*backbone, head.build((c1024,), config)])
        else:
            self.model = nn.ModuleList([*backbone, *neck, head.build((c256, c512, c1024), config)])
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = config.bn_eps, traits.bn_momentum

    @property
    def head(self) -> Head:
        """The head of the task."""
        head = self.model[-1]
        assert isinstance(head, Head)
        return head

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, 3, H, W) to what the head reads: maps at strides 8, 16 and 32, or without a neck at 32."""
        layer = self.model
        p3, p4, p5 = backbone_maps(layer, images)
        if len(layer) == BACKBONE_LAYERS + 1:
            return (p5,)
        up4 = layer[11](torch.cat((layer[9](p5), p4), 1))
        out3 = layer[14](torch.cat((layer[12](up4), p3), 1))
        out4 = layer[17](torch.cat((layer[15](out3), up4), 1))
        out5 = layer[20](torch.cat((layer[18](out4), p5), 1))
        return out3, out4, out5

    def forward(self, images: Tensor) -> HeadOutput | Tensor:
        """Map images to what the head gives before it is decoded.

        Args:
            images: (B, 3, H, W), RGB in [0, 1]; H and W are multiples of 32.

        Returns:
            Raw outputs of all candidates, P3 first; for classify, logits (B, classes).
        """
        output: HeadOutput | Tensor = self.head(self.features(images))
        return output


def backbone_maps(layer: nn.ModuleList, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Map images (B, 3, H, W) to the maps of the backbone, layers 0 to 8, at strides 8, 16 and 32."""
    x = images
    for index in range(5):
        x = layer[index](x)
    p4 = layer[6](layer[5](x))
    return x, p4, layer[8](layer[7](p4))


def build_model(config: ModelConfig) -> YOLO12:
    """Return a randomly initialised YOLO12 (PyTorch's default initialisation, see ``ABlock``)."""
    return YOLO12(config)
