"""Search for settings of training: a space of settings, trials that are runs, and what was found."""

from __future__ import annotations

from .records import Trial
from .search import Pruner, Sampler, Search, open_search
from .space import Range, Space, Value, default_space, read_space, with_values
from .study import Tuned, tune

__all__ = [
    "Pruner",
    "Range",
    "Sampler",
    "Search",
    "Space",
    "Trial",
    "Tuned",
    "Value",
    "default_space",
    "open_search",
    "read_space",
    "tune",
    "with_values",
]
