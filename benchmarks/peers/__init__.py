"""Other tools' INT8 models, as black boxes: made in an environment of their own, measured by this project's code.

Nothing of that environment is needed by yolo12edge, and nothing of it is in this repository.
"""
