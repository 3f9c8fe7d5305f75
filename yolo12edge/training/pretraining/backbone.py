"""``Backbone``: layers 0 to 8 of a YOLO12, and the small networks that pretraining puts behind them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...checkpoint import Checkpoint
from ...checkpoint.checkpoint import check_tensors
from ...nn import ModelConfig, build_model
from ...nn.model import BACKBONE_LAYERS, backbone_maps

__all__ = ["Backbone", "Decoder", "fit_batch_norms", "load_backbone", "projector"]


class Backbone(nn.Module):
    """The layers that find features; keys of its state are those of the whole model.

    Args:
        config: The network that it is of.

    Attributes:
        widths: Channels of the maps at strides 8, 16 and 32.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model: nn.ModuleList = build_model(config).model[:BACKBONE_LAYERS]
        with torch.no_grad():
            maps = backbone_maps(self.model.eval(), torch.zeros(1, 3, 32, 32))
        self.widths = tuple(part.shape[1] for part in maps)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map images (B, 3, H, W) in [0, 1] to maps at strides 8, 16 and 32."""
        return backbone_maps(self.model, images)

    def pooled(self, images: Tensor) -> Tensor:
        """Map images to one vector each: the mean of the map at stride 32."""
        return self(images)[2].mean((2, 3))  # type: ignore[no-any-return]


def load_backbone(source: Path | Checkpoint) -> Backbone:
    """Take the backbone out of a checkpoint: a pretrained one, or that of any model.

    Returns:
        In evaluation mode.

    Raises:
        CheckpointError: If it cannot be read, or its tensors are of another network.
    """
    checkpoint = source if isinstance(source, Checkpoint) else Checkpoint.load(source)
    config = checkpoint.config()
    backbone = Backbone(replace(config, task="detect", num_classes=1, keypoints=None, multi_label=False))
    own = backbone.state_dict()
    tensors = {key: tensor for key, tensor in checkpoint.tensors.items() if key in own}
    check_tensors(tensors, own)
    backbone.load_state_dict(tensors)
    return backbone.eval()


@torch.no_grad()
def fit_batch_norms(backbone: Backbone, batches: Iterable[Tensor]) -> None:
    """Take the statistics of all batch norms anew from images, and set the evaluation mode.

    A random network has none, and a pretrained one those of views: tiles, grey or distorted pictures.

    Args:
        backbone: Changed in place.
        batches: Images (B, 3, H, W) in [0, 1].
    """
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    backbone.train()
    for images in batches:
        backbone(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    backbone.eval()


def projector(width: int, hidden: int, out: int) -> nn.Sequential:
    """Return the perceptron between features and what they are compared by."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


class Decoder(nn.Module):
    """Maps what the backbone found, at all its strides, to a value for each cell of 8 or 4 pixels.

    Args:
        widths: Channels at strides 8, 16 and 32.
        out: Channels of the result.
        zoom: 1 gives cells of 8 pixels, 2 cells of 4.
    """

    def __init__(self, widths: tuple[int, ...], out: int, *, zoom: int = 1) -> None:
        super().__init__()
        hidden = 64
        self.lateral = nn.ModuleList(nn.Conv2d(width, hidden, 1) for width in widths)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(hidden),
            nn.SiLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU(inplace=True),
            nn.Conv2d(hidden, out * zoom**2, 1),
            nn.PixelShuffle(zoom),
        )

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map features to (B, out, H, W) at the finest stride, over ``zoom``."""
        size = maps[0].shape[2:]
        joined = torch.stack(
            [
                functional.interpolate(lateral(part), size=size, mode="nearest")
                for lateral, part in zip(self.lateral, maps, strict=True)
            ]
        ).sum(0)
        return self.mix(joined)  # type: ignore[no-any-return]
