"""Files that come with the package: ``demo-yolo12n.safetensors``, the checkpoint of ``yolo12edge demo``."""
