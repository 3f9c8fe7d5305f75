"""``--tta`` and ``--ensemble``: what ``val`` and ``predict`` open instead of one plain model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from ..ensemble import Ensemble, Member, View
    from ..runtimes import Runtime

__all__ = ["EnsembleOption", "TtaOption", "open_models"]

EnsembleOption = Annotated[
    list[Path] | None,
    typer.Option("--ensemble", help="A further model whose results are joined with the first's; may be repeated."),
]
TtaOption = Annotated[
    str | None,
    typer.Option("--tta", help="Views of each image to look at as well: flip, scale, or flip,scale."),
]


@contextmanager
def open_models(
    model: Path, others: Sequence[Path] | None, views: str | None, *, device: str
) -> Iterator[Runtime | Ensemble]:
    """Open a model, or an ensemble of several and of their views, and close all of it in the end.

    Raises:
        InputError: If the models do not go together, or there is no such view.
    """
    from ..ensemble import Ensemble, with_views
    from ..runtimes import Runtime

    with ExitStack() as stack:
        runtimes = [stack.enter_context(Runtime(path, device=device)) for path in (model, *(others or ()))]
        names = cast("list[View]", [name.strip() for name in views.split(",")] if views else [])
        members: list[Member] = [member for runtime in runtimes for member in with_views(runtime, names)]
        yield runtimes[0] if len(members) == 1 else Ensemble(members)
