"""Core ML on a Mac: every form on every unit beside the reference evaluator and ONNX Runtime, and how long it takes.

``python benchmarks/coreml_mac.py`` exports the bundled checkpoint (``--checkpoint`` another one) to FP32 ONNX and to
every Core ML form, runs each on the CPU, the GPU and the Neural Engine, and writes a Markdown page to ``--out``: how
far boxes and scores are from the evaluator, which has the same numbers on every machine; AP50-95 on generated scenes
beside ONNX Runtime's; and median times, taken in turns. Models and scenes go to ``--work`` and are kept there. Where a
unit refuses a form, the page says so. It needs a Mac; elsewhere it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import numpy as np
import numpy.typing as npt
from commands import CommandError, yolo12edge

from yolo12edge import Runtime
from yolo12edge.artifact import Artifact
from yolo12edge.assets import DEMO_CHECKPOINT
from yolo12edge.benchmark.latency import interleaved_latency
from yolo12edge.data.dataset import Dataset, read_dataset
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import BackendError, Yolo12EdgeError
from yolo12edge.exporters.mil_evaluator import MilBackend
from yolo12edge.imaging.images import read_image
from yolo12edge.metrics.evaluate import evaluate_runtime
from yolo12edge.runtimes.coreml_library import check_macos

_FORMS: dict[str, tuple[str, ...]] = {
    "FP32": ("--fp32",),
    "FP16": (),
    "INT8 weights": ("--weights-int8",),
    "8-bit palettes": ("--palettize", "8"),
    "6-bit palettes": ("--palettize", "6"),
    "4-bit palettes": ("--palettize", "4"),
    "W8A8": ("--int8",),
}
_UNITS = ("cpu", "gpu", "ane")
_LIKELY = 0.25  # boxes of candidates below are never looked at
_SEED = 5  # other scenes than those that the bundled checkpoint was trained on
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of one form on one unit.

    Attributes:
        form: Of the model.
        unit: ``cpu``, ``gpu``, ``ane``, ``evaluator`` or ``ONNX Runtime``.
        size: Of the artifact beside FP32's.
        boxes: Largest difference from the evaluator in pixels, of likely candidates.
        scores: Largest difference from the evaluator.
        ap: AP50-95 on the scenes.
        ms: Median of a whole call.
        problem: Why it did not run, or "".
        where: What it ran on, in the Runtime's words.
    """

    form: str
    unit: str
    size: float
    boxes: float | None = None
    scores: float | None = None
    ap: float | None = None
    ms: float | None = None
    problem: str = ""
    where: str = ""

    def line(self) -> str:
        """Return it as a line of Markdown."""
        figures = ((self.boxes, ".3f"), (self.scores, ".5f"), (self.ap, ".4f"), (self.ms, ".2f"))
        cells = ["" if value is None else format(value, how) for value, how in figures]
        return f"| {self.form} | {self.unit} | {self.size:.2f} | {' | '.join(cells)} | {self.problem or self.where} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="a .safetensors checkpoint")
    parser.add_argument("--data", type=Path, help="its data.yaml; without, scenes are generated")
    parser.add_argument("--images", type=int, default=300, help="pictures to score on, at most")
    parser.add_argument("--repeats", type=int, default=200, help="calls of each contender")
    parser.add_argument("--forms", nargs="+", choices=tuple(_FORMS), default=list(_FORMS), help="these alone")
    parser.add_argument("--work", type=Path, default=Path("coreml-work"), help="folder for models and scenes")
    parser.add_argument("--out", type=Path, default=Path("coreml-mac.md"), help="file for the page")
    options = parser.parse_args(arguments)
    version = check_macos()
    data = options.data or _scenes(options.work)
    dataset = read_dataset(data)
    reference = _exported(options, data, "onnx", ())
    rows: list[Row] = []
    for form in options.forms:
        artifact = _exported(options, data, form, ("--format", "coreml", *_FORMS[form]))
        for row in _measured(form, artifact, reference, dataset, options.images, options.repeats):
            print(row.line(), flush=True)
            rows.append(row)
    options.out.write_text(_page(rows, version, options), encoding="utf-8")
    print(f"Written: {options.out}")


def _scenes(work: Path) -> Path:
    folder = work / "scenes"
    if not folder.is_dir():
        generate_scenes(folder, train=96, val=300, size=320, seed=_SEED)
    return folder / "data.yaml"


