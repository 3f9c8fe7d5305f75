"""Files that come with the package: the demo's checkpoint, and what ``doctor --measure`` runs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DEMO_CHECKPOINT", "PROBES"]

DEMO_CHECKPOINT = Path(__file__).parent / "demo-yolo12n.safetensors"
"""A YOLO12n of six classes at 320 px, trained by ``examples/make_demo_checkpoint.py``; float16."""

PROBES = Path(__file__).parent
"""Folder of ``probe-*.onnx.xz``: YOLO12n at 640 px with made-up weights, by ``benchmarks/make_probe_models.py``."""
