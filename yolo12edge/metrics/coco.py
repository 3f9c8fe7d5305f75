"""COCO's tables of precision and recall, through faster-coco-eval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import MissingDependencyError
from .matching import best_per_class
from .overlap import CocoTables
from .target import Target

__all__ = ["SIZES", "coco_tables"]

SIZES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""Areas in square pixels of all, small, medium and large objects."""
_MOST = (1, 10, 100)

Annotations = list[dict[str, Any]]


def coco_tables(
    predictions: Sequence[Detections],
    targets: Sequence[Target],
    num_classes: int,
    *,
    kind: Literal["bbox", "segm", "keypoints"],
    fields: Callable[[Detections | Target], Annotations],
    sigmas: npt.NDArray[np.float64] | None = None,
) -> CocoTables:
    """Return what COCO's evaluation accumulates.

    Args:
        predictions: Detections per image, in source pixels.
        targets: Labelled objects per image, in source pixels.
        num_classes: How many classes there are.
        kind: What COCO compares.
        fields: Gives what an annotation of each object of an image has besides box, class and score.
        sigmas: Of keypoints.

    Raises:
        MissingDependencyError: If faster-coco-eval is not installed.
    """
    precision, recall = np.full((10, 101, num_classes, 4), -1.0), np.full((10, num_classes, 3), -1.0)
    labelled = np.unique(np.concatenate([np.zeros(0, np.int64), *(target.class_id for target in targets)]))
    if not labelled.size:
        return CocoTables(precision, recall)
    truth = _by_class([(target.boxes, target.class_id, None, fields(target)) for target in targets], num_classes)
    kept = [best_per_class(found) for found in predictions]
    found = _by_class([(part.xyxy, part.class_id, part.confidence, fields(part)) for part in kept], num_classes)
    sizes = [target.image_hw for target in targets]
    # One class at a time: COCO's classes do not touch each other, and its objects are dictionaries of over 1 KB each.
    for index in labelled:
        evaluation = _evaluate(found[index], truth[index], sizes, kind, sigmas)
        precision[:, :, index] = evaluation["precision"][:, :, 0, :, -1]
        recall[:, index] = evaluation["recall"][:, 0, 0]
    return CocoTables(precision, recall)


def _evaluate(
    found: Annotations,
    truth: Annotations,
    sizes: Sequence[tuple[int, int]],
    kind: str,
    sigmas: npt.NDArray[np.float64] | None,
) -> dict[str, Any]:
    """Return what COCO's evaluation accumulates for one class."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingDependencyError("faster-coco-eval", extra="val", purpose="to compute average precision") from error
    images = sorted({annotation["image_id"] for annotation in (*found, *truth)})  # the others change nothing
    common = {
        "images": [{"id": image, "height": sizes[image][0], "width": sizes[image][1]} for image in images],
        "categories": [{"id": 0, "name": ""}],
    }
    evaluation = COCOeval_faster(
        COCO({**common, "annotations": truth}),
        COCO({**common, "annotations": found}),
        iouType=kind,
        kpt_oks_sigmas=None if sigmas is None else sigmas.tolist(),
    )
    evaluation.params.maxDets = list(_MOST)
    evaluation.params.areaRng = [list(limits) for limits in SIZES]
    evaluation.params.areaRngLbl = ["all", "small", "medium", "large"]
    evaluation.evaluate()
    evaluation.accumulate()
    accumulated: dict[str, Any] = evaluation.eval
    return accumulated


def _by_class(
    images: Sequence[
        tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32] | None, Annotations]
    ],
    num_classes: int,
) -> list[Annotations]:
    """Return the objects of each class as COCO has them; their numbers start at 1, 0 would mean "not matched"."""
    result: list[Annotations] = [[] for _ in range(num_classes)]
    for image, (boxes, class_id, confidence, others) in enumerate(images):
        xywh = boxes.astype(np.float64)
        # a negative area would hide the box from COCO
        xywh[:, 2:] = np.maximum(xywh[:, 2:] - xywh[:, :2], 0.0)
        scores = [{}] * len(boxes) if confidence is None else [{"score": score} for score in confidence.tolist()]
        for box, index, score, other in zip(xywh.tolist(), class_id.tolist(), scores, others, strict=True):
            own = result[index]
            about = {"id": len(own) + 1, "image_id": image, "category_id": 0, "bbox": box, "area": box[2] * box[3]}
            own.append({**about, **score, **other})
    return result
