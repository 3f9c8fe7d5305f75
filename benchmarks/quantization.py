"""INT8 beside float and beside other tools: accuracy, speed, size, and what calibration costs.

``python benchmarks/quantization.py --trained best.safetensors --public model.pt --data data.yaml --peer-python PYTHON``
prints Markdown tables and writes everything that was measured to ``--out``. Models go to ``--work`` and are kept there:
remove that folder to begin anew. Ratios are of things measured in turns in one run. The environment variable
ONEDNN_MAX_CPU_ISA, which limits what OpenVINO uses of the processor, is passed on and noted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import numpy as np
from commands import CommandError, yolo12edge
from contenders import Contender
from subjects import Models, Subject, make_models
from tables import markdown

from yolo12edge.assets import DEMO_CHECKPOINT
from yolo12edge.benchmark.latency import interleaved_latency
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.machine import machine_summary
from yolo12edge.metrics import evaluate_runtime
from yolo12edge.runtimes import Runtime

_SPEED_SIZE = 640
_SCENES_SEED = 4  # the demo checkpoint was trained on the scenes of 1 and 3


@dataclass(frozen=True, slots=True)
class _Amount:
    """How much is measured: scenes to score and to calibrate on, calls, and images of the two timed calibrations."""

    scenes: int
    calibrated: int
    repeats: int
    few: int
    many: int


_FULL = _Amount(scenes=1000, calibrated=512, repeats=50, few=64, many=256)
_QUICK = _Amount(scenes=20, calibrated=32, repeats=3, few=4, many=8)


def main() -> None:
    """Measure, printing the tables as far as they are known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, help="a checkpoint trained by this project on --data")
    parser.add_argument("--public", type=Path, help="a public .pt trained on --data")
    parser.add_argument("--data", type=Path, help="data.yaml of these two")
    parser.add_argument("--peer-python", type=Path, help="interpreter of the environment with ultralytics and nncf")
    parser.add_argument("--work", type=Path, default=Path("runs/quantization"), help="folder for models and scenes")
    parser.add_argument("--out", type=Path, default=Path("runs/quantization/results.json"), help="JSON of the results")
    parser.add_argument("--quick", action="store_true", help="few images and calls: tries the code, measures nothing")
    options = parser.parse_args()
    if (options.trained or options.public) and not options.data:
        parser.error("--trained and --public need --data")
    amount = _QUICK if options.quick else _FULL
    work = options.work.resolve() / ("quick" if options.quick else "full")
    work.mkdir(parents=True, exist_ok=True)

    results: dict[str, Any] = {"machine": _machine(), "peers": options.peer_python is not None, "accuracy": []}

    def keep(key: str, value: Any) -> None:
        results[key] = value
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2), encoding="utf-8")

    subjects = _subjects(options, work, amount)
    for subject in subjects:
        models = make_models(subject, image_size=None, out=work / _slug(subject.name), peer_python=options.peer_python)
        keep("accuracy", [*results["accuracy"], _accuracy(subject, models)])
    subject = subjects[0]
    models = make_models(
        subject,
        image_size=_SPEED_SIZE,
        out=work / f"{_slug(subject.name)}-{_SPEED_SIZE}",
        peer_python=options.peer_python,
    )
    keep("speed", [_speed(subject, models.contenders, threads, amount.repeats) for threads in (1, 2)])
    keep("calibration", _calibration(subjects[-1], work / "calibration", (amount.few, amount.many)))
    print(markdown(results))


def _subjects(options: argparse.Namespace, work: Path, amount: _Amount) -> list[Subject]:
    """Return what is measured; the first is also timed, the last has images enough to calibrate on."""
    subjects = []
    if options.public:
        checkpoint = work / f"{options.public.stem}.safetensors"
        if not checkpoint.is_file():
            yolo12edge("import", options.public, "-o", checkpoint)
        subjects.append(Subject(f"{options.public.stem}, imported", checkpoint, options.data, options.public))
    if options.trained:
        subjects.append(Subject(f"{options.trained.stem}, trained here", options.trained, options.data))
    scenes = work / "scenes"
    if not scenes.is_dir():
        generate_scenes(scenes, train=amount.calibrated, val=amount.scenes, size=320, seed=_SCENES_SEED)
    return [*subjects, Subject("demo", DEMO_CHECKPOINT, scenes / "data.yaml")]


def _slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _machine() -> dict[str, Any]:
    packages = ("numpy", "onnxruntime", "openvino")
    return {
        **machine_summary(),
        "versions": {name: version(name) for name in packages},
        "ONEDNN_MAX_CPU_ISA": os.environ.get("ONEDNN_MAX_CPU_ISA"),
    }


def _accuracy(subject: Subject, models: Models) -> dict[str, Any]:
    """Score every model on the same images; a peer's is read with this project's NMS and thresholds."""
    dataset = read_dataset(subject.data)
    samples = dataset.samples("val")
    rows = []
    for contender in models.contenders:
        row = _described(contender)
        if not contender.problem:
            with contender.open() as runtime:
                side = runtime.manifest.input.height
                metrics = evaluate_runtime(runtime, samples, dataset.class_names).metrics
            row |= {"ap": metrics.ap, "ap50": metrics.ap50, "ap75": metrics.ap75, "bytes": contender.bytes}
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return {
        "subject": subject.name,
        "images": len(samples),
        "image_size": side,
        "rows": rows,
        "verdicts": models.verdicts,
        "costs": models.costs,
    }


def _speed(subject: Subject, contenders: Iterable[Contender], threads: int, repeats: int) -> dict[str, Any]:
    """Time the engines alone, batch 1, in turns."""
    chosen = [contender for contender in contenders if not contender.problem]
    runtimes = {contender.name: contender.open(threads=threads) for contender in chosen}
    side = runtimes[chosen[0].name].manifest.input.height
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)

    def engine_of(runtime: Runtime) -> Callable[[], object]:
        feeds = {runtime.manifest.input.name: runtime.preprocessor(picture)[0]}
        return lambda: runtime.infer(feeds)

    times = interleaved_latency(
        {name: engine_of(runtime) for name, runtime in runtimes.items()}, repeats=repeats, warmup=2
    )
    for runtime in runtimes.values():
        runtime.close()
    rows = [
        {**_described(contender), "bytes": contender.bytes, **times[contender.name].to_dict()} for contender in chosen
    ]
    return {"subject": subject.name, "threads": threads, "image_size": side, "repeats": repeats, "rows": rows}


def _calibration(subject: Subject, out: Path, counts: tuple[int, int]) -> list[dict[str, Any]]:
    """Calibrate on few and on many images: time must grow with their number, and memory must not."""
    yolo12edge("export", subject.checkpoint, "--imgsz", str(_SPEED_SIZE), "--out", out, "--overwrite")
    rows = []
    for count in counts:
        command = ["calibrate", out / f"{subject.checkpoint.stem}-fp32", "--data", subject.data, "--count", str(count)]
        cost = yolo12edge(*command, "--output", out / f"{count}.calibration.npz", "--overwrite")
        rows.append({"images": count, "image_size": _SPEED_SIZE, **asdict(cost)})
    return rows


def _described(contender: Contender) -> dict[str, Any]:
    names = ("name", "maker", "engine", "precision", "problem")
    return {name: getattr(contender, name) for name in names}


if __name__ == "__main__":
    try:
        main()
    except CommandError as error:
        raise SystemExit(f"a command failed: {error}") from error
