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
from .tasks.detect import decode
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
            outputs: By name as in the manifest: boxes, shape (batch, 4, candidates), and scores, shape
                (batch, classes, candidates); or both in one, as foreign models have it.
            letterboxes: Geometry of each image, as the ``Preprocessor`` gave it. May be fewer than
                the batch, whose last images are padding then.
            thresholds: What counts as a detection.

        Returns:
            One ``Detections`` an image, best first, clipped to the frame. What lies wholly in the
            letterbox padding is left out.

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
        if "fused" in self._outputs:
            fused = self._output(outputs, "fused")
            boxes, scores = _corners(fused[:, :4]), fused[:, 4:]
        else:
            boxes, scores = self._output(outputs, "boxes"), self._output(outputs, "scores")
        if len(boxes) != len(scores) or len(letterboxes) > len(boxes):
            raise InputError(
                f"boxes are of {len(boxes)} images, scores of {len(scores)} and letterboxes of {len(letterboxes)}",
                expected="as many each",
            )
        return [
            _in_source(decode(image_boxes, image_scores, thresholds), letterbox)
            for image_boxes, image_scores, letterbox in zip(boxes, scores, letterboxes, strict=False)
        ]

    def _output(self, outputs: Mapping[str, npt.NDArray[Any]], role: Role) -> npt.NDArray[np.float32]:
        spec = self._outputs[role]
        tensor = outputs.get(spec.name)
        if tensor is None:
            raise ArtifactError(
                f"the engine gave no output {spec.name!r} but {sorted(outputs)}", remedy="export the artifact again"
            )
        if tensor.ndim != 3 or tensor.shape[1:] != spec.shape[1:]:
            raise ArtifactError(
                f"output {spec.name!r} has shape {tensor.shape}",
                expected=f"(batch, {spec.shape[1]}, {spec.shape[2]}) as in the manifest",
                remedy="export the artifact again",
            )
        return np.asarray(tensor, np.float32)


def _corners(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return left, top, right, bottom for centre x, centre y, width, height; both (batch, 4, candidates)."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is dropped later
        half = boxes[:, 2:] * np.float32(0.5)
        return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)


def _in_source(detections: Detections, letterbox: Letterbox) -> Detections:
    xyxy = letterbox.to_source(detections.xyxy)
    inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    moved = Detections(xyxy, detections.confidence, detections.class_id)
    return moved if inside.all() else moved[inside]
