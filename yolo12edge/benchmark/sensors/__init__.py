"""Clocks, temperatures and power, where the machine tells; what it does not tell is absent."""

from __future__ import annotations

from .sampler import Sampler, Series
from .settings import machine_settings

__all__ = ["Sampler", "Series", "machine_settings"]
