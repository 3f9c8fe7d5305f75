"""``yolo12edge cluster``: measure a model, or predict folders, with all machines of a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..reports.formats import plural
from ._console import console, progress
from ._console import out as results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cluster import Seen
    from ..thresholds import Thresholds

__all__ = ["app", "find_pictures"]

app = typer.Typer(help="Work on many pictures with all machines of a Ray cluster.", no_args_is_help=True)

_MODEL = typer.Argument(help="Artifact or checkpoint; all machines read it, and the pictures, under the same paths.")
_ADDRESS = typer.Option(help="Address of the Ray cluster, or local.")
_WORKERS = typer.Option(min=1, help="Workers, each with a Runtime.")
_DEVICE = typer.Option(help="auto, cpu; with cuda each worker takes a GPU of the cluster.")


@app.command()
def val(
    model: Annotated[Path, _MODEL],
    *,
    data: Annotated[Path, typer.Option(help="Dataset: its description (data.yaml), or a folder of class folders.")],
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    out: Annotated[Path, typer.Option(help="Folder for metrics.json.")] = Path("runs/val"),
    address: Annotated[str, _ADDRESS] = "local",
    workers: Annotated[int, _WORKERS] = 2,
    device: Annotated[str, _DEVICE] = "auto",
) -> None:
    """Measure the accuracy of a model as `val` does, with the pictures shared out to workers."""
    import msgspec

    from ..errors import InputError
    from ..files import atomic_file
    from ..metrics import EVAL_THRESHOLDS, Measure, Target
    from ..runtimes import Runtime
    from ._data import read_scored
    from .val import accuracy_tables

    with Runtime(model) as runtime:
        manifest = runtime.manifest
    _, samples = read_scored(data, split, manifest)
    thresholds = EVAL_THRESHOLDS.within(manifest.nms_iou)
    seen = _all_seen(model, [sample.image for sample in samples], thresholds, address, workers, device)
    unread = [entry.error for entry in seen if entry.detections is None]
    if unread:
        raise InputError(unread[0], expected="pictures that every machine can read")
    targets = [Target.of(sample, entry.image_hw) for sample, entry in zip(samples, seen, strict=True)]
    found = [entry.detections for entry in seen if entry.detections is not None]
    metrics = Measure.of(manifest).evaluate(found, targets)
    with atomic_file(out / "metrics.json") as temporary:
        facts = {"model": str(model), "data": str(data), "split": split, "metrics": metrics.to_dict()}
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
    for table in accuracy_tables(metrics):
        results.print(table)


@app.command()
def predict(
    model: Annotated[Path, _MODEL],
    source: Annotated[list[str], typer.Argument(help="Images, folders or patterns.")],
    *,
    out: Annotated[Path, typer.Option(help="File for the results: a JSON object a line, in the order of names.")],
    confidence: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest confidence to keep.")] = 0.25,
    address: Annotated[str, _ADDRESS] = "local",
    workers: Annotated[int, _WORKERS] = 2,
    device: Annotated[str, _DEVICE] = "auto",
) -> None:
    """Find objects or classes in many images; ends with 1 if one could not be read."""
    import msgspec

    from ..files import atomic_file
    from ..runtimes import Runtime
    from ..thresholds import Thresholds

    pictures = find_pictures(source)
    with Runtime(model) as runtime:
        manifest = runtime.manifest
    thresholds = Thresholds(confidence=confidence).within(manifest.nms_iou)
    seen = _all_seen(model, pictures, thresholds, address, workers, device)
    with atomic_file(out) as temporary, temporary.open("wb") as file:
        for path, entry in zip(pictures, seen, strict=True):
            found = entry.detections
            what = {"error": entry.error} if found is None else {"detections": found.to_records(manifest.class_names)}
            height, width = entry.image_hw
            record = {"source": str(path), "width": width, "height": height, **what}
            file.write(msgspec.json.encode(record) + b"\n")
    unread = sum(entry.detections is None for entry in seen)
    results.print(f"{len(seen) - unread} images in {out}", markup=False, soft_wrap=True)
    if unread:
        console.print(f"{unread} images could not be read; their lines say why", style="red")
        raise typer.Exit(1)


def find_pictures(source: Sequence[str]) -> list[Path]:
    """Return the images among sources; videos are left out, which is said.

    Raises:
        InputError: If there is no image.
    """
    from ..errors import InputError
    from ..sources import find_media

    media = find_media(source)
    pictures = [item.path for item in media if item.kind == "image"]
    if not pictures:
        raise InputError("there are videos only", expected="images", remedy="take frames out of the videos first")
    if videos := len(media) - len(pictures):
        console.print(f"{plural(videos, 'video')} left out: only images are looked at", style="yellow")
    return pictures


def _all_seen(
    model: Path, pictures: Sequence[Path], thresholds: Thresholds, address: str, workers: int, device: str
) -> list[Seen]:
    """Look at all pictures over the cluster, and put what comes back in order."""
    from ..cluster import look

    seen: list[Seen] = []
    with progress("Looking", len(pictures), unit="images") as steps:
        found = look(model, pictures, thresholds=thresholds, device=device, cluster=address, workers=workers)
        for entry in found:
            seen.append(entry)
            steps.advance(1)
    return sorted(seen, key=lambda entry: entry.index)
