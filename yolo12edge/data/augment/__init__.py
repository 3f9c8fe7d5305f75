"""Augmentation of training pictures, on NumPy and OpenCV; a file for each kind of operation."""

from __future__ import annotations

from .picture import Picture
from .presets import default_augmentation, load_augmentation, parse_augmentation, preset_names
from .settings import Augmentation

__all__ = [
    "Augmentation",
    "Picture",
    "default_augmentation",
    "load_augmentation",
    "parse_augmentation",
    "preset_names",
]
