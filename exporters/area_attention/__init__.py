"""YOLO12's area attention as one GPU kernel, and the two ways in which TensorRT gets it."""

from __future__ import annotations
