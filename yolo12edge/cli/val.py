"""``yolo12edge val``: measure the accuracy of a model on labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import console, plain, progress
from ._console import out as results
from ._data import read_scored
from ._ensemble import EnsembleOption, TtaOption, open_models

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ..metrics import Metrics
    from ..metrics.operating_point import OperatingPoint
    from ..metrics.tasks import ClassFigures

__all__ = ["accuracy_tables", "val"]


def val(
    model: Annotated[Path, typer.Argument(help="Artifact directory, .onnx or .xml file or .safetensors checkpoint.")],
    *,
    data: Annotated[Path, typer.Option(help="Dataset: its description (data.yaml), or a folder of class folders.")],
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda; with TensorRT cuda:1; with OpenVINO gpu, gpu.1, npu.")
    ] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and plots.")] = Path("runs/val"),
    plots: Annotated[bool, typer.Option(help="Draw curves, confusion matrix and sample images.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    cost_false_positive: Annotated[
        float | None, typer.Option(help="What a wrong detection costs; to choose the cheapest threshold.")
    ] = None,
    cost_false_negative: Annotated[
        float | None, typer.Option(help="What a missed object costs, in the same unit.")
    ] = None,
    ensemble: EnsembleOption = None,
    tta: TtaOption = None,
) -> None:
    """Measure the accuracy of a model on labelled images, on the engine that will run it."""
    import msgspec

    from .. import __version__
    from ..errors import InputError
    from ..files import atomic_file
    from ..metrics import EVAL_THRESHOLDS, choose_threshold, evaluate_runtime
    from ..metrics.operating_point import check_costs
    from ..metrics.report import write_plots

    costs = [cost for cost in (cost_false_positive, cost_false_negative) if cost is not None]
    if len(costs) == 1:
        raise InputError(
            "the cost of one kind of mistake was given", remedy="give --cost-false-positive and --cost-false-negative"
        )
    if costs:
        check_costs(*costs)
    with open_models(model, ensemble, tta, device=device) as runtime:
        manifest = runtime.manifest
        dataset, samples = read_scored(data, split, manifest)
        thresholds = EVAL_THRESHOLDS.within(manifest.nms_iou)
        with progress(f"Evaluating {model.name}", len(samples), unit="images") as steps:
            evaluation = evaluate_runtime(runtime, samples, dataset.class_names, progress=steps.update)
        facts: dict[str, Any] = {
            "yolo12edge": __version__,
            "model": str(model),
            "ensemble": [str(other) for other in ensemble or ()],
            "tta": tta,
            "data": str(data),
            "split": split,
            "task": manifest.task,
            "engine": runtime.engine,
            "device": runtime.device,
            "input_hw": [manifest.input.height, manifest.input.width],
            "precision": manifest.precision,
            "thresholds": {
                "confidence": thresholds.confidence,
                "iou": thresholds.iou,
                "max_detections": thresholds.max_detections,
            },
            "metrics": evaluation.metrics.to_dict(),
            "times": evaluation.times.to_dict(),
        }
        point = None
        if costs:
            given = dict(zip(("cost_false_positive", "cost_false_negative"), costs, strict=True))
            point = choose_threshold(evaluation.metrics.curves, **given)
            facts["cheapest"] = {**given, **point.to_dict()}

    report = msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n"
    with atomic_file(out / "metrics.json") as file:
        file.write_bytes(report)
    if json:
        typer.echo(report.decode(), nl=False)
    else:
        for table in accuracy_tables(evaluation.metrics):
            results.print(table)
        if point is not None:
            results.print(plain(_cheapest(point)))
        times = facts["times"]
        results.print(
            plain(
                f"{runtime.engine} on {runtime.device}: {times['detect_ms_median']:.1f} ms an image with pre- and "
                f"postprocessing (median), reading {times['read_ms_median']:.1f} ms, scoring {times['score_s']:.1f} s",
                "dim",
            )
        )
    if plots:
        write_plots(
            out,
            evaluation,
            images=[sample.image for sample in samples],
        )
    console.print(plain(f"Written to {out}"))


def _cheapest(point: OperatingPoint) -> str:
    precision, recall = ("-" if share != share else f"{100 * share:.2f} %" for share in (point.precision, point.recall))
    return (
        f"Mistakes cost least at confidence {point.confidence:.3f}, where precision is {precision} and recall "
        f"{recall}: {point.false_positives} wrong and {point.false_negatives} missed cost {point.cost:g}"
    )


def accuracy_tables(metrics: Metrics) -> list[Table]:
    """Return a table of the task's own accuracy, and one of the boxes where the task has more; they fit 80 columns."""
    return [_table(part) for part in metrics.parts()]


def _table(metrics: Metrics) -> Table:
    """Return one row for all classes and, where there are several, one for each; shares as per cent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=plain(f"Accuracy, %; precision, recall, F1 at {metrics.decision}", "bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    figures = metrics.figures()
    table.add_column("class", overflow="fold")
    for heading in ("images", metrics.counted, *figures, "precision", "recall", "F1"):
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)

    def row(name: Text, entry: Metrics | ClassFigures, values: Mapping[str, float]) -> None:
        shares = [*(values.get(figure) for figure in figures), entry.precision, entry.recall, entry.f1]
        shown = ("" if value is None else "-" if value != value else f"{100 * value:.2f}" for value in shares)
        table.add_row(name, str(entry.images), str(entry.instances), *shown)

    row(plain("all", "bold"), metrics, figures)
    if len(metrics.per_class) > 1:
        for entry in metrics.per_class:
            row(plain(entry.name), entry, entry.figures())
    return table
