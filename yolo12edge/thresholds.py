"""``Thresholds``: what counts as a detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

from .errors import InputError

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as a detection.

    Attributes:
        confidence: Lowest score kept, in [0, 1].
        iou: A box is suppressed where its IoU with a better one is greater than this, in [0, 1].
        max_detections: How many detections of an image to keep at most, the best ones.
        classes: Class indices to look for; None for all.
        class_agnostic: Whether boxes of different classes suppress each other.
        multi_label: Whether a box counts once for every class over the confidence, instead of for
            its best class only.

    Raises:
        InputError: If a value is out of range.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300
    classes: tuple[int, ...] | None = None
    class_agnostic: bool = False
    multi_label: bool = False

    def __post_init__(self) -> None:
        for name in ("confidence", "iou"):
            value = getattr(self, name)
            if not _is_number(value, Real):
                raise InputError(f"{name} is {value!r}", expected="a number from 0 to 1")
            if not 0.0 <= value <= 1.0:  # also refuses NaN
                raise InputError(f"{name} is {value}", expected="a number from 0 to 1")
        if not _is_number(self.max_detections, Integral) or self.max_detections < 1:
            raise InputError(f"max_detections is {self.max_detections!r}", expected="a whole number, at least 1")
        if self.classes is not None and (
            not isinstance(self.classes, Sequence) or not all(_is_number(item, Integral) for item in self.classes)
        ):
            raise InputError(
                f"classes is {self.classes!r}",
                expected="class indices, such as (0, 2)",
                remedy="of a name: runtime.manifest.class_names.index('person')",
            )
        if self.classes is not None and (not self.classes or min(self.classes) < 0):
            raise InputError(
                f"classes is {self.classes}",
                expected="one or more class indices, none below 0",
                remedy="leave it None to look for all classes",
            )

    def within(self, suppressed: float | None) -> Thresholds:
        """Return what can be asked of a model that has suppressed boxes at this IoU by itself; None: it has not."""
        return self if suppressed is None or self.iou <= suppressed else replace(self, iou=suppressed)


def _is_number(value: object, kind: type) -> bool:
    """Return whether it is such a number, of Python or NumPy; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)
