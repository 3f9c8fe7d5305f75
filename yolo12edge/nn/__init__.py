"""YOLO12 in PyTorch: blocks, heads, the model at five scales, and its deploy form."""
