"""Statistics of a dataset as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...reports.formats import decimal, megabytes, plural
from .counting import CopyGroup, DatasetStatistics, SplitFacts, Spread

__all__ = ["copies_line", "facts_of", "most", "statistics_markdown"]

_SHOWN = 20


def statistics_markdown(statistics: DatasetStatistics) -> str:
    """Return the statistics as a Markdown document."""
    parts = [f"# {statistics.dataset}", f"Task: {statistics.task}. {copies_line(statistics)}"]
    splits = statistics.splits
    names = [name for name, _ in facts_of(next(iter(splits.values())), whole=statistics.whole)]
    columns = [dict(facts_of(facts, whole=statistics.whole)) for facts in splits.values()]
    parts.append(_table(["", *splits], [[name, *(column[name] for column in columns)] for name in names]))
    head = ["class", *(f"{split}: objects" for split in splits), *(f"{split}: images" for split in splits)]
    rows = [
        [of_split[0].name, *(f"{one.objects:,}" for one in of_split), *(f"{one.images:,}" for one in of_split)]
        for of_split in zip(*(facts.classes for facts in splits.values()), strict=True)
    ]
    parts += ["## Classes", _table(head, rows)]
    if statistics.copies:
        lines = [_copies(group) for group in statistics.copies[:_SHOWN]]
        more = len(statistics.copies) - _SHOWN
        parts += ["## Copies", "\n".join(lines + ([f"- … and {more} more groups"] if more > 0 else []))]
    return "\n\n".join(parts) + "\n"


def _copies(group: CopyGroup) -> str:
    what = f"{'the same file' if group.exact else 'nearly the same'}{', labels differ' if group.labels_differ else ''}"
    where = (f"{split}: {', '.join(f'`{image}`' for image in images)}" for split, images in group.images.items())
    return f"- {what}: {'; '.join(where)}"


def copies_line(statistics: DatasetStatistics) -> str:
    """Say in a sentence what is there more than once."""
    if not statistics.copies:
        return "No picture is there twice."
    redundant = sum(sum(map(len, group.images.values())) - 1 for group in statistics.copies)
    leaks = len(statistics.leaks)
    between = f"{plural(leaks, 'group')} of them in several splits" if leaks else "none of them in several splits"
    shows = "picture shows" if redundant == 1 else "pictures show"
    return f"{redundant:,} {shows} what others show, {between}."


def facts_of(facts: SplitFacts, *, whole: bool) -> list[tuple[str, str]]:
    """Return the facts of a split by name, as text.

    Args:
        facts: Of the split.
        whole: Whether labels are of whole pictures, so that boxes say nothing.
    """
    found = [
        ("images", f"{facts.images:,}"),
        ("without an object", f"{facts.background:,}"),
        ("unreadable", f"{facts.unreadable:,}"),
        ("synthetic", f"{facts.synthetic:,}"),
        ("MB", megabytes(facts.bytes)),
        ("formats", most(facts.formats)),
        ("pixels", most(facts.kinds)),
        ("without colour", f"{facts.grey:,}"),
        ("sizes", most(facts.sizes)),
        ("brightness, 0 to 255", _spread(facts.brightness, 0)),
        ("objects", f"{sum(one.objects for one in facts.classes):,}"),
        ("objects of an image", _spread(facts.objects, 0)),
    ]
    if whole:
        return found
    areas = ", ".join(f"{count:,} {name}" for name, count in facts.areas.items())
    return [
        *found,
        ("side of an object, pixels", _spread(facts.sides, 0)),
        ("width / height", _spread(facts.aspects, 2)),
        ("objects by COCO's areas", areas),
    ]


def most(counts: Mapping[str, int], shown: int = 3) -> str:
    """Return the most frequent of several with their counts."""
    if len(counts) == 1:
        return next(iter(counts))
    listed = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:shown])
    return listed + (f" and {len(counts) - shown} more" if len(counts) > shown else "")


def _spread(spread: Spread, digits: int) -> str:
    low, middle, high = (decimal(value, digits) for value in (spread.low, spread.median, spread.high))
    return f"{middle} ({low} to {high})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
