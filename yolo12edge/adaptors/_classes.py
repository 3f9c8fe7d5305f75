"""One value a detection from a table with one value a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..detections import Detections
from ..errors import InputError

__all__ = ["by_class"]

Value = TypeVar("Value")


def by_class(detections: Detections, table: Sequence[Value], *, what: str) -> list[Value]:
    """Return the table's entry for the class of each detection.

    Args:
        detections: n objects.
        table: By class index.
        what: What the table holds, for the message.

    Raises:
        InputError: If the table has no entry for a class.
    """
    classes = detections.class_id
    if len(classes) and not 0 <= classes.min() <= classes.max() < len(table):
        raise InputError(
            f"class ids go from {classes.min()} to {classes.max()}, and there are {len(table)} {what}",
            expected=f"{what} for every class of the model",
        )
    return [table[index] for index in classes.tolist()]
