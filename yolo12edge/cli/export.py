"""``yolo12edge export``: from a checkpoint to the artifacts that a device runs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ._coreml import CoremlOptions, check_sizes, merge_sizes, write_packages, write_pipeline
from ._export_steps import VERIFY_IMAGES, float_artifacts, int8_artifact, learned_for, observed, open_float_onnx
from ._tensorrt import TensorRtOptions

if TYPE_CHECKING:
    from rich.table import Table

    from ..artifact import Artifact
    from ..calibration.placement import Target
    from ..checkpoint import CheckpointMeta
    from ..exporters.tensorrt_engine import EngineMaker
    from ..manifest import Manifest, Parity
    from ._data import ExportData

__all__ = ["export"]

_EVALUATED = "What was compared here was the program in a reference evaluator: "
_COLUMNS = 3  # artifacts that fit beside each other
_PANEL, _BOTH, _COREML = "TensorRT", "TensorRT and Core ML", "Core ML"


def export(
    source: Annotated[Path, typer.Argument(help="A .safetensors checkpoint, or an FP32 ONNX artifact.")],
    *,
    format: Annotated[
        Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx", "coreml"], typer.Option(help="What to export to.")
    ] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to INT8 as well; needs --data.")] = False,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Write half precision as well; TensorRT and Core ML get it by themselves.")
    ] = False,
    fp32: Annotated[
        bool, typer.Option("--fp32", help="Compute what is not INT8 in float32.", rich_help_panel=_BOTH)
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="data.yaml, or a folder of images: calibrates INT8 and measures what it cost.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Statistics that `yolo12edge calibrate` or an earlier export has written.")
    ] = None,
    max_map_drop: Annotated[
        float,
        typer.Option(min=0, help="Points of accuracy that INT8 may lose; layers go back to float until it holds."),
    ] = 0.5,
    target: Annotated[
        Literal["ort-x86", "ort-x86-vnni", "ort-arm", "openvino", "openvino-vnni", "tensorrt"] | None,
        typer.Option(help="Where INT8 is to run.", show_default="this machine"),
    ] = None,
    adaround: Annotated[
        bool, typer.Option("--adaround", help="Learn the rounding of INT8 weights; takes minutes.")
    ] = False,
    imgsz: Annotated[
        list[int] | None,
        typer.Option(
            help="Side of the network input, a multiple of 32. Core ML: given again, another size in the same package.",
            show_default="the checkpoint's own",
        ),
    ] = None,
    attention: Annotated[
        Literal["native", "onnx", "plugin"],
        typer.Option(help="Form of attention: products, ONNX's operator, or our plugin.", rich_help_panel=_PANEL),
    ] = "native",
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Images at a time.", rich_help_panel=_BOTH)] = 1,
    min_batch: Annotated[
        int | None, typer.Option(min=1, help="Take any batch from this one on.", rich_help_panel=_BOTH)
    ] = None,
    uint8: Annotated[
        bool, typer.Option("--uint8", help="Take letterboxed pictures, height x width x BGR.", rich_help_panel=_PANEL)
    ] = False,
    nms: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Suppress overlapping boxes in the engine, by IoU.", rich_help_panel=_BOTH),
    ] = None,
    on_device: Annotated[
        bool,
        typer.Option(
            "--on-device", help="Write typed ONNX: the device builds its engine at first use.", rich_help_panel=_PANEL
        ),
    ] = False,
    workspace: Annotated[
        float | None, typer.Option(min=0.01, help="GiB of GPU memory for the build.", rich_help_panel=_PANEL)
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Keeps timings for the next build.", rich_help_panel=_PANEL)
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For later TensorRT, too.", rich_help_panel=_PANEL)
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For other GPUs from Ampere on, too.", rich_help_panel=_PANEL)
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Let weights be replaced in the engine.", rich_help_panel=_PANEL)
    ] = False,
    palettize: Annotated[
        Literal["4", "6", "8"] | None,
        typer.Option(help="Write weights as a palette of so many bits as well.", rich_help_panel=_COREML),
    ] = None,
    weights_int8: Annotated[
        bool, typer.Option("--weights-int8", help="Write INT8 weights alone as well.", rich_help_panel=_COREML)
    ] = False,
    ios: Annotated[
        Literal["16", "17", "18"],
        typer.Option(help="The oldest iOS, or macOS 13, 14, 15, that is to run it.", rich_help_panel=_COREML),
    ] = "17",
    out: Annotated[Path | None, typer.Option(help="Folder for the artifacts; the source's own if left out.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace artifacts of the same name.")] = False,
) -> None:
    """Export a checkpoint to NAME-fp32, and with --int8 to NAME-int8 beside it; NAME-openvino-…, NAME-tensorrt-….

    The float artifact is compared with its source before it is written. INT8 is calibrated on the training images of
    --data (their statistics go to NAME.calibration.npz) and scored on its val split, beside the float artifact. Exit
    code 1: INT8 loses more than --max-map-drop. A checkpoint of `yolo12edge qat` brings the ranges that it has learned.

    With several --imgsz, all this is done for each, as NAME-640-coreml-… and so on, and NAME-coreml-….mlpackage holds
    them all, with the weights that they share stored once.
    """
    from ..calibration.placement import target_here
    from ..errors import InputError
    from ..manifest import TENSORRT_FORMATS
    from ._console import console
    from ._data import described_by, read_export_data

    if (calibration is not None or target is not None or adaround) and not int8:
        raise InputError("--calibration, --target and --adaround are for INT8", remedy="add --int8")
    coreml = CoremlOptions(palettize=palettize, weights_int8=weights_int8, ios=ios)
    tensorrt = TensorRtOptions(
        fp32=fp32,
        attention=attention,
        batch=batch,
        min_batch=min_batch,
        uint8=uint8,
        nms=nms,
        on_device=on_device,
        workspace=workspace,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        refit=refit,
    )
    _refuse_options(format, tensorrt, coreml)
    model = described_by(source)
    if nms is not None and model.task != "detect":
        raise InputError(
            f"--nms suppresses boxes for detect alone, and the task is {model.task}",
            remedy="leave it out: the Runtime suppresses",
        )
    if format in TENSORRT_FORMATS or format == "coreml":
        if target is not None:
            raise InputError(f"--format {format} says where INT8 is to run", remedy="leave --target out")
        precisions = tensorrt.precisions(fp16=fp16)
    else:
        precisions = ["fp32", "fp16"] if fp16 else ["fp32"]
        if target is not None and target.startswith("openvino") != (format == "openvino"):
            raise InputError(
                f"--target {target} is not for --format {format}", remedy="choose another format or target"
            )
    sizes: list[int | None] = [*imgsz] if imgsz else [None]
    check_sizes(imgsz or [], format=format, ios=ios, calibration=calibration)
    given = read_export_data(data, needed=int8, task=model.task)
    both = _Names.of(source, format=format, out=out, target=target)
    every = [both.at(size, format) for size in imgsz] if imgsz and len(imgsz) > 1 else [both]
    forms = coreml.forms(precisions, batch=batch, min_batch=min_batch) if format == "coreml" else {}
    if forms and nms is not None and (batch, min_batch) != (1, None):
        raise InputError("Apple's suppression takes one image, not a batch", remedy="leave out --nms or --batch")
    wanted = [names.float(name) for names in every for name in forms or precisions]
    if source.is_dir() and format == "onnx":
        wanted.remove(both.float("fp32"))
    packages = []
    if len(every) > 1:
        packages = [Path(f"{place}.mlpackage") for place in [*map(both.float, forms), *[both.int8] * int8]]
    maker = tensorrt.maker(format, precision=precisions[0]) if format in TENSORRT_FORMATS else None
    converter = coreml.converter(forms[precisions[0]]) if forms and int8 else maker
    wanted += [names.int8 for names in every] * int8 + packages
    wanted += [names.suppressed for names in every] * (nms is not None and bool(forms))
    _refuse_early(source, model, given, wanted, overwrite)
    made: list[list[Artifact]] = []
    held = True
    for names, size in zip(every, sizes, strict=True):
        with tempfile.TemporaryDirectory() as scratch:
            place = names.float("fp32") if format == "onnx" else Path(scratch) / f"{names.stem}-fp32"
            onnx = open_float_onnx(source, place, imgsz=size, images=given.calibration, overwrite=overwrite)
            if forms:
                images = given.calibration.paths[:VERIFY_IMAGES] if given.calibration else None
                artifacts = write_packages(forms, onnx, names.float, images=images, given=given, overwrite=overwrite)
            else:
                artifacts = float_artifacts(
                    onnx, names.float, precisions, format=format, maker=maker, given=given, overwrite=overwrite
                )
            lines: list[str] = []
            if int8:
                statistics = observed(onnx, given, names.statistics, calibration, overwrite=overwrite)
                where = target or (converter.target if converter else target_here(format))
                learned, before = learned_for(source, onnx, where)
                artifact, lines, holds = int8_artifact(
                    onnx,
                    artifacts[0],
                    names.int8,
                    statistics,
                    given,
                    target=target,
                    max_map_drop=max_map_drop,
                    adaround=adaround,
                    learned=learned,
                    before=before,
                    converter=converter,
                    overwrite=overwrite,
                )
                artifacts.append(artifact)
                held = held and holds
        made.append(artifacts)
        _print_tables(artifacts, names, int8=int8)
        written = [artifact.path for artifact in artifacts if artifact.path != source]
        if maker is not None and not lines:
            lines = [_unmeasured(maker)]
        if forms and nms is not None:
            write_pipeline(artifacts[0], names.suppressed, iou=nms, overwrite=overwrite)
            lines.append(f"With Apple's suppression behind {artifacts[0].path.name}: {names.suppressed}")
        for line in [f"Written: {', '.join(map(str, written)) or 'nothing new'}", *filter(None, lines)]:
            console.print(line, markup=False, soft_wrap=True)
    lines = []
    if packages:
        merge_sizes(made, packages, overwrite=overwrite)
        functions = [f"size_{size}x{size}" for size in sizes]
        lines.append(f"All sizes in one package: {', '.join(map(str, packages))}")
        lines.append(f"It opens as {functions[0]}; name {packages[0] / functions[-1]}, say, to open another.")
    if forms:
        lines.append(_EVALUATED + ("`yolo12edge val` runs it." if sys.platform == "darwin" else "no Mac has run it."))
        if any(form.weights != "float" for form in forms.values()) and not given.scored:
            lines.append("What compressed weights cost in accuracy was not measured: add --data data.yaml.")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    if not held:
        raise typer.Exit(1)


def _print_tables(artifacts: list[Artifact], names: _Names, *, int8: bool) -> None:
    """Print what was measured: many artifacts as rows, few beside each other, INT8 always beside its float twin."""
    from ._console import out

    many = len(artifacts) > _COLUMNS or any(artifact.manifest.weights != "float" for artifact in artifacts)
    if many:
        out.print(_list(artifacts[:-1] if int8 else artifacts, names.name))
    if int8 or not many:
        out.print(_table([artifacts[0], artifacts[-1]] if many else artifacts))


def _refuse_options(format: str, tensorrt: TensorRtOptions, coreml: CoremlOptions) -> None:
    """Refuse options of another format."""
    from ..errors import InputError
    from ..manifest import TENSORRT_FORMATS

    shared = {"--fp32", "--nms", "--batch", "--min-batch"}
    for library, wanted, options in (
        ("TensorRT", "tensorrt", [] if format in TENSORRT_FORMATS else tensorrt.given()),
        ("Core ML", "coreml", [] if format == "coreml" else coreml.given()),
    ):
        foreign = [name for name in options if format != "coreml" or name not in shared]
        if foreign:
            raise InputError(
                f"{', '.join(foreign)} {'is' if len(foreign) == 1 else 'are'} for {library}"
                + (" and Core ML" if shared.issuperset(foreign) else ""),
                remedy=f"add --format {wanted}" + (" or --format coreml" if shared.issuperset(foreign) else ""),
            )


@dataclass(frozen=True, slots=True)
class _Names:
    """Where things go."""

    folder: Path
    stem: str
    name: str
    int8: Path

    @classmethod
    def of(cls, source: Path, *, format: str, out: Path | None, target: Target | None) -> _Names:
        folder = source.parent if out is None else out
        stem = source.name.removesuffix("-fp32") if source.is_dir() else source.stem
        name = stem if format == "onnx" else f"{stem}-{format}"
        int8 = f"{name}-int8" if target is None else f"{name}-int8-{target.removeprefix('openvino').strip('-')}"
        return cls(folder, stem, name, folder / int8.rstrip("-"))

    def at(self, size: int, format: str) -> _Names:
        """Return where things of one size go, of several."""
        stem = f"{self.stem}-{size}"
        return _Names(self.folder, stem, f"{stem}-{format}", self.folder / f"{stem}-{format}-int8")

    @property
    def suppressed(self) -> Path:
        return self.folder / f"{self.name}-nms.mlpackage"

    @property
    def statistics(self) -> Path:
        return self.folder / f"{self.stem}.calibration.npz"

    def float(self, precision: str) -> Path:
        return self.folder / f"{self.name}-{precision}"


def _refuse_early(
    source: Path, model: Manifest | CheckpointMeta, given: ExportData, targets: list[Path], overwrite: bool
) -> None:
    """Refuse what cannot end well before anything is calibrated or written."""
    from ..artifact import check_float_onnx
    from ..errors import DatasetError, InputError
    from ..manifest import Manifest
    from ._data import refuse_other_keypoints

    if isinstance(model, Manifest):
        check_float_onnx(model, source)
    dataset = given.dataset
    if dataset is not None:
        remedy = "give the data that the model was trained for, or a folder of images without labels"
        if list(dataset.class_names) != list(model.class_names):
            raise DatasetError(
                f"the classes of {dataset.path} are {', '.join(dataset.class_names[:20])}",
                expected=f"those of the model: {', '.join(model.class_names[:20])}",
                remedy=remedy,
            )
        refuse_other_keypoints(model, dataset, remedy=remedy)
    for target in targets:
        if not overwrite and (target.is_file() or (target.is_dir() and any(target.iterdir()))):
            raise InputError(f"{target} is there already", remedy="add --overwrite, or choose another --out")


def _unmeasured(maker: EngineMaker) -> str:
    """Return what has not been seen of TensorRT artifacts, if anything."""
    if maker.on_device:
        return "The device builds its engine when a Runtime first opens the artifact, and keeps it."
    if not maker.runs_here:
        return "The engine cannot run on this machine: its ONNX was compared, not itself. Run `yolo12edge val` there."
    return ""


def _list(artifacts: list[Artifact], stem: str) -> Table:
    """Return the report of many float artifacts: one row each."""
    from rich.table import Table
    from rich.text import Text

    title = f"Export of {stem}"
    table = Table(title=Text(title), title_justify="left", min_width=len(title))
    roles = list(next((own.errors for one in artifacts if (own := one.manifest.report.parity)), {}))
    figure = next((one.metric for one in (own.manifest.report.accuracy for own in artifacts) if one), "accuracy")
    for heading in ("", "files", *(f"{_spoken(role)} differ" for role in roles), figure, "of the source"):
        table.add_column(heading, justify="right" if heading else "left")
    for artifact in artifacts:
        parity, accuracy = artifact.manifest.report.parity, artifact.manifest.report.accuracy
        values = [artifact.path.name.removeprefix(f"{stem}-"), f"{_bytes(artifact) / 1e6:.2f} MB"]
        values += [_error(parity, role, digits=2) for role in roles]
        values += [f"{accuracy.value:.4f}", f"{accuracy.reference_value:.4f}"] if accuracy else ["", ""]
        table.add_row(*map(Text, values))
    return table


def _table(artifacts: list[Artifact]) -> Table:
    """Return the report: one column an artifact, and one for what the last was compared with."""
    from rich.table import Table
    from rich.text import Text

    stem = artifacts[0].path.name.removesuffix(f"-{artifacts[0].manifest.precision}")
    title = f"Export of {stem}"
    table = Table(title=Text(title), title_justify="left", min_width=len(title))
    columns: dict[str, str] = {artifact.path.name: artifact.manifest.precision for artifact in artifacts}
    last = artifacts[-1].manifest.report
    own = artifacts[-1].path.name
    reference = last.agreement.reference if last.agreement else own
    if reference not in columns:
        columns = {reference: "float in ONNX Runtime", **columns}
    if last.budget is not None and last.budget.simulated:
        columns[own] += ", simulated"
    table.add_column("")
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)

    def row(label: str, values: Mapping[str, str]) -> None:
        table.add_row(Text(label), *(Text(values.get(name, "")) for name in columns))

    row("model files", {artifact.path.name: f"{_bytes(artifact) / 1e6:.2f} MB" for artifact in artifacts})
    parities = {artifact.path.name: parity for artifact in artifacts if (parity := artifact.manifest.report.parity)}
    if parities:
        first = next(iter(parities.values()))
        for index, role in enumerate(first.errors):
            how = "by" if index else f"from the source by, {first.images} images"
            errors = {name: _error(parity, role, digits=1) for name, parity in parities.items()}
            row(f"{_spoken(role)} differ {how}", errors)
    if accuracy := last.accuracy:
        where = f"{accuracy.dataset} {accuracy.split}, {accuracy.images} images"
        values = {reference: f"{accuracy.reference_value:.4f}", own: f"{accuracy.value:.4f}"}
        row(f"{accuracy.metric}, {where}", values)
        for name, value in accuracy.details.items():
            row(name, {reference: f"{accuracy.reference_details[name]:.4f}", own: f"{value:.4f}"})
    if agreement := last.agreement:
        row(f"results as float's, {agreement.images} images", {own: f"{100 * agreement.f1:.1f} %"})
        row("confidence shift", {own: f"{agreement.score_shift:+.4f}"})
    if latency := last.latency:
        threads = f", {latency.threads} threads" if latency.device.startswith("cpu") else ""
        where = f"{latency.engine}{threads}, {latency.device}"
        times = {reference: f"{latency.reference_median_ms:.2f} ms", own: f"{latency.median_ms:.2f} ms"}
        row(f"engine, median; {where}", times)
    return table


def _spoken(role: str) -> str:
    return role.replace("_", " ")


def _error(parity: Parity | None, role: str, *, digits: int) -> str:
    """Return how far an output is from the source's; nothing where that was not compared."""
    from ..manifest import UNITS

    if parity is None or role not in parity.errors:
        return ""
    return f"{parity.errors[role]:.{digits}g} {UNITS.get(role, '')}".rstrip()


def _bytes(artifact: Artifact) -> int:
    return sum(entry.bytes for entry in artifact.manifest.files)
