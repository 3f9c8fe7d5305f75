"""Looking at many pictures with one model: here, or with all machines of a Ray cluster."""

from __future__ import annotations

from .looking import Seen, look
from .pseudo_labels import PseudoLabels, write_pseudo_labels

__all__ = ["PseudoLabels", "Seen", "look", "write_pseudo_labels"]
