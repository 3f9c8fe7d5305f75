"""Files that come with the package: the demo's checkpoint."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DEMO_CHECKPOINT"]

DEMO_CHECKPOINT = Path(__file__).parent / "demo-yolo12n.safetensors"
"""A YOLO12n of six classes at 320 px, trained by ``examples/make_demo_checkpoint.py``; float16."""
