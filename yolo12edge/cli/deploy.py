"""``yolo12edge deploy``: what Triton Inference Server and DeepStream need to run an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ..exporters.deployment import Deployment

__all__ = ["app", "deepstream", "triton"]

app = typer.Typer(
    help="Write what Triton Inference Server or DeepStream needs to run an artifact.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

_ARTIFACT = typer.Argument(help="An artifact directory.")


@app.command()
def triton(
    artifact: Annotated[Path, _ARTIFACT],
    out: Annotated[Path, typer.Argument(help="The model repository; other models in it are left alone.")],
    *,
    name: Annotated[str | None, typer.Option(help="Of the model.", show_default="the artifact's")] = None,
    device: Annotated[
        Literal["cpu", "gpu"] | None,
        typer.Option(help="Where it runs.", show_default="gpu for TensorRT engines, else cpu"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of the same name.")] = False,
) -> None:
    """Write OUT/NAME, a model of a Triton model repository."""
    from ..artifact import Artifact
    from ..exporters.triton_server import triton_from_artifact

    _print(triton_from_artifact(Artifact.load(artifact), out, name=name, device=device, overwrite=overwrite))


@app.command()
def deepstream(
    artifact: Annotated[Path, _ARTIFACT],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that this has written.")] = False,
) -> None:
    """Write a folder for DeepStream's nvinfer; its parser is built there, by make."""
    from ..artifact import Artifact
    from ..exporters.deepstream import deepstream_from_artifact

    _print(deepstream_from_artifact(Artifact.load(artifact), out, overwrite=overwrite))


def _print(made: Deployment) -> None:
    from ._console import console, plain

    for line in (f"Written: {made.path}", *made.notes):
        console.print(plain(line), soft_wrap=True)
