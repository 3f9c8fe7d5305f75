"""Augmentations of tests: strengths by name, most of them off."""

from __future__ import annotations

from yolo12edge.data.augment.settings import (
    Affine,
    Augmentation,
    Crop,
    Erasing,
    Fliplr,
    Flipud,
    Hsv,
    Mixup,
    Mosaic,
)

STILL = Augmentation()


def usual(
    *,
    mosaic: float = 1.0,
    tiles: int = 4,
    mixup: float = 0.0,
    hsv: tuple[float, float, float] = (0.015, 0.7, 0.4),
    fliplr: float = 0.5,
    flipud: float = 0.0,
    **affine: float,
) -> Augmentation:
    """What most detectors are trained with, with other strengths as they are given; affine ones by their names."""
    return Augmentation(
        mosaic=Mosaic(p=mosaic, tiles=tiles),
        affine=Affine(**{"scale": 0.5, "translate": 0.1, **affine}),
        mixup=Mixup(p=mixup),
        hsv=Hsv(hue=hsv[0], saturation=hsv[1], value=hsv[2]),
        fliplr=Fliplr(p=fliplr),
        flipud=Flipud(p=flipud),
    )


def of_classes(*, crop: float = 0.25, erasing: float = 0.0, fliplr: float = 0.0) -> Augmentation:
    """Crops, and no change of colours."""
    return Augmentation(crop=Crop(area=crop), erasing=Erasing(p=erasing), fliplr=Fliplr(p=fliplr))
