"""``yolo12edge inspect``: what an artifact, a lone model file or a checkpoint is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import out, plain
from ._licence import agpl_warning

if TYPE_CHECKING:
    from rich.table import Table

    from ..keypoints import KeypointSpec
    from ..manifest import Accuracy, InputSpec, Latency, Manifest

__all__ = ["describe", "inspect"]


def inspect(
    path: Annotated[
        Path,
        typer.Argument(help="Artifact directory, .onnx or .xml file, also of Ultralytics, .mlpackage or checkpoint."),
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what an artifact, an .onnx or .xml file, a .mlpackage or a checkpoint is, and verify its files.

    Exit code 1: a file is missing or was altered.
    """
    facts = describe(path)
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
    else:
        _print(facts)
    if not facts["verified"]:
        raise typer.Exit(1)


def describe(path: Path) -> dict[str, Any]:
    """Return what ``inspect --json`` prints.

    Keys: ``kind`` (``artifact``, ``onnx``, ``openvino``, ``engine``, ``coreml`` or ``checkpoint``), ``path``,
    ``verified``, ``files`` (each with ``path``, ``bytes``, ``sha256`` and ``problem``, which is null if the file is as
    it should be), ``warnings``, and ``manifest`` or, of a checkpoint, ``checkpoint`` and ``parameters``. Of a model
    that another tool made, a ``manifest`` is made of what its file says, and ``checkpoint_sha256`` in it is null. Of a
    lone Core ML package, ``functions`` names its programs, first the one that opens by itself.

    Raises:
        ArtifactError: If it is no artifact, or its manifest is not valid.
        CheckpointError: If it is a damaged checkpoint.
        InputError: If it does not exist, or is a file of another kind.
    """
    from ..artifact import MANIFEST_NAME, read_lone_manifest, read_manifest
    from ..errors import InputError
    from ..foreign import METADATA_NAME, model_in
    from ..manifest import PLAN_SUFFIX
    from ..runtimes.lone_package import package_at

    path = model_in(path)
    if (lone := package_at(path)) is not None:
        return _package_facts(path, *lone)
    if not path.exists():
        raise InputError(f"{path} does not exist", expected="an artifact directory, .onnx or .xml file or checkpoint")
    if path.is_dir():
        manifest = read_manifest(path)
        return _facts("artifact", path, _listed_files(path, manifest), manifest.provenance.weights_license, manifest)
    if path.name == MANIFEST_NAME:
        raise InputError(f"{path} is only the manifest", remedy=f"yolo12edge inspect {path.parent}")
    suffix = path.suffix.lower()
    if suffix in (".onnx", ".xml"):
        manifest = read_lone_manifest(path)
        files = [_lone_file(path)] if suffix == ".onnx" else [_lone_file(path), _weights_beside(path)]
        if suffix == ".xml" and manifest.foreign:
            files.append(_lone_file(path.with_name(METADATA_NAME)))
        kind = "onnx" if suffix == ".onnx" else "openvino"
        return _facts(kind, path, files, manifest.provenance.weights_license, manifest)
    if suffix == PLAN_SUFFIX:
        from ..runtimes.foreign_engine import read_foreign_engine

        manifest, _ = read_foreign_engine(path)
        return _facts("engine", path, [_lone_file(path)], manifest.provenance.weights_license, manifest)
    if suffix == ".safetensors":
        from ..checkpoint import read_header

        header = read_header(path)
        facts = _facts("checkpoint", path, [_lone_file(path)], header.meta.weights_license, None)
        return {**facts, "parameters": header.parameters, "checkpoint": _plain(header.meta)}
    remedy = f"yolo12edge import {path}" if suffix in {".pt", ".pth"} else ""
    raise InputError(
        f"{path} is a file of unknown kind",
        expected="an artifact directory, .onnx, .xml, .engine or .safetensors",
        remedy=remedy,
    )


def _package_facts(path: Path, package: Path, function: str | None) -> dict[str, Any]:
    from ..runtimes.lone_package import package_files, package_manifest, package_manifests

    manifest = package_manifest(package, function)
    files = [{**_lone_file(file), "path": file.relative_to(package).as_posix()} for file in package_files(package)]
    facts = _facts("coreml", path, files, manifest.provenance.weights_license, manifest)
    return {**facts, "functions": list(package_manifests(package))}


