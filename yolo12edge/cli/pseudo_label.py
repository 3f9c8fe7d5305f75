"""``yolo12edge pseudo-label``: what a model is sure of in unlabelled pictures becomes labels to train with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..reports.formats import plural
from ._console import console, progress
from ._console import out as results

if TYPE_CHECKING:
    from ..cluster import Seen
    from ..keypoints import KeypointSpec

__all__ = ["pseudo_label"]

_SHOWN = 10


def pseudo_label(
    model: Annotated[Path, typer.Argument(help="Artifact directory, .onnx or .xml file or .safetensors checkpoint.")],
    source: Annotated[list[str], typer.Argument(help="Unlabelled images, folders or patterns.")],
    *,
    data: Annotated[Path, typer.Option(help="The dataset of the model; its own pictures are left out.")],
    out: Annotated[Path, typer.Option(help="New folder for labels, pictures and data.yaml.")],
    confidence: Annotated[float, typer.Option(min=0.0, max=1.0, help="From where on the model is sure.")] = 0.5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda; with OpenVINO gpu, npu.")] = "auto",
    cluster: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, or local; else this process alone works.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Workers of the cluster.")] = 2,
) -> None:
    """Label pictures with a model, as a dataset that `train --data` takes: the new pictures beside the labelled ones.

    Pictures of the dataset, copies of those that it scores with above all, are left out. Pictures in which nothing is
    sure are left out, too. Nothing is replaced: --out must be new. Ends with 1 if a picture could not be read.
    """
    from ..cluster import look, write_pseudo_labels
    from ..cluster.pseudo_labels import check_new, without_known
    from ..data.dataset import read_dataset
    from ..errors import InputError
    from ..runtimes import Runtime
    from ..thresholds import Thresholds
    from ._data import refuse_other_classes, refuse_other_keypoints
    from .cluster import find_pictures

    check_new(out)
    pictures = find_pictures(source)
    with Runtime(model, device=device) as runtime:
        manifest = runtime.manifest
    dataset = read_dataset(data, task=manifest.task)
    for refuse in (refuse_other_classes, refuse_other_keypoints):
        refuse(manifest, dataset, remedy="give the dataset that the model was trained with")
    with progress("Looking for pictures of the dataset", len(pictures), unit="images") as steps:
        pictures, copies = without_known(pictures, dataset, progress=steps.update)
    for path, original in copies[:_SHOWN]:
        same = path.resolve() == Path(original).resolve()
        why = "is in the dataset" if same else f"shows what {original} does"
        console.print(f"left out: {path} {why}", markup=False, soft_wrap=True)
    if len(copies) > _SHOWN:
        console.print(f"… and {len(copies) - _SHOWN} more")
    if not pictures:
        raise InputError("no picture is left", expected="pictures that the dataset does not hold")
    thresholds = Thresholds(confidence=confidence).within(manifest.nms_iou)
    with progress("Labelling", len(pictures), unit="images") as steps:
        seen = look(model, pictures, thresholds=thresholds, device=device, cluster=cluster, workers=workers)
        written = write_pseudo_labels(
            _counted(seen, steps.advance),
            pictures,
            out,
            dataset,
            lines=lambda entry: _lines(entry, manifest.keypoints),
        )
    for path, why in written.unread[:_SHOWN]:
        console.print(f"not read: {path}: {why}", style="red", markup=False, soft_wrap=True)
    for class_id, count in written.objects.most_common():
        results.print(f"{dataset.class_names[class_id]}: {count}", markup=False)
    results.print(
        f"{plural(written.labelled, 'picture')} labelled, {written.empty} without anything sure, "
        f"{len(copies)} left out because the dataset holds them, {len(written.unread)} not read\n"
        f"Next: yolo12edge train --data {written.data}",
        markup=False,
        soft_wrap=True,
    )
    if written.unread:
        raise typer.Exit(1)


def _counted(seen: Iterable[Seen], advance: object) -> Iterator[Seen]:
    for entry in seen:
        advance(1)  # type: ignore[operator]
        yield entry


def _lines(entry: Seen, keypoints: KeypointSpec | None) -> list[str]:
    """Return the lines of a label file: without confidences, with points that are labelled or not."""
    from ._label_lines import label_lines

    found = entry.detections
    assert found is not None
    if found.keypoints is not None and keypoints is not None and keypoints.dimensions == 3:
        points = found.keypoints.copy()
        points[..., 2] = 2 * (points[..., 2] >= 0.5)
        found = replace(found, keypoints=points)
    height, width = entry.image_hw
    return [line.rsplit(" ", 1)[0] + "\n" for line in label_lines(found, (height, width), keypoints)]
