"""TensorRT engines on an NVIDIA GPU: accuracy beside the CPU's, and what the Runtime adds to the bare engine.

``python benchmarks/tensorrt_gpu.py --checkpoint best.safetensors --data data.yaml`` builds an FP16 engine for one and
for eight images, and with ``--int8`` an INT8 engine too, prints a Markdown table that names the GPU, and writes all
samples to ``--out``. Models go to ``--work`` and are kept there. The bare engine is timed by events of the GPU, all
else by the clock, in turns. Without a GPU, or a library that runs engines on it, it says so and measures nothing; with
``--onnx``, ONNX Runtime's CUDA provider is measured in place of TensorRT, for GPUs that TensorRT for RTX does not know.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import numpy as np
import numpy.typing as npt
from commands import CommandError, yolo12edge

from yolo12edge import Runtime
from yolo12edge.artifact import Artifact
from yolo12edge.data.dataset import read_dataset
from yolo12edge.errors import Yolo12EdgeError
from yolo12edge.imaging.images import read_image
from yolo12edge.machine import machine_summary
from yolo12edge.manifest import Manifest, TensorRtFormat
from yolo12edge.metrics.evaluate import evaluate_pair
from yolo12edge.preprocess import Preprocessor
from yolo12edge.runtimes.cuda import open_cuda
from yolo12edge.runtimes.tensorrt_lane import Lane
from yolo12edge.runtimes.tensorrt_plan import LoadedPlan
from yolo12edge.runtimes.tensorrt_workspace import TensorRtWorkspace

_BATCH = 8
_HW = (720, 1280)
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; ``value`` must not be above ``goal``, where there is one."""

    name: str
    value: float
    goal: float | None = None
    note: str = ""

    def line(self) -> str:
        """Return it as a line of Markdown."""
        must = "" if self.goal is None else f"≤ {self.goal:g}"
        reached = "" if self.goal is None else "yes" if self.value <= self.goal else "**no**"
        return f"| {self.name} | {must} | {self.value:.3f} | {reached} | {self.note} |"


