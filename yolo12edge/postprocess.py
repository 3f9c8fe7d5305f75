"""``Postprocessor``: from the network's output tensors to ``Detections`` in source pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .detections import Detections
from .errors import ArtifactError, InputError
from .imaging.letterbox import Letterbox
from .manifest import Manifest, Role
from .tasks import decode
from .thresholds import Thresholds

__all__ = ["Postprocessor"]

_DEFAULT = Thresholds()


class Postprocessor:
    """Thresholds, NMS and the way back to source pixels, as the manifest says.

    It holds no state between calls, so threads may share it.

    Args:
        manifest: Of the artifact whose outputs are read.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._outputs = {output.role: output for output in manifest.outputs}
        self._nms_iou = manifest.nms_iou

    def __call__(
        self,
        outputs: Mapping[str, npt.NDArray[np.float32]],
        letterboxes: Sequence[Letterbox],
        thresholds: Thresholds = _DEFAULT,
    ) -> list[Detections]:
        """Read the outputs of one batch.

        Args:
            outputs: By name, each with the shape that the manifest says but for the batch.
            letterboxes: Geometry of each image, as the ``Preprocessor`` gave it. May be fewer than
                the batch, whose last images are padding then.
            thresholds: What counts as a detection.

        Returns:
            One ``Detections`` an image, best first, clipped to the frame. What lies wholly in the
            letterbox padding is left out. What it holds besides boxes depends on the task.

        Raises:
            ArtifactError: If an output is missing or its shape is not the manifest's.
            InputError: If there are more letterboxes than images, a class asked for is not there, or the model has
                already suppressed boxes that ``thresholds.iou`` would keep.
        """
        if self._nms_iou is not None and thresholds.iou > self._nms_iou:
            raise InputError(
                f"thresholds.iou is {thresholds.iou}, but the model has already suppressed boxes at {self._nms_iou}",
                expected=f"at most {self._nms_iou}",
                remedy="ask for no more than that, or export it again with another --nms, or without",
            )
        tensors = {role: self._output(outputs, role) for role in self._outputs}
        fused = tensors.pop("fused", None)
        if fused is not None:
            tensors["boxes"], tensors["scores"] = _corners(fused[:, :4]), fused[:, 4:]
        images = {len(tensor) for tensor in tensors.values()}
        if len(images) > 1 or len(letterboxes) > min(images):
            raise InputError(
                f"outputs are of {' and '.join(map(str, sorted(images)))} images, letterboxes of {len(letterboxes)}",
                expected="as many each",
            )
        return [
            decode(self._manifest, {role: tensor[index] for role, tensor in tensors.items()}, letterbox, thresholds)
            for index, letterbox in enumerate(letterboxes)
        ]

    def _output(self, outputs: Mapping[str, npt.NDArray[Any]], role: Role) -> npt.NDArray[np.float32]:
        spec = self._outputs[role]
        tensor = outputs.get(spec.name)
        if tensor is None:
            raise ArtifactError(
                f"the engine gave no output {spec.name!r} but {sorted(outputs)}", remedy="export the artifact again"
            )
        if tensor.ndim != len(spec.shape) or tensor.shape[1:] != spec.shape[1:]:
            raise ArtifactError(
                f"output {spec.name!r} has shape {tensor.shape}",
                expected=f"({', '.join(('batch', *map(str, spec.shape[1:])))}) as in the manifest",
                remedy="export the artifact again",
            )
        return np.asarray(tensor, np.float32)


def _corners(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return left, top, right, bottom for centre x, centre y, width, height; both (batch, 4, candidates)."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is dropped later
        half = boxes[:, 2:] * np.float32(0.5)
        return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)
