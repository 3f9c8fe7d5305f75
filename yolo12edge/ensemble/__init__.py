"""Several models, or one model on several views of a frame, that answer as one; free of torch."""

from __future__ import annotations

from .ensemble import Ensemble, Member
from .fusion import Method, fuse, fuse_probabilities
from .moving import mirror, shift
from .views import VIEWS, Mirrored, Shrunk, View, with_views

__all__ = [
    "VIEWS",
    "Ensemble",
    "Member",
    "Method",
    "Mirrored",
    "Shrunk",
    "View",
    "fuse",
    "fuse_probabilities",
    "mirror",
    "shift",
    "with_views",
]