def _exported(options: argparse.Namespace, data: Path, name: str, flags: Sequence[str]) -> Artifact:
    """Return the checkpoint in a form, made once."""
    folder = options.work / name.replace(" ", "-")
    if not folder.is_dir():
        more = ("--data", data) if "--int8" in flags else ()
        yolo12edge("export", options.checkpoint, "--out", folder, *flags, *more, allowed=(0, 1))
    wanted = "coreml" if "coreml" in flags else "onnx"
    loaded = [Artifact.load(path.parent) for path in sorted(folder.glob("*/manifest.json"))]
    of_form = [artifact for artifact in loaded if artifact.manifest.format == wanted]
    if "--int8" in flags:
        of_form = [artifact for artifact in of_form if artifact.manifest.precision == "int8"]
    return of_form[0]


def _measured(
    form: str, artifact: Artifact, reference: Artifact, dataset: Dataset, images: int, repeats: int
) -> list[Row]:
    """Run a form on every unit, beside the evaluator and ONNX Runtime."""
    samples = dataset.samples("val")[:images]
    frames = [read_image(sample.image) for sample in samples[:8]]
    size = _size(artifact) / _size(reference)
    rows: list[Row] = []
    with ExitStack() as stack:
        package = artifact.path / "model.mlpackage"
        simulated = stack.enter_context(Runtime.of(MilBackend(package), artifact.manifest, warmup=0))
        runtimes = {"ONNX Runtime": stack.enter_context(Runtime(reference, device="cpu"))}
        for unit in _UNITS:
            try:
                runtimes[unit] = stack.enter_context(Runtime(artifact, device=unit))
            except BackendError as error:
                rows.append(Row(form, unit, size, problem=error.fact))
        calls: dict[str, Callable[[], Any]] = {name: partial(one, frames[0]) for name, one in runtimes.items()}
        latencies = interleaved_latency(calls, repeats=repeats, warmup=20)
        for name, runtime in runtimes.items():
            own = name != "ONNX Runtime"
            boxes, scores = _differences(runtime, simulated, frames) if own else (None, None)
            found = evaluate_runtime(runtime, samples, dataset.class_names)
            rows.append(
                Row(
                    form if own else "FP32 ONNX",
                    name,
                    size if own else 1.0,
                    boxes,
                    scores,
                    found.metrics.ap,
                    latencies[name].median_ms,
                    where=runtime.device,
                )
            )
        found = evaluate_runtime(simulated, samples, dataset.class_names)
        rows.append(Row(form, "evaluator", size, ap=found.metrics.ap, where="simulated"))
    return rows


def _differences(runtime: Runtime, other: Runtime, frames: Sequence[Picture]) -> tuple[float, float]:
    """Return the largest difference of boxes, in pixels, of likely candidates, and of scores."""
    most_boxes = most_scores = 0.0
    for frame in frames:
        feeds = {runtime.manifest.input.name: runtime.preprocessor(frame)[0]}
        found, expected = runtime.infer(feeds), other.infer(feeds)
        name = {output.role: output.name for output in runtime.manifest.outputs}
        likely = expected[name["scores"]].max(1)[0] > _LIKELY
        boxes = np.abs(found[name["boxes"]] - expected[name["boxes"]])[0][:, likely]
        most_boxes = max(most_boxes, float(boxes.max(initial=0.0)))
        scores = np.abs(found[name["scores"]] - expected[name["scores"]])
        most_scores = max(most_scores, float(scores.max()))
    return most_boxes, most_scores


def _size(artifact: Artifact) -> int:
    return sum(entry.bytes for entry in artifact.manifest.files)


def _page(rows: Sequence[Row], version: tuple[int, ...], options: argparse.Namespace) -> str:
    head = [
        f"{platform.processor() or platform.machine()}, macOS {'.'.join(map(str, version))}, "
        f"{options.checkpoint.stem}; medians of {options.repeats} calls of the Runtime, in turns.",
        "",
        "| form | unit | size | boxes, px | scores | AP50-95 | ms | ran on |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *(row.line() for row in rows)]) + "\n"


if __name__ == "__main__":
    try:
        main()
    except (Yolo12EdgeError, CommandError) as error:
        sys.exit(str(error))