def _facts(
    kind: str, path: Path, files: list[dict[str, Any]], weights_license: str | None, manifest: Manifest | None
) -> dict[str, Any]:
    warning = agpl_warning(weights_license)
    facts: dict[str, Any] = {
        "kind": kind,
        "path": str(path),
        "verified": all(file["problem"] is None for file in files),
        "files": files,
        "warnings": [] if warning is None else [warning],
    }
    if manifest is not None:
        facts["warnings"] += _measured_warnings(manifest)
        facts["manifest"] = _plain(manifest)
    return facts


def _plain(struct: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(struct)
    return plain


def _listed_files(directory: Path, manifest: Manifest) -> list[dict[str, Any]]:
    from ..artifact import verify_file
    from ..errors import ArtifactError

    files = []
    for entry in manifest.files:
        problem = None
        try:
            verify_file(directory, entry)
        except ArtifactError as error:
            problem = str(error)
        files.append({**_plain(entry), "problem": problem})
    return files


def _lone_file(path: Path) -> dict[str, Any]:
    from ..files import sha256_of

    return {"path": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size, "problem": None}


def _weights_beside(path: Path) -> dict[str, Any]:
    from ..errors import ArtifactError
    from ..openvino_metadata import find_weights

    weights = path.with_suffix(".bin")
    try:
        find_weights(path)
    except ArtifactError as error:
        facts = _lone_file(weights) if weights.is_file() else {"path": weights.name, "sha256": "", "bytes": 0}
        return {**facts, "problem": str(error)}
    return _lone_file(weights)


def _measured_warnings(manifest: Manifest) -> list[str]:
    latency, budget = manifest.report.latency, manifest.report.budget
    found = []
    if budget is not None and not budget.held:
        found.append(f"it loses more accuracy than was allowed ({budget.max_map_drop:g} points).")
    if latency is None or manifest.precision == "fp32" or latency.median_ms < latency.reference_median_ms:
        return found
    return [
        *found,
        f"{manifest.precision} is not faster than {latency.reference} where it was measured ({latency.device}): "
        "ship the float artifact for such a device.",
    ]


_ELSEWHERE = "not in the file (see the artifact's manifest.json)"

# From here on: printing. Everything that comes from a file goes through ``plain``, because a file may hold terminal
# escape sequences or the markup of rich.


def _print(facts: dict[str, Any]) -> None:
    out.print(_title(facts), soft_wrap=True)
    for file in facts["files"]:
        if file["problem"]:
            out.print(plain(f"DAMAGED: {file['problem']}", "bold red"), soft_wrap=not out.is_terminal)
    out.print()
    if facts["kind"] == "checkpoint":
        _print_rows(_checkpoint_rows(facts))
    else:
        manifest = _manifest_of(facts)
        lone = facts["kind"] != "artifact" and not manifest.foreign
        functions = facts.get("functions", [])
        several = [("functions", f"{', '.join(functions)}; {functions[0]} opens by itself")] if functions[1:] else []
        _print_rows(_manifest_rows(manifest, lone=lone) + several)
        _print_report(manifest, lone=lone)
    _print_table(_file_table(facts))
    for warning in facts["warnings"]:
        out.print(plain(f"Warning: {warning}", "yellow"), soft_wrap=not out.is_terminal)


def _manifest_of(facts: dict[str, Any]) -> Manifest:
    import msgspec

    from ..manifest import Manifest

    return msgspec.convert(facts["manifest"], Manifest)


def _title(facts: dict[str, Any]) -> Any:
    words = {
        "artifact": "Artifact",
        "onnx": "ONNX file with embedded manifest",
        "openvino": "OpenVINO file with embedded manifest",
        "engine": "TensorRT engine with embedded manifest",
        "coreml": "Core ML package with embedded manifest",
        "checkpoint": "Checkpoint",
    }
    word = words[facts["kind"]]
    if facts["kind"] != "checkpoint" and _manifest_of(facts).foreign:
        word = word.replace("with embedded manifest", "of another tool")
    return plain(f"{word} {facts['path']}", "bold")


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(plain(column), overflow="fold" if index else "ellipsis")
    return table


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values; a digest or path is never broken, and off a terminal no line is."""
    indent = max(len(name) for name, _ in rows) + 1
    for name, value in rows:
        text = plain(value).plain
        if out.is_terminal:
            room = max(20, out.width - indent)
            lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
            text = f"\n{' ' * indent}".join(lines)
        out.print(plain(name.ljust(indent), "dim"), plain("").append(text), sep="", soft_wrap=True)


def _print_table(table: Table) -> None:
    """Print a table; off a terminal as wide as it needs to be, and without blanks at the ends of lines."""
    if out.is_terminal:
        out.print(table)
        return
    from rich.console import Console

    text = StringIO()
    Console(file=text, width=1000, highlight=False, color_system=None).print(table)
    out.print("\n".join(line.rstrip() for line in text.getvalue().splitlines()), markup=False, soft_wrap=True)


def _classes(names: list[str], multi_label: bool = False) -> str:
    shown = ", ".join(names[:20])
    together = "; they do not exclude each other" if multi_label else ""
    return f"{len(names)}: {shown}{', …' if len(names) > 20 else ''}{together}"


def _keypoints(points: KeypointSpec) -> str:
    names = f": {', '.join(points.names[:20])}{', …' if len(points.names) > 20 else ''}" if points.names else ""
    return f"{points.count} of {points.dimensions} values{names}"


def _resize(spec: InputSpec) -> str:
    return f"letterbox padded with {spec.pad_value}" if spec.resize == "letterbox" else "middle of the picture"


def _licence(weights_license: str | None) -> str:
    return weights_license or "not stated"


def _manifest_rows(manifest: Manifest, *, lone: bool) -> list[tuple[str, str]]:
    from ..manifest import UNITS

    spec = manifest.input
    model = "foreign" if manifest.foreign else f"YOLO12{manifest.scale} ({manifest.variant})"
    rows = [
        ("model", f"{model}, {manifest.task}"),
        ("classes", _classes(manifest.class_names, manifest.multi_label)),
        ("format", f"{manifest.format}, {_precision(manifest)}"),
        (
            "input",
            f"{spec.name}: {'x'.join(map(str, spec.shape(spec.batch)))} {spec.dtype}, {spec.layout}, {spec.color}, "
            f"{_resize(spec)}, pixel * {spec.scale:.6g}" + (" in the graph" if spec.pixels else ""),
        ),
    ]
    if points := manifest.keypoints:
        rows.insert(2, ("keypoints", _keypoints(points)))
    if spec.min_batch is not None:
        rows.append(("batch", f"any from {spec.min_batch} to {spec.batch}"))
    for output in manifest.outputs:
        role = "boxes and scores" if output.role == "fused" else output.role
        rows.append(("output", f"{output.name}: {'x'.join(map(str, output.shape))} {output.dtype}, {role}"))
    if manifest.nms_iou is not None:
        rows.append(("suppression", f"in the graph, from IoU {manifest.nms_iou:g} on"))
    rows += _engine_rows(manifest)
    if calibration := manifest.calibration:
        rows.append(
            (
                "calibration",
                f"{calibration.method} over {len(calibration.images)} images of {calibration.split!r}, for "
                f"{calibration.placement}, {len(calibration.float_nodes)} convolutions float, attention "
                f"{calibration.attention}, {7 if calibration.reduced_range else 8}-bit weights rounded "
                + {"nearest": "to the nearest", "gptq": "by GPTQ", "adaround": "by AdaRound"}[calibration.rounding],
            )
        )
        if calibration.float_groups:
            rows.append(("back to float", ", ".join(calibration.float_groups)))
    if budget := manifest.report.budget:
        rows.append(
            (
                "budget",
                f"{budget.max_map_drop:g} points, {'held' if budget.held else 'NOT held'}"
                + (", simulated" if budget.simulated else ""),
            )
        )
    if parity := manifest.report.parity:
        errors = (f"{role} within {error:.3g} {UNITS.get(role, '')}".rstrip() for role, error in parity.errors.items())
        rows.append(("parity", f"with {parity.source} on {parity.images} images: {', '.join(errors)}"))
    if agreement := manifest.report.agreement:
        rows.append(
            (
                "agreement",
                f"with {agreement.reference} on {agreement.images} images: {100 * agreement.f1:.1f} % of the "
                f"detections, confidence {agreement.score_shift:+.4f}",
            )
        )
    versions = ", ".join(f"{name} {version}" for name, version in manifest.provenance.versions.items())
    made = manifest.provenance.created or (f"at a time that is {_ELSEWHERE};" if lone else "at an unknown time")
    return [
        *rows,
        ("made", f"{made} with {versions or 'unknown versions'}"),
        ("checkpoint", f"sha256 {digest}" if (digest := manifest.provenance.checkpoint_sha256) else "not stated"),
        ("weights licence", _licence(manifest.provenance.weights_license)),
    ]


def _precision(manifest: Manifest) -> str:
    """Return the precision, and how weights are compressed, if they are."""
    weights = "" if manifest.weights == "float" else f", {manifest.weights} weights"
    return manifest.precision + weights


def _engine_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """Return what is known of a TensorRT engine."""
    from ..manifest import TENSORRT_FORMATS

    if manifest.format not in TENSORRT_FORMATS or manifest.foreign:
        return []
    engine = manifest.engine
    if engine is None:
        return [("engine", "none yet: a device builds it at first use")]
    others = " and newer GPUs" if engine.library == "tensorrt-rtx" else " and other GPUs from Ampere on"
    later = " or newer" if engine.version_compatible else ""
    rows = [
        (
            "engine",
            f"{engine.library} {engine.version}{later}, "
            f"{f'built with CUDA {engine.cuda}' if engine.cuda else 'built without a GPU'}, for "
            f"{engine.platform} on {', '.join(engine.architectures)}{others if engine.hardware_compatible else ''}",
        )
    ]
    if engine.plugins:
        rows.append(("plugins", ", ".join(engine.plugins)))
    if layers := manifest.report.layers:
        kinds = ", ".join(f"{count} {kind}" for kind, count in layers.precisions.items())
        fused = f"{layers.fused_attention} of {layers.attention_blocks} attention blocks fused"
        rows.append(("layers", f"{layers.total}: {kinds}; {fused}"))
    return rows


def _checkpoint_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    import msgspec

    from ..keypoints import KeypointSpec

    meta = facts["checkpoint"]
    int8 = meta.get("int8")
    training = ", ".join(f"{key} {value}" for key, value in meta["training"].items())
    whole = meta["part"] == "model"
    return [
        ("model", f"YOLO12{meta['scale']} ({meta['variant']}), {meta['task'] if whole else 'its backbone alone'}"),
        *([("classes", _classes(meta["class_names"], meta["multi_label"]))] if whole else []),
        *([("keypoints", _keypoints(msgspec.convert(meta["keypoints"], KeypointSpec)))] if meta["keypoints"] else []),
        ("parameters", f"{facts['parameters']:,}"),
        ("image size", f"{meta['image_size']} px"),
        ("source", meta["source"]),
        ("training", training or "nothing recorded"),
        *([("INT8 ranges", f"learned for {int8['target']} at {int8['image_size']} px")] if int8 else []),
        ("weights licence", _licence(meta["weights_license"])),
    ]


def _print_report(manifest: Manifest, *, lone: bool) -> None:
    if accuracy := manifest.report.accuracy:
        _print_table(_accuracy_table(accuracy, _precision(manifest)))
    if latency := manifest.report.latency:
        _print_table(_latency_table(latency, manifest.precision))
    if accuracy is None and latency is None:
        out.print(plain(f"Accuracy and latency: {_ELSEWHERE if lone else 'not measured'}.", "dim"))


def _accuracy_table(accuracy: Accuracy, precision: str) -> Table:
    title = f"Accuracy on {accuracy.dataset}, {accuracy.split}, {accuracy.images} images (points)"
    table = _table("", accuracy.metric, *accuracy.details)
    table.title = plain(title, "bold")
    own = (accuracy.value, *accuracy.details.values())
    reference = (accuracy.reference_value, *(accuracy.reference_details[name] for name in accuracy.details))
    table.add_row(plain(precision), *(f"{100 * value:.2f}" for value in own))
    table.add_row(plain(accuracy.reference), *(f"{100 * value:.2f}" for value in reference))
    table.add_row("difference", *(f"{100 * (a - b):+.2f}" for a, b in zip(own, reference, strict=True)))
    return table


def _latency_table(latency: Latency, precision: str) -> Table:
    table = _table("", "median ms", "speed-up")
    threads = f", {latency.threads or 'default'} threads" if latency.device.startswith("cpu") else ""
    table.title = plain(f"Latency of {latency.engine} on {latency.device}{threads}, {latency.samples} samples", "bold")
    table.add_row(
        plain(precision), f"{latency.median_ms:.2f}", f"{latency.reference_median_ms / latency.median_ms:.2f}x"
    )
    table.add_row(plain(latency.reference), f"{latency.reference_median_ms:.2f}", "1.00x")
    return table


def _file_table(facts: dict[str, Any]) -> Table:
    table = _table("file", "bytes", "sha256", "")
    for file in facts["files"]:
        if file["problem"]:
            state = plain("DAMAGED", "bold red")
        else:
            state = plain("verified", "green") if facts["kind"] == "artifact" else plain("")
        table.add_row(plain(file["path"]), f"{file['bytes']:,}", plain(f"{file['sha256'][:16]}…"), state)
    return table
