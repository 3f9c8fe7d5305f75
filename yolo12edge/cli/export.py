"""``yolo12edge export``: from a checkpoint to the artifacts that a device runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ..artifact import Artifact
    from ..calibration.images import CalibrationImages
    from ..data.dataset import Dataset, Sample

__all__ = ["export"]

_VERIFY_IMAGES = 4


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors checkpoint.")],
    *,
    format: Annotated[Literal["onnx"], typer.Option(help="What to export to.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to INT8 as well; needs --data.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="data.yaml, or a folder of images: calibrates INT8 and measures what it cost.")
    ] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the network input, a multiple of 32.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the artifacts; the checkpoint's own if left out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace artifacts of the same name.")] = False,
) -> None:
    """Export a checkpoint to NAME-fp32, and with --int8 to NAME-int8 beside it.

    The float artifact is compared with the checkpoint before it is written. INT8 is calibrated on the training images
    of --data and scored on its val split, beside the float artifact.
    """
    from ..exporters import onnx_from_checkpoint
    from ._console import console
    from ._console import out as results

    calibration, scored, dataset = _read_data(data, needed=int8)
    folder = checkpoint.parent if out is None else out
    target, int8_target = (folder / f"{checkpoint.stem}-{precision}" for precision in ("fp32", "int8"))
    _refuse_early(checkpoint, dataset, [target, int8_target] if int8 else [target], overwrite)
    with console.status("Exporting to ONNX and comparing with PyTorch"):
        float_artifact = onnx_from_checkpoint(
            checkpoint,
            target,
            image_size=imgsz,
            images=calibration.paths[:_VERIFY_IMAGES] if calibration else None,
            overwrite=overwrite,
        )
    artifacts = [float_artifact]
    if int8 and calibration is not None:
        artifacts.append(_int8(float_artifact, int8_target, calibration, scored, dataset, overwrite=overwrite))
    results.print(_table(artifacts))
    for line in _verdict(artifacts):
        console.print(line, markup=False, soft_wrap=True)


def _read_data(data: Path | None, *, needed: bool) -> tuple[CalibrationImages | None, list[Sample], Dataset | None]:
    """Return the images to calibrate on, the labelled ones to score on, and the dataset if it is one."""
    from ..calibration.images import choose_images, images_of_folder
    from ..data.dataset import read_dataset
    from ..errors import InputError

    if data is None:
        if needed:
            raise InputError(
                "INT8 needs real images to calibrate on, and none were given",
                expected="a dataset or a folder of images like those that the model will see",
                remedy="add --data data.yaml or --data FOLDER",
            )
        return None, [], None
    if data.is_dir() and not (data / "data.yaml").is_file():
        return images_of_folder(data), [], None
    dataset = read_dataset(data)
    scored = dataset.samples("val") if "val" in dataset.splits else []
    if not any(len(sample) for sample in scored):
        scored = []  # images without labels say nothing about accuracy
    return choose_images(dataset, exclude=[sample.image for sample in scored]), scored, dataset


def _refuse_early(checkpoint: Path, dataset: Dataset | None, targets: list[Path], overwrite: bool) -> None:
    """Refuse what cannot end well before anything is calibrated or written."""
    from ..checkpoint import read_metadata
    from ..errors import DatasetError, InputError

    names = read_metadata(checkpoint).class_names
    if dataset is not None and list(dataset.class_names) != names:
        raise DatasetError(
            f"the classes of {dataset.path} are {', '.join(dataset.class_names[:20])}",
            expected=f"those of the model: {', '.join(names[:20])}",
            remedy="give the data that the model was trained for, or a folder of images without labels",
        )
    for target in targets:
        if not overwrite and target.is_dir() and any(target.iterdir()):
            raise InputError(f"{target} exists and is not empty", remedy="add --overwrite, or choose another --out")


def _int8(
    float_artifact: Artifact,
    target: Path,
    calibration: CalibrationImages,
    scored: list[Sample],
    dataset: Dataset | None,
    *,
    overwrite: bool,
) -> Artifact:
    """Calibrate, quantize, and measure beside the float artifact."""
    from ..exporters import onnx_int8_from_onnx
    from ..exporters.compare import compare_with_float
    from ..imaging.images import read_image
    from ._console import progress

    with progress("Calibrating INT8", len(calibration.paths), unit="images") as steps:
        artifact = onnx_int8_from_onnx(
            float_artifact, target, images=calibration, overwrite=overwrite, progress=steps.advance
        )
    with progress("Scoring INT8 beside float", len(scored), unit="images") as steps:
        return compare_with_float(
            artifact,
            float_artifact,
            frame=read_image(calibration.paths[0]),
            samples=scored,
            dataset=dataset.path.parent.name if dataset else "",
            split="val",
            progress=steps.update,
        )


def _table(artifacts: list[Artifact]) -> Table:
    """Return the report: one column an artifact."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Export", title_justify="left")
    table.add_column("")
    for artifact in artifacts:
        table.add_column(Text(artifact.path.name), justify="right")
    last = artifacts[-1].manifest.report
    rows: list[tuple[str, list[str]]] = [
        ("precision", [artifact.manifest.precision for artifact in artifacts]),
        ("model file", [f"{artifact.manifest.files[0].bytes / 1e6:.2f} MB" for artifact in artifacts]),
    ]
    if parity := artifacts[0].manifest.report.parity:
        worst = f"{parity.max_box_error_px:.1e} px, {parity.max_score_error:.1e}"
        rows.append((f"largest difference to PyTorch, {parity.images} images", [worst, ""][: len(artifacts)]))
    if accuracy := last.accuracy:
        where = f"{accuracy.dataset} {accuracy.split}, {accuracy.images} images"
        rows += [
            (f"AP50-95, {where}", [f"{accuracy.reference_ap:.4f}", f"{accuracy.ap:.4f}"]),
            ("AP50", [f"{accuracy.reference_ap50:.4f}", f"{accuracy.ap50:.4f}"]),
            ("AP75", [f"{accuracy.reference_ap75:.4f}", f"{accuracy.ap75:.4f}"]),
        ]
    if latency := last.latency:
        where = f"{latency.engine}, {latency.threads} threads, {latency.device}"
        rows.append(
            (f"engine, median; {where}", [f"{latency.reference_median_ms:.2f} ms", f"{latency.median_ms:.2f} ms"])
        )
    for name, values in rows:
        table.add_row(Text(name), *(Text(value) for value in values))
    return table


