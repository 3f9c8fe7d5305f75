"""``METHODS``: the ways to pretrain, by name."""

from __future__ import annotations

from collections.abc import Mapping

from .arrangement import Jigsaw, Rotation
from .config import Method
from .contrastive import Byol, SimClr
from .pretext import Pretext
from .restoration import Colourisation, Inpainting

__all__ = ["METHODS"]

METHODS: Mapping[Method, type[Pretext]] = {
    "simclr": SimClr,
    "byol": Byol,
    "jigsaw": Jigsaw,
    "rotation": Rotation,
    "inpainting": Inpainting,
    "colourisation": Colourisation,
}
