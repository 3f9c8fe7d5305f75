"""Writing the report card of an INT8 artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ...artifact import CARD_NAMES
from ...errors import InputError
from ...files import atomic_file
from ...manifest import Manifest
from ..results import GuardResult
from .examples import choose_examples
from .facts import card_facts
from .page import card_page
from .plots import card_plots

__all__ = ["write_card"]


def write_card(
    folder: Path,
    *,
    manifest: Manifest,
    result: GuardResult,
    images: Sequence[Path],
    reproduce: Sequence[str],
    verdict: Sequence[str],
    twin_name: str,
    name: str = "",
) -> None:
    """Write ``report.json`` and ``report.html`` into the folder of an artifact; files of these names are replaced.

    The page is one file that refers to nothing outside of itself, so that it can be mailed and archived.

    Args:
        folder: Where the artifact lies.
        manifest: Of the INT8 artifact.
        result: What the guard measured.
        images: The files that ``result.own.predictions`` are of, in that order; empty without labels.
        reproduce: The commands that make the artifact again.
        verdict: Plain sentences: what it cost, what it brought, what to ship.
        twin_name: Name of the float artifact that it was compared with.
        name: Of the artifact; that of the folder if left out.

    Raises:
        InputError: If there is not one image for each prediction, an image cannot be read or the folder not written.
        MissingDependencyError: If matplotlib is not installed.
    """
    predictions = () if result.own is None else result.own.predictions
    if len(images) != len(predictions):
        raise InputError(
            f"there are {len(images)} images for the predictions of {len(predictions)}", expected="as many"
        )
    facts = card_facts(
        name or folder.resolve().name,
        manifest=manifest,
        result=result,
        reproduce=reproduce,
        verdict=verdict,
        twin_name=twin_name,
    )
    examples = choose_examples(result, images)
    # Both are finished before one is written, so that they always tell of the same artifact.
    page = card_page(facts, card_plots(result), examples).encode()
    text = msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n"
    for name, content in zip(CARD_NAMES, (text, page), strict=True):
        with atomic_file(folder / name) as path:
            path.write_bytes(content)
