"""``yolo12edge predict``: find objects or classes in images, folders, videos, cameras and network streams."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..errors import InputError
from ..files import atomic_file
from ..reports.formats import plural
from ..thresholds import Thresholds
from ._console import console, free_folder, out, progress
from ._ensemble import EnsembleOption, TtaOption, open_models

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..sources import MediaFile
    from ._prediction import Prediction

__all__ = ["predict"]

_DEFAULT = Thresholds()


def predict(
    artifact: Annotated[
        Path, typer.Argument(help="Artifact directory, .onnx or .xml file or .safetensors checkpoint.")
    ],
    source: Annotated[
        list[str], typer.Argument(help="Images, folders, patterns, videos, cameras (/dev/video0) or URLs (rtsp://…).")
    ],
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the results.", show_default="runs/predict, with a number if it exists"),
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", min=0.0, max=1.0, help="Lowest confidence to keep.")
    ] = _DEFAULT.confidence,
    iou: Annotated[
        float | None,
        typer.Option(
            "--iou",
            min=0.0,
            max=1.0,
            help="IoU above which a better box suppresses another.",
            show_default="0.7, or less if the model itself suppresses from there on",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--classes", help="Names or indices to look for, with commas or repeated.", show_default="all"),
    ] = None,
    max_detections: Annotated[
        int, typer.Option("--max-detections", min=1, help="Most detections of one image.")
    ] = _DEFAULT.max_detections,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="Most frames of one video or stream.", show_default="all")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda; with TensorRT cuda:1; with OpenVINO gpu, gpu.1, npu.")
    ] = "auto",
    save_json: Annotated[bool, typer.Option("--save-json", help="Write predictions.json into the folder.")] = False,
    save_txt: Annotated[bool, typer.Option("--save-txt", help="Write YOLO label files into labels/.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")] = False,
    ensemble: EnsembleOption = None,
    tta: TtaOption = None,
) -> None:
    """Find objects, or classes of whole pictures, in images, folders, videos and streams; write pictures and results.

    Cameras and network streams come after the files and go on until Ctrl-C or --frames; either way what is done is
    kept. Ends with 1 if a source could not be read; the others are done all the same.
    """
    from ..sources import find_media, is_stream
    from ._prediction import predict_media

    streams = [name for name in source if is_stream(name)]
    files = [name for name in source if name not in streams]
    media = find_media(files) if files else []  # before the model is loaded: a wrong name should show at once
    if len(streams) > 1 and frames is None:
        raise InputError(
            "streams are looked at one after the other, and the first may have no end",
            remedy="give --frames, or start one command for each",
        )
    folder = out_folder or free_folder(Path("runs/predict"))
    with ExitStack() as stack:
        with console.status("Loading the model"):
            runtime = stack.enter_context(open_models(artifact, ensemble, tta, device=device))
        thresholds = Thresholds(
            confidence=confidence,
            iou=_DEFAULT.within(runtime.manifest.nms_iou).iou if iou is None else iou,
            max_detections=max_detections,
            classes=resolve_classes(classes, runtime.manifest.class_names),
        )
        with progress("Predicting", _count_frames(media, len(streams), frames), unit="frames") as steps:
            result = predict_media(
                runtime,
                media,
                folder,
                streams=streams,
                thresholds=thresholds,
                most_frames=frames,
                save_txt=save_txt,
                keep_records=save_json or json_output,
                advance=steps.advance,
            )
    header = {
        "artifact": str(artifact),
        "ensemble": [str(other) for other in ensemble or ()],
        "tta": tta,
        "device": runtime.device,
        "class_names": runtime.manifest.class_names,
        "thresholds": asdict(thresholds),
    }
    text = result.to_json(header) if save_json or json_output else b""
    if save_json:
        with atomic_file(folder / "predictions.json") as temporary:
            temporary.write_bytes(text)
    if json_output:
        sys.stdout.write(text.decode())
    else:
        _print_summary(result, runtime.manifest, runtime.device, folder, save_json, save_txt)
    for note in result.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    if result.errors:
        console.print(
            f"[bold red]{len(result.errors)} of {plural(len(media) + len(streams), 'source')} had a problem:[/]"
        )
        for _, message in result.errors:
            console.print(f"  {message}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    if result.interrupted and not streams:  # a stream is ended in no other way
        raise typer.Exit(130)


def resolve_classes(wanted: Sequence[str] | None, class_names: Sequence[str]) -> tuple[int, ...] | None:
    """Return class indices for names or indices as typed, ``["car,person", "3"]``; None for all.

    Raises:
        InputError: If there is no such class.
    """
    if not wanted:
        return None
    index_of = {name: index for index, name in enumerate(class_names)}
    found = []
    for entry in wanted:
        for name in [entry] if entry in index_of else [part.strip() for part in entry.split(",")]:
            if name in index_of:
                found.append(index_of[name])
            elif name.isascii() and name.isdigit() and int(name) < len(class_names):
                found.append(int(name))
            else:
                shown = ", ".join(class_names[:20]) + (", …" if len(class_names) > 20 else "")
                raise InputError(
                    f"there is no class {name!r}",
                    expected=f"a name or an index from 0 to {len(class_names) - 1}: {shown}",
                )
    return tuple(dict.fromkeys(found))


def _count_frames(media: Sequence[MediaFile], streams: int, most: int | None) -> int | None:
    from ..sources import Video

    if streams and most is None:
        return None
    total = streams * (most or 0)
    for item in media:
        if item.kind == "image":
            total += 1
            continue
        try:
            with Video(item.path) as video:
                count = video.frame_count
        except InputError:
            continue  # reported when its turn comes
        if count is None and most is None:
            return None
        total += min(count or sys.maxsize, most or sys.maxsize)
    return total


def _print_summary(
    result: Prediction, manifest: Manifest, device: str, folder: Path, save_json: bool, save_txt: bool
) -> None:
    from ._prediction import STAGES

    class_names, noun = manifest.class_names, "label" if manifest.task == "classify" else "object"
    if result.objects:
        table = Table("class", box=None, header_style="bold", pad_edge=False)
        table.add_column(f"{noun}s", justify="right")
        table.add_column("in frames", justify="right")
        for class_id, count in result.objects.most_common():
            table.add_row(escape(class_names[class_id]), str(count), str(result.seen_in[class_id]))
        out.print(table)
    looked_at = [plural(result.images, "image")] if result.images else []
    looked_at += [
        plural(count, noun) for count, noun in ((result.videos, "video"), (result.streams, "stream")) if count
    ]
    if result.frames > result.images:
        looked_at[-1] += f" ({plural(result.frames - result.images, 'frame')})"
    if looked_at:
        out.print(f"{plural(result.objects.total(), noun)} in {' and '.join(looked_at)}")
    if result.milliseconds["infer"]:
        times = {stage: median(result.milliseconds[stage]) for stage in STAGES}
        stages = ", ".join(f"{stage} {value:.1f}" for stage, value in times.items())
        out.print(f"Median ms a frame: {stages}; on {device}", markup=False, soft_wrap=True)
        extra = [name for name, there in (("predictions.json", save_json), ("labels/", save_txt)) if there]
        out.print(f"Results in {folder}{' with ' + ' and '.join(extra) if extra else ''}", markup=False, soft_wrap=True)
