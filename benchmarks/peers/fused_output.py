"""Models whose boxes and scores are one tensor, read as the two that a ``Runtime`` expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo12edge.errors import InputError
from yolo12edge.manifest import Manifest
from yolo12edge.runtimes import Backend, TensorInfo

__all__ = ["FusedOutput"]


class FusedOutput:
    """A ``Backend`` of a model with the single output (1, 4 + classes, candidates), seen as boxes and scores.

    Boxes are centre, width and height in network pixels there, and left, top, right, bottom here; scores are
    probabilities in both. So such a model is scored by the same preprocessing, NMS and metrics as any other.

    Args:
        backend: The engine; closed with this object.
        manifest: Of a model of this project for the same classes and image size: it names inputs and outputs.

    Raises:
        InputError: If the model does not have such an input and output.
    """

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        spec = manifest.input
        outputs = {output.role: output for output in manifest.outputs}
        boxes, scores = outputs["boxes"], outputs["scores"]
        expected = (1, 4 + scores.shape[1], scores.shape[2])
        if len(backend.inputs) != 1 or [output.shape for output in backend.outputs] != [expected]:
            backend.close()
            raise InputError(f"the outputs are {backend.outputs}", expected=f"one of shape {expected}")
        self.name, self.device, self.threads = backend.name, backend.device, backend.threads
        (own,) = backend.inputs
        self.inputs = (TensorInfo(spec.name, own.shape, own.dtype),)
        self.outputs = tuple(TensorInfo(output.name, output.shape, output.dtype) for output in (boxes, scores))
        self._backend = backend
        self._input, self._fused = own.name, backend.outputs[0].name
        self._boxes, self._scores = boxes.name, scores.name

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once."""
        (images,) = feeds.values()
        fused = self._backend.infer({self._input: images})[self._fused]
        centre, half = fused[:, :2], fused[:, 2:4] / 2
        return {self._boxes: np.concatenate((centre - half, centre + half), axis=1), self._scores: fused[:, 4:]}

    def close(self) -> None:
        """Let go of the engine."""
        self._backend.close()