def main(arguments: list[str] | None = None) -> None:
    """Measure, printing each figure as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .safetensors checkpoint")
    parser.add_argument("--data", type=Path, help="its data.yaml, for accuracy and --int8")
    parser.add_argument("--format", choices=("tensorrt", "tensorrt-rtx"), default="tensorrt", help="the library")
    parser.add_argument("--int8", action="store_true", help="also an INT8 engine; needs --data")
    parser.add_argument("--onnx", action="store_true", help="ONNX Runtime's CUDA provider in place of TensorRT")
    parser.add_argument("--images", type=int, default=1000, help="images to score on, at most")
    parser.add_argument("--repeats", type=int, default=300, help="samples of each contender")
    parser.add_argument("--work", type=Path, default=Path("tensorrt-work"), help="folder for models")
    parser.add_argument("--out", type=Path, default=Path("tensorrt.json"), help="file for the samples")
    options = parser.parse_args(arguments)
    if options.int8 and options.data is None:
        parser.error("--int8 needs --data")
    gpu = gpu_name()
    source = exported(options.checkpoint, options.work)
    figures: list[Figure] = []
    samples: dict[str, Any] = {"machine": machine_summary(), "gpu": gpu}

    def add(*found: Figure) -> None:
        figures.extend(found)
        for figure in found:
            print(figure.line(), flush=True)

    print(f"{gpu}, {options.format if not options.onnx else 'onnxruntime'}\n", flush=True)
    print("| figure | must be | is | reached | note |\n| --- | --- | --- | --- | --- |", flush=True)
    frame = picture(options.data)
    if options.onnx:
        add(*accuracy(source, source, options.data, options.images, "FP32", device="cuda"))
        add(call_time(source, frame, options.repeats, samples, device="cuda"))
    else:
        for precision, batch in [("fp16", 1), *([("int8", 1)] if options.int8 else []), ("fp16", _BATCH)]:
            artifact = engine(options, precision, batch)
            kind = f"{precision.upper()}, batch {batch}"
            if batch == 1:
                add(*accuracy(source, artifact, options.data, options.images, kind))
                add(*over_engine(artifact, frame, options.repeats, kind, samples))
                add(*graphs(artifact, options.repeats, kind, samples))
                add(letterbox(artifact, frame, options.repeats, kind, samples))
            else:
                add(batches(engine(options, precision, 1), artifact, frame, options.repeats, samples))
    options.out.write_text(json.dumps({"figures": [asdict(figure) for figure in figures], **samples}, indent=1))


def gpu_name() -> str:
    """Return the name of the first GPU.

    Raises:
        BackendError: If there is none.
    """
    with_cuda = open_cuda()
    with_cuda.device_count()
    device = with_cuda.open(0)
    try:
        facts = device.facts
    finally:
        device.close()
    return f"{facts.name} ({facts.architecture}, CUDA {'.'.join(map(str, facts.driver_cuda))})"


def exported(checkpoint: Path, work: Path) -> Artifact:
    """Return the checkpoint as FP32 ONNX, made once."""
    out = work / f"{checkpoint.stem}-fp32"
    if not out.is_dir():
        yolo12edge("export", checkpoint, "--out", work)
    return Artifact.load(out)


def engine(options: argparse.Namespace, precision: str, batch: int) -> Artifact:
    """Return an engine of the checkpoint, made once."""
    folder = options.work / f"{precision}-batch-{batch}"
    out = folder / f"{options.checkpoint.stem}-{options.format}-{precision}"
    if not out.is_dir():
        more = ["--int8", "--data", options.data] if precision == "int8" else []
        yolo12edge(
            "export", options.checkpoint, "--out", folder, "--format", options.format, "--batch", str(batch), *more
        )
    return Artifact.load(out)


def picture(data: Path | None) -> Picture:
    """Return a frame as a camera would give it: a picture of the dataset, or noise."""
    import cv2

    if data is None:
        return np.random.default_rng(0).integers(0, 256, (*_HW, 3), np.uint8)
    image = read_image(read_dataset(data).samples("val")[0].image)
    return np.asarray(cv2.resize(image, _HW[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def accuracy(
    source: Artifact, artifact: Artifact, data: Path | None, images: int, kind: str, *, device: str = "auto"
) -> list[Figure]:
    """Compare average precision with that of the float model on the CPU."""
    if data is None:
        return []
    chosen = read_dataset(data).samples("val")[:images]
    with Runtime(source, device="cpu") as reference, Runtime(artifact, device=device) as runtime:
        expected, found = evaluate_pair(reference, runtime, chosen, source.manifest.class_names)
    points = 100 * (expected.metrics.ap - found.metrics.ap)
    note = f"{100 * found.metrics.ap:.2f}, on the CPU in FP32 {100 * expected.metrics.ap:.2f}; {len(chosen)} images"
    return [Figure(f"points of AP that the GPU costs, {kind}", points, 0.3 if "INT8" not in kind else None, note)]


def call_time(
    artifact: Artifact, frame: Picture, repeats: int, samples: dict[str, Any], *, device: str = "auto"
) -> Figure:
    """Return what a frame takes through a Runtime."""
    with Runtime(artifact, device=device) as runtime:
        times = in_turns({"call": wall(lambda: runtime(frame))}, repeats)
        where = f"{runtime.engine} on {runtime.device}"
    samples[f"{artifact.path.name}: call"] = times
    return Figure("frame → Detections, ms", statistics.median(times["call"]), note=where)


def over_engine(artifact: Artifact, frame: Picture, repeats: int, kind: str, samples: dict[str, Any]) -> list[Figure]:
    """Divide a frame's way through the Runtime by the bare engine."""
    with Runtime(artifact) as runtime, lane_of(artifact, capture=True) as lane:
        times = in_turns({"engine": by_events(lane), "call": wall(lambda: runtime(frame))}, repeats)
    samples[f"{artifact.path.name}: call over engine"] = times
    alone, whole = (statistics.median(times[name]) for name in ("engine", "call"))
    return [Figure(f"frame → Detections ÷ bare engine, {kind}", whole / alone, 1.10, f"engine {alone:.3f} ms")]


def graphs(artifact: Artifact, repeats: int, kind: str, samples: dict[str, Any]) -> list[Figure]:
    """Compare the engine as a CUDA graph with the engine as single launches."""
    with lane_of(artifact, capture=True) as graph, lane_of(artifact, capture=False) as plain:
        runners = {
            "graph, GPU": by_events(graph),
            "no graph, GPU": by_events(plain),
            "graph": wall(lambda: waited(graph)),
            "no graph": wall(lambda: waited(plain)),
        }
        times = in_turns(runners, repeats)
        captured = graph.captured
    samples[f"{artifact.path.name}: graphs"] = times
    median = {name: statistics.median(values) for name, values in times.items()}
    note = "" if captured else "it could not be captured: both are the same"
    return [
        Figure(
            f"with a CUDA graph ÷ without, on the GPU, {kind}",
            median["graph, GPU"] / median["no graph, GPU"],
            1.0,
            note,
        ),
        Figure(f"with a CUDA graph ÷ without, on the clock, {kind}", median["graph"] / median["no graph"], 1.0, note),
    ]


