"""``Ensemble``: several models that answer as one, with the call form of a ``Runtime``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..detections import Detections, Timing
from ..errors import InputError
from ..frame import Color, Frame
from ..imaging.letterbox import plan_letterbox
from ..manifest import Manifest
from ..tasks import decode
from ..thresholds import Thresholds
from .fusion import Method, check_weights, fuse, fuse_probabilities

__all__ = ["Ensemble", "Member"]

_LOOSER = 0.1  # share of the confidence that members are asked for


class Member(Protocol):
    """What takes part: a ``Runtime``, a view of one, or an ``Ensemble``."""

    @property
    def manifest(self) -> Manifest:
        """What the model is."""

    def __call__(
        self, frame: npt.NDArray[Any] | Frame, *, color: Color = "bgr", thresholds: Thresholds | None = None
    ) -> Detections:
        """Detect objects in one frame, in its pixels."""


class Ensemble:
    """Several models that answer as one.

    Models for one task and the same classes, of any engine, size and precision. A frame takes as long as with all of
    them one after the other. What they find is joined by ``fuse``, classes of whole frames by ``fuse_probabilities``.
    It does not own its members, which stay open.

    Args:
        members: The models; several views of one come from ``with_views``.
        weights: How much each counts; None means alike.
        method: How confidences are joined.
        iou: Overlap from which two objects are one.

    Attributes:
        manifest: That of the first.
        engine: The engines of all.
        device: The devices of all.

    Raises:
        InputError: If there is no model, the weights do not fit, or the models are not for one task and the same
            classes.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        weights: Sequence[float] | None = None,
        method: Method = "weighted",
        iou: float = 0.55,
    ) -> None:
        check_weights(members, weights)
        self.members = tuple(members)
        self.manifest = self.members[0].manifest
        for number, member in enumerate(self.members[1:], 2):
            _check_alike(self.manifest, member.manifest, number)
        self._weights, self._method, self._iou = weights, method, iou
        self._whole = any(output.role == "probabilities" for output in self.manifest.outputs)

    @property
    def engine(self) -> str:
        """The engines of the members."""
        return self._each("engine")

    @property
    def device(self) -> str:
        """What the members run on."""
        return self._each("device")

    def __call__(
        self, frame: npt.NDArray[Any] | Frame, *, color: Color = "bgr", thresholds: Thresholds | None = None
    ) -> Detections:
        """Detect objects in one frame.

        Args:
            frame: As a ``Runtime`` takes it; views other than the plain one want NumPy arrays.
            color: What the frame really is, if not BGR.
            thresholds: What to keep; None is ``Thresholds()``.

        Returns:
            Objects in pixels of the frame, best first; their ``timing`` is that of all members together.

        Raises:
            InputError: If the frame is not such an image.
            BackendError: If an engine fails.
        """
        thresholds = Thresholds() if thresholds is None else thresholds
        asked = self._asked(thresholds)
        parts = [
            member(frame, color=color, thresholds=asked.within(member.manifest.nms_iou)) for member in self.members
        ]
        begin = perf_counter()
        joined = (self._read if self._whole else self._fuse)(frame, parts, thresholds)
        return replace(joined, timing=_total(parts, perf_counter() - begin), stamp_ns=parts[0].stamp_ns)

    def batch(
        self,
        frames: Iterable[npt.NDArray[Any] | Frame],
        *,
        color: Color = "bgr",
        thresholds: Thresholds | None = None,
    ) -> list[Detections]:
        """Detect objects in several frames, one after the other; arguments and errors as of a single call."""
        return [self(frame, color=color, thresholds=thresholds) for frame in frames]

    def _asked(self, thresholds: Thresholds) -> Thresholds:
        """Return what members keep: less sure objects too, of which others may be surer."""
        if self._whole:
            return replace(thresholds, confidence=0.0, classes=None)  # the joined probabilities are read instead
        if len(self.members) == 1 or self._method == "vote":
            return thresholds
        return replace(thresholds, confidence=_LOOSER * thresholds.confidence)

    def _fuse(self, frame: npt.NDArray[Any] | Frame, parts: Sequence[Detections], thresholds: Thresholds) -> Detections:
        found = fuse(
            parts,
            weights=self._weights,
            method=self._method,
            iou=self._iou,
            class_agnostic=thresholds.class_agnostic,
        )
        return found[found.confidence >= np.float32(thresholds.confidence)][: thresholds.max_detections]

    def _read(self, frame: npt.NDArray[Any] | Frame, parts: Sequence[Detections], thresholds: Thresholds) -> Detections:
        manifest = self.manifest
        joined = fuse_probabilities(parts, weights=self._weights, method=self._method, multi_label=manifest.multi_label)
        image = frame.image if isinstance(frame, Frame) else frame
        image_hw = (int(image.shape[0]), int(image.shape[1]))
        return decode(manifest, {"probabilities": joined}, plan_letterbox(image_hw, image_hw), thresholds)

    def _each(self, name: str) -> str:
        values = (getattr(member, name, None) for member in _leaves(self.members))
        return ", ".join(dict.fromkeys(str(value) for value in values if value))


def _leaves(members: Iterable[Any]) -> Iterable[Any]:
    """Give the models behind views."""
    for member in members:
        yield from _leaves([member.member]) if hasattr(member, "member") else [member]


def _check_alike(first: Manifest, other: Manifest, number: int) -> None:
    facts = {
        "task": (first.task, other.task),
        "class_names": (first.class_names, other.class_names),
        "keypoints": tuple(None if it.keypoints is None else it.keypoints.count for it in (first, other)),
        "multi_label": (first.multi_label, other.multi_label),
    }
    for name, (mine, theirs) in facts.items():
        if mine != theirs:
            raise InputError(
                f"model 1 has {name} {mine!r:.80} and model {number} has {theirs!r:.80}",
                expected="models for one task, trained on the same classes in the same order",
            )


def _total(parts: Sequence[Detections], joining_s: float) -> Timing | None:
    times = [part.timing for part in parts if part.timing is not None]
    if len(times) < len(parts):
        return None
    pre, infer, post, queue = (
        sum(getattr(time, name) for time in times) for name in ("pre_ms", "infer_ms", "post_ms", "queue_ms")
    )
    return Timing(pre, infer, post + joining_s * 1e3, queue)
