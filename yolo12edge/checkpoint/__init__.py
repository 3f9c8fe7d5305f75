"""Checkpoints: safetensors with metadata, and safe reading of foreign .pt files."""
