"""Images as arrays: reading, letterbox, boxes, NMS, drawing (numpy and OpenCV only)."""
