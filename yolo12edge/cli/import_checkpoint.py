"""``yolo12edge import``: make a checkpoint of a public ``.pt`` file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._licence import agpl_warning

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..keypoints import KeypointSpec

__all__ = ["import_"]


def import_(
    file: Annotated[Path, typer.Argument(help="Public YOLO12 checkpoint (.pt).")],
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write; FILE with the ending .safetensors if not given."),
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights, if the file does not state yours.")
    ] = None,
) -> None:
    """Convert a public .pt checkpoint of a YOLO12, of any task. No code in the file is run."""
    import msgspec

    from ..checkpoint import Checkpoint, import_public
    from ..errors import InputError
    from ._console import console

    target = output or file.with_suffix(".safetensors")
    if target.exists():
        raise InputError(f"{target} exists already", remedy="name another file with --output, or remove it")
    checkpoint = import_public(file)
    if license_ is not None:
        meta = msgspec.structs.replace(checkpoint.meta, weights_license=license_)
        checkpoint = Checkpoint(meta, checkpoint.tensors)
    checkpoint.save(target)
    _print_summary(checkpoint, target)
    for warning in _warnings(checkpoint):
        console.print(f"Warning: {warning}", style="yellow", markup=False)


def _print_summary(checkpoint: Checkpoint, target: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from ..checkpoint import read_header
    from ._console import out

    meta = checkpoint.meta
    more = ", …" if len(meta.class_names) > 20 else ""
    table = Table(title=Text(f"Imported {target}"), title_justify="left", show_header=False, box=SIMPLE_HEAD)
    points = [] if meta.keypoints is None else [("keypoints", _keypoints(meta.keypoints))]
    for name, value in (
        ("model", f"YOLO12{meta.scale} ({meta.variant}), {meta.task}"),
        ("classes", f"{len(meta.class_names)}: {', '.join(meta.class_names[:20])}{more}"),
        *points,
        ("image size", f"{meta.image_size} px"),
        ("parameters", f"{read_header(target).parameters:,}"),
        ("weights licence", meta.weights_license or "not stated"),
    ):
        table.add_row(name, Text(value))
    out.print(table)


def _keypoints(spec: KeypointSpec) -> str:
    names = f": {', '.join(spec.names[:20])}{', …' if len(spec.names) > 20 else ''}" if spec.names else ""
    return f"{spec.count} x {spec.dimensions}{names}"


def _shown(value: object) -> str:
    from ..keypoints import KeypointSpec

    return _keypoints(value) if isinstance(value, KeypointSpec) else f"{value!r:.60}"


def _warnings(checkpoint: Checkpoint) -> list[str]:
    warnings = []
    meta = checkpoint.meta
    if assumed := meta.training["assumed"]:
        values = ", ".join(f"{name} = {_shown(getattr(meta, name))}" for name in assumed)
        warnings.append(f"the file does not say all; the public defaults were taken for: {values}.")
    if meta.weights_license is None:
        warnings.append("the file does not say under which licence its weights are. Name it with --license.")
    elif (warning := agpl_warning(meta.weights_license)) is not None:
        warnings.append(warning)
    return warnings