def letterbox(artifact: Artifact, frame: Picture, repeats: int, kind: str, samples: dict[str, Any]) -> Figure:
    """Compare the two ways of a frame into the engine's input: by the GPU, or by OpenCV and a copy."""
    spec = artifact.manifest.input
    preprocessor = Preprocessor(spec)
    with plan_of(artifact) as plan:
        space = TensorRtWorkspace(plan, preprocessor, 1, capture=False)
        lane = Lane(plan, 1, host_inputs=True, capture=False)
        buffer, device = preprocessor.buffer(), plan.device

        def on_gpu() -> None:
            space.fill(frame)
            space.wait()

        def on_cpu() -> None:
            buffer.fill(frame)
            with lane:
                np.copyto(lane.inputs[spec.name], buffer.tensor)
                lane.copy_in()
                device.synchronize(lane.stream)

        times = in_turns({"GPU": wall(on_gpu), "CPU": wall(on_cpu)}, repeats)
        space.close()
        lane.close()
    samples[f"{artifact.path.name}: letterbox"] = times
    gpu, cpu = (statistics.median(times[name]) for name in ("GPU", "CPU"))
    return Figure(
        f"letterbox by the GPU ÷ by the CPU and a copy, {kind}", gpu / cpu, 1.0, f"{gpu:.3f} and {cpu:.3f} ms"
    )


def batches(single: Artifact, many: Artifact, frame: Picture, repeats: int, samples: dict[str, Any]) -> Figure:
    """Compare a frame's share of a batch with a frame alone."""
    count = many.manifest.input.batch
    with Runtime(single) as one, Runtime(many) as several:
        runners = {"alone": wall(lambda: one(frame)), "batch": wall(lambda: several.batch([frame] * count))}
        times = in_turns(runners, repeats)
    samples[f"{many.path.name}: batch"] = times
    alone, together = (statistics.median(times[name]) for name in ("alone", "batch"))
    note = f"{alone:.3f} ms alone, {together:.3f} ms for {count}"
    return Figure(f"a frame in a batch of {count} ÷ a frame alone", together / count / alone, 1.0, note)


@contextmanager
def plan_of(artifact: Artifact) -> Iterator[LoadedPlan]:
    """Open an engine without a Runtime."""
    manifest: Manifest = artifact.manifest
    plan = LoadedPlan(
        artifact.model_file, manifest, flavor=cast(TensorRtFormat, manifest.format), device="auto", cache=None
    )
    try:
        yield plan
    finally:
        plan.close()


@contextmanager
def lane_of(artifact: Artifact, *, capture: bool) -> Iterator[Lane]:
    """Open an engine and one context of it, whose input lies on the GPU."""
    with plan_of(artifact) as plan:
        lane = Lane(plan, plan.batches[1], host_inputs=False, capture=capture)
        try:
            yield lane
        finally:
            lane.close()


def by_events(lane: Lane) -> Callable[[], float]:
    """Return a function that runs the engine alone and returns its time by the GPU, ms."""

    def run() -> float:
        device, stream = lane.plan.device, lane.stream
        with lane:
            begin, end = device.event(), device.event()
            try:
                device.record(begin, stream)
                lane.execute()
                device.record(end, stream)
                device.synchronize(stream)
                return device.elapsed_ms(begin, end)
            finally:
                device.destroy_event(begin)
                device.destroy_event(end)

    return run


def waited(lane: Lane) -> None:
    """Run the engine alone, and wait for it."""
    with lane:
        lane.execute()
        lane.plan.device.synchronize(lane.stream)


def wall(call: Callable[[], object]) -> Callable[[], float]:
    """Return a function that calls another and returns its time by the clock, ms."""

    def run() -> float:
        begin = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - begin) / 1e6

    return run


def in_turns(runners: Mapping[str, Callable[[], float]], repeats: int, *, warmup: int = 10) -> dict[str, list[float]]:
    """Let several measure themselves in turns, in changing order, so that clocks and heat are the same for all."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(warmup + repeats):
        for name in runners if turn % 2 else reversed(runners):
            milliseconds = runners[name]()
            if turn >= warmup:
                times[name].append(milliseconds)
    return times


if __name__ == "__main__":
    try:
        main()
    except CommandError as error:
        raise SystemExit(f"a command failed: {error}") from error
    except Yolo12EdgeError as error:
        raise SystemExit(f"nothing was measured: {error}") from error
