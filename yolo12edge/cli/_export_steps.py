"""The steps of ``yolo12edge export``: each shows how it goes on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ._tensorrt import build

if TYPE_CHECKING:
    from ..artifact import Artifact
    from ..calibration.images import CalibrationImages
    from ..calibration.learned import LearnedRanges
    from ..calibration.placement import Target
    from ..calibration.tensor_statistics import Statistics
    from ..exporters.converter import Converter
    from ..exporters.tensorrt_engine import EngineMaker
    from ..manifest import Int8Before
    from ._data import ExportData

__all__ = [
    "VERIFY_IMAGES",
    "float_artifacts",
    "int8_artifact",
    "learned_for",
    "observed",
    "open_float_onnx",
    "stage",
]

VERIFY_IMAGES = 4


def open_float_onnx(
    source: Path, place: Path, *, imgsz: int | None, images: CalibrationImages | None, overwrite: bool = False
) -> Artifact:
    """Open the FP32 ONNX artifact, or make it from a checkpoint.

    Args:
        source: Either.
        place: Where to make it.
        imgsz: Side of the network input; of a checkpoint only.
        images: To compare on; None renders scenes.
        overwrite: Whether an artifact at ``place`` may be replaced.

    Raises:
        InputError: If the source is an artifact and of another form, or a size is asked of it.
        Yolo12EdgeError: As ``onnx_from_checkpoint`` does.
    """
    from ..artifact import Artifact, check_float_onnx
    from ..errors import InputError
    from ..exporters import onnx_from_checkpoint
    from ._console import console

    if source.is_dir():
        if imgsz is not None:
            raise InputError("the image size of an artifact is fixed", remedy="name the checkpoint")
        artifact = Artifact.load(source)
        check_float_onnx(artifact.manifest, source)
        return artifact
    with console.status("Exporting to ONNX and comparing with PyTorch"):
        frames = None if images is None else images.first(VERIFY_IMAGES).paths
        return onnx_from_checkpoint(source, place, image_size=imgsz, images=frames, overwrite=overwrite)


def float_artifacts(
    onnx: Artifact,
    place: Callable[[str], Path],
    precisions: Sequence[Literal["fp32", "fp16"]],
    *,
    format: str,
    maker: EngineMaker | None,
    given: ExportData,
    overwrite: bool,
) -> list[Artifact]:
    """Return the float artifacts of the format; the first is what INT8 is compared with."""
    from .. import exporters
    from ._console import console

    images = given.calibration.paths[:VERIFY_IMAGES] if given.calibration else None
    if maker is not None:
        return [
            build(maker, precision, onnx, place(precision), images=images, given=given, overwrite=overwrite)
            for precision in precisions
        ]
    if format == "openvino":
        with console.status("Converting to OpenVINO and comparing with ONNX"):
            return [
                exporters.openvino_from_onnx(
                    onnx, place(precision), precision=precision, images=images, overwrite=overwrite
                )
                for precision in precisions
            ]
    artifacts = [onnx]
    if "fp16" in precisions:
        with console.status("Casting to half precision and comparing with FP32"):
            artifacts.append(exporters.onnx_fp16_from_onnx(onnx, place("fp16"), images=images, overwrite=overwrite))
    return artifacts


def observed(
    onnx: Artifact, given: ExportData, place: Path, calibration: Path | None, *, overwrite: bool
) -> Statistics:
    """Read the statistics of an earlier pass, or make that pass and keep what it found.

    A file of the very same model and images is used again: so an export that was interrupted, begun again with
    --overwrite, goes on after the pass.
    """
    from ..calibration.graph import graph_digest, load_model
    from ..calibration.images import caution_of
    from ..calibration.observe import observe
    from ..calibration.tensor_statistics import Statistics
    from ..errors import InputError
    from ._console import console

    assert given.calibration is not None
    model = onnx.model_file.read_bytes()
    digest = graph_digest(load_model(model))
    known = _fitting(place, digest, given.calibration) if calibration is None else None
    if calibration is not None:
        statistics = Statistics.load(calibration)
        statistics.check(digest, onnx.manifest.input)
    elif known is not None:
        statistics = known
        console.print(f"Calibrated before on these images: {place}", markup=False, soft_wrap=True)
    else:
        if place.exists() and not overwrite:
            raise InputError(
                f"{place} holds statistics of another model or of other images",
                remedy="add --overwrite, or choose another --out",
            )
        images = given.calibration
        with stage("Calibrating", len(images.paths), "images") as steps:
            statistics = observe(model, images, onnx.manifest.input, progress=steps)
        statistics.save(place)
    for caution in filter(None, (caution_of(len(statistics.images)), statistics.caution())):
        console.print(caution, markup=False, soft_wrap=True, style="yellow")
    return statistics


def _fitting(place: Path, digest: str, images: CalibrationImages) -> Statistics | None:
    """Return the statistics at ``place`` if they are of this model and these images."""
    from ..calibration.tensor_statistics import Statistics
    from ..errors import InputError

    try:
        statistics = Statistics.load(place)
    except InputError:
        return None
    fits = statistics.model_digest == digest and statistics.images_digest == images.digest()
    return statistics if fits else None


def int8_artifact(
    onnx: Artifact,
    twin: Artifact,
    place: Path,
    statistics: Statistics,
    given: ExportData,
    *,
    target: Target | None,
    max_map_drop: float,
    adaround: bool,
    learned: LearnedRanges | None,
    before: Int8Before | None,
    converter: Converter | None,
    overwrite: bool,
) -> tuple[Artifact, list[str], bool]:
    """Quantize and measure beside the float artifact; return the artifact, the verdict and whether the budget holds."""
    from ..exporters import int8_from_onnx

    assert given.calibration is not None
    done = int8_from_onnx(
        onnx,
        twin,
        place,
        statistics=statistics,
        images=given.calibration,
        target=target,
        samples=given.scored,
        pictures=given.pictures,
        dataset=given.dataset_name,
        max_map_drop=max_map_drop,
        adaround=adaround,
        learned=learned,
        before=before,
        converter=converter,
        reproduce=[shlex.join(["yolo12edge", *sys.argv[1:]])],
        stage=stage,
        overwrite=overwrite,
    )
    return done.artifact, [*done.verdict, f"The report card: {place / 'report.html'}"], done.result.held


def learned_for(source: Path, onnx: Artifact, target: Target) -> tuple[LearnedRanges | None, Int8Before | None]:
    """Return the ranges that a checkpoint has learned, and what learning began with, if they are for this target.

    If they are for another target or image size, that is said, and ranges are solved anew.
    """
    from ..checkpoint import read_metadata
    from ._console import console

    facts = None if source.is_dir() else read_metadata(source).int8
    if facts is None:
        return None, None
    side = onnx.manifest.input.width
    if (facts.target, facts.image_size) != (target, side):
        console.print(
            f"{source.name} has learned ranges for {facts.target} at {facts.image_size} px; for {target} at {side} px "
            "they are solved anew. To learn them: yolo12edge qat, --from an INT8 artifact for that.",
            markup=False,
            soft_wrap=True,
            style="yellow",
        )
        return None, None
    from ..checkpoint import Checkpoint
    from ..exporters.quantized_network import learned_ranges

    return learned_ranges(Checkpoint.load(source)), facts.began


@contextmanager
def stage(description: str, total: int, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a long step of an exporter; 0 steps means that their number is not known yet."""
    from ._console import progress

    with progress(description, total or None, unit=unit) as steps:
        yield steps.update
