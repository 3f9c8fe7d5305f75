"""Pictures of what float and INT8 find: those where they differ most, and ordinary ones."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...detections import Detections
from ...errors import InputError
from ...imaging.draw import draw_detections
from ...imaging.images import read_image
from ...metrics.matching import candidate_pairs, closest_first, match_pairs
from ...metrics.target import Target
from ...metrics.tasks import FOUND, Measure
from ..results import GuardResult

__all__ = ["Example", "choose_examples"]

_SIDE = 560  # pixels of the longer side of a picture
_QUALITY = 80
_WORST, _TYPICAL = 3, 3

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Example:
    """One image with what both found.

    Attributes:
        name: Of the file.
        differs: Whether it is shown because the two differ, and not as an ordinary one.
        float_objects: How many objects float found.
        int8_objects: How many INT8 found.
        only_float: Class and confidence of what INT8 did not find, the most confident first.
        only_int8: Class and confidence of what float did not find.
        float_picture: JPEG as a ``data:`` address.
        int8_picture: The same with what INT8 found.
    """

    name: str
    differs: bool
    float_objects: int
    int8_objects: int
    only_float: tuple[str, ...]
    only_int8: tuple[str, ...]
    float_picture: str
    int8_picture: str


def choose_examples(result: GuardResult, images: Sequence[Path]) -> list[Example]:
    """Choose and draw a few images; none without labels.

    Args:
        result: With the detections of both, per image.
        images: The files, in the same order.

    Raises:
        InputError: If an image that is shown cannot be read.
    """
    if result.own is None or result.twin is None:
        return []
    measure = result.own.measure
    pairs = [
        _Pair.of(measure.found(found), measure.found(own), measure)
        for found, own in zip(result.twin.predictions, result.own.predictions, strict=True)
    ]
    gaps = np.array([pair.gap for pair in pairs])
    worst = [int(index) for index in np.argsort(-gaps, kind="stable")[:_WORST] if gaps[index] > 0]
    middle = np.argsort(np.abs(gaps - np.median(gaps)), kind="stable") if len(gaps) else ()
    typical = [int(index) for index in middle if index not in worst][:_TYPICAL]
    return [_example(pairs[index], images[index], measure, differs=index in worst) for index in worst + typical]


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """What both found in one image.

    Attributes:
        twin: What float found.
        own: What INT8 found.
        only_twin: int64, indices into ``twin`` of what has no partner of the same class that overlaps by 0.5 or more.
        only_own: int64, indices into ``own`` of what has none.
        gap: How far the two are apart: confidence that has moved, and that of objects which only one found.
    """

    twin: Detections
    own: Detections
    only_twin: Ints
    only_own: Ints
    gap: float

    @classmethod
    def of(cls, twin: Detections, own: Detections, measure: Measure) -> _Pair:
        reference = Target.of_detections(twin)
        pairs = candidate_pairs([own], [reference], measure.overlap, least=0.5, same_class=True)
        partner = match_pairs(pairs, closest_first(pairs), detections=len(own), targets=len(twin))
        both = np.flatnonzero(partner >= 0)
        only_own = np.flatnonzero(partner < 0)
        only_twin = np.setdiff1d(np.arange(len(twin)), partner)
        moved = np.abs(own.confidence[both] - twin.confidence[partner[both]]).sum()
        # The other may have found the object just below the threshold: what is above it is the least that differs.
        alone = np.concatenate((own.confidence[only_own], twin.confidence[only_twin])) - FOUND
        return cls(twin, own, only_twin, only_own, float(moved + np.maximum(alone, 0).sum()))


def _example(pair: _Pair, path: Path, measure: Measure, *, differs: bool) -> Example:
    image = read_image(path)
    return Example(
        path.name,
        differs,
        len(pair.twin),
        len(pair.own),
        _names(pair.twin[pair.only_twin], measure.class_names),
        _names(pair.own[pair.only_own], measure.class_names),
        *(_picture(image, found, measure) for found in (pair.twin, pair.own)),
    )


def _names(found: Detections, class_names: Sequence[str]) -> tuple[str, ...]:
    order = np.argsort(-found.confidence, kind="stable")
    return tuple(f"{class_names[found.class_id[index]]} {found.confidence[index]:.2f}" for index in order)


def _picture(image: npt.NDArray[np.uint8], found: Detections, measure: Measure) -> str:
    drawn = draw_detections(image, found, measure.class_names, keypoints=measure.keypoints)
    scale = min(1.0, _SIDE / max(drawn.shape[:2]))
    if scale < 1:
        size = [max(1, round(side * scale)) for side in drawn.shape[1::-1]]
        drawn = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise InputError(f"a picture of shape {image.shape} cannot be written as JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
