"""``yolo12edge calibrate``: record once what INT8 needs to know of a model on real images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._export_steps import open_float_onnx

if TYPE_CHECKING:
    from rich.table import Table

    from ..artifact import Artifact
    from ..calibration.images import CalibrationImages
    from ..calibration.tensor_statistics import Statistics

__all__ = ["calibrate"]


def calibrate(
    source: Annotated[Path, typer.Argument(help="A .safetensors checkpoint, or an FP32 ONNX artifact.")],
    *,
    data: Annotated[Path, typer.Option(help="data.yaml, or a folder of images like those that the device will see.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default="NAME.calibration.npz")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images to take, at most.")] = 512,
    seed: Annotated[int, typer.Option(help="The same seed chooses the same images.")] = 0,
    imgsz: Annotated[int | None, typer.Option(help="Side of the network input, a multiple of 32.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
) -> None:
    """Run the float model on calibration images and write what its tensors hold.

    `yolo12edge export --int8 --calibration FILE` makes INT8 artifacts from the file, for any target, without running
    the images again. Of a dataset, images of the training split are taken, the rare classes first; never those of its
    val split.
    """
    from ..data.forms import FORMS
    from ..errors import InputError
    from ._console import console, plain
    from ._console import out as results
    from ._data import described_by, read_export_data

    name = source.name.removesuffix("-fp32") if source.is_dir() else source.stem
    place = source.parent / f"{name}.calibration.npz" if output is None else output
    if place.exists() and (place.is_dir() or not overwrite):
        raise InputError(f"{place} is there already", remedy="add --overwrite, or choose another file with -o")
    task = described_by(source).task
    images = read_export_data(data, needed=True, task=task, count=count, seed=seed).calibration
    assert images is not None
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        statistics = _observe(open_float_onnx(source, Path(scratch) / "onnx", imgsz=imgsz, images=images), images)
    statistics.save(place)
    results.print(_table(statistics, place, whole=FORMS[task].whole, seconds=time.monotonic() - begin))
    for caution in filter(None, (images.caution(), statistics.caution())):
        console.print(plain(caution, "yellow"), soft_wrap=True)
    console.print(plain(f"Written: {place}"), soft_wrap=True)


def _observe(artifact: Artifact, images: CalibrationImages) -> Statistics:
    from ..calibration.observe import observe
    from ._console import progress

    with progress("Calibrating", unit="images") as steps:
        return observe(artifact.model_file.read_bytes(), images, artifact.manifest.input, progress=steps.update)


def _table(statistics: Statistics, place: Path, *, whole: bool, seconds: float) -> Table:
    from rich.table import Table

    from ._console import plain

    spec, images = statistics.input, len(statistics.images)
    source = "a folder" if statistics.split == "folder" else f"split {statistics.split}"
    table = Table(title="Calibration", title_justify="left", show_header=False)
    for row in (
        ("images", f"{images}, of {source}"),
        *([] if whole else [("with an object at confidence 0.25", f"{statistics.images_with_objects}")]),
        ("network input", f"{spec.width} x {spec.height}"),
        ("tensors", f"{len(statistics.tensors)}"),
        ("time", f"{seconds:.1f} s"),
        ("file", f"{place.stat().st_size / 1e6:.2f} MB"),
        ("model digest", statistics.model_digest[:12]),
    ):
        table.add_row(*map(plain, row))
    return table