def _verdict(artifacts: list[Artifact]) -> list[str]:
    """Say in plain words where the artifacts lie, what INT8 cost and brought, and what to ship."""
    lines = [f"Written: {', '.join(str(artifact.path) for artifact in artifacts)}"]
    float_artifact, artifact = artifacts[0], artifacts[-1]
    if artifact.manifest.calibration is None:
        return lines
    report = artifact.manifest.report
    if report.accuracy is None:
        lines.append("Accuracy was not measured: the data has no labelled val split. Measure before you ship INT8.")
    else:
        points = 100 * (report.accuracy.reference_ap - report.accuracy.ap)
        lines.append(f"INT8 {'costs' if points >= 0 else 'gains'} {abs(points):.2f} points of AP50-95.")
    if report.latency is not None:
        ratio = report.latency.reference_median_ms / report.latency.median_ms
        if ratio > 1:
            lines.append(f"INT8 is {ratio:.2f} times as fast as float on this machine.")
        else:
            lines.append(
                f"INT8 is not faster than float on this machine ({1 / ratio:.2f} times the time): for machines like "
                f"this one ship {float_artifact.path.name}."
            )
    if artifact.manifest.calibration.reduced_range:
        lines.append(
            "This processor has no VNNI: the weights keep to 7 bits, so that products do not saturate. For devices "
            "with VNNI, export on one of them to use all 8 bits."
        )
    return lines
