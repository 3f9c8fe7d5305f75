"""Numbers as a reader wants them; what was not measured is a dash."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = [
    "MULTIPLY",
    "NONE",
    "decimal",
    "difference",
    "digits_for",
    "megabytes",
    "percent",
    "plural",
    "significant",
    "times",
]

NONE = "\N{EN DASH}"
MULTIPLY = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"
Number = float | None


def decimal(value: Number, digits: int = 2) -> str:
    """Return a number with that many decimals and a real minus."""
    return NONE if _missing(value) else f"{value:,.{digits}f}".replace("-", _MINUS)


def percent(share: Number, digits: int = 2) -> str:
    """Return a share as per cent, without the sign."""
    return NONE if share is None else decimal(100 * share, digits)


def difference(reference: Number, value: Number, *, scale: float = 1.0, digits: int = 2) -> str:
    """Return ``(value - reference) * scale`` with its sign."""
    if reference is None or value is None or _missing(reference) or _missing(value):
        return NONE
    text = f"{(value - reference) * scale:+,.{digits}f}"
    return f"{0:.{digits}f}" if not text.strip("+-0.") else text.replace("-", _MINUS)


def times(ratio: Number) -> str:
    """Return a ratio as a factor."""
    return NONE if _missing(ratio) else f"{ratio:.2f} {MULTIPLY}"


def megabytes(count: int) -> str:
    """Return bytes in MB of a million, without the unit."""
    return decimal(count / 1e6)


def plural(count: int, noun: str, many: str = "") -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def digits_for(values: Iterable[Number]) -> int:
    """Return how many decimals give the largest of some numbers three digits that count."""
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    return max(0, 2 - math.floor(math.log10(largest))) if largest else 0


def significant(value: Number) -> str:
    """Return a number of any size with three digits that count."""
    return NONE if _missing(value) else f"{value:.3g}".replace("-", _MINUS)


def _missing(value: Number) -> bool:
    return value is None or not math.isfinite(value)
