"""One small module per task: how its outputs become Detections."""
