"""What the Runtime adds to its engine, and how it compares with a peer's ``predict``.

``python benchmarks/runtime.py --public model.pt --data data.yaml --peer-python PYTHON`` prints a Markdown table
and writes all samples to ``--out``. Models go to ``--work`` and are kept there. Ratios are of things measured in turns
in one run, on a machine that should do nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import cv2
import numpy as np
from commands import CommandError, yolo12edge
from contenders import OPENVINO, Contender
from peers.ultralytics_models import ultralytics_models
from subjects import Subject, make_models
from workers import Worker

from yolo12edge import Detections, Thresholds
from yolo12edge.benchmark.latency import interleaved_latency
from yolo12edge.data.dataset import read_dataset
from yolo12edge.machine import machine_summary
from yolo12edge.runtimes.backend import Backend, bind
from yolo12edge.runtimes.cores import physical_cores
from yolo12edge.runtimes.openvino_backend import OpenVinoBackend
from yolo12edge.runtimes.ort_backend import OrtBackend

_SIDE = 640
_REST_S = 0.01
_ALL = Thresholds(confidence=0.0)
_PEER_GOALS = {
    "ONNX Runtime FP32": 0.85,
    "ONNX Runtime INT8": 0.6,
    "OpenVINO FP32": 0.92,
    "OpenVINO INT8": 0.9,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: ``value`` must not be above ``goal``, or with ``at_least`` not below."""

    name: str
    value: float
    goal: float
    at_least: bool = False
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def main() -> None:
    """Measure, printing each figure as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--public", type=Path, required=True, help="a public .pt trained on --data")
    parser.add_argument("--data", type=Path, required=True, help="its data.yaml")
    parser.add_argument("--peer-python", type=Path, help="interpreter of the peer's environment")
    parser.add_argument("--work", type=Path, default=Path("runtime-work"), help="folder for models")
    parser.add_argument("--out", type=Path, default=Path("runtime.json"), help="file for the samples")
    parser.add_argument("--repeats", type=int, default=100, help="frames of each rival")
    parser.add_argument("--frames", type=int, default=20_000, help="frames of the memory test")
    parser.add_argument("--load", type=int, default=2_000, help="frames of each of the 8 threads")
    options = parser.parse_args()

    checkpoint = options.work / f"{options.public.stem}.safetensors"
    if not checkpoint.is_file():
        yolo12edge("import", options.public, "-o", checkpoint)
    subject = Subject(options.public.stem, checkpoint, options.data, options.public)
    models = make_models(subject, image_size=_SIDE, out=options.work, peer_python=None).contenders
    picture = options.work / "frame.png"
    cv2.imwrite(str(picture), _frame(options.data))
    frame = cv2.imread(str(picture))
    assert frame is not None

    figures: list[Figure] = []
    samples: dict[str, Any] = {"machine": machine_summary(), "threads": physical_cores()}

    def add(*found: Figure) -> None:
        for figure in found:
            figures.append(figure)
            print(_line(figure), flush=True)

    print("| figure | must be | is | reached | note |\n| --- | --- | --- | --- | --- |", flush=True)
    for contender in models:
        add(*_over_engine(contender, frame, options.repeats, samples))
    for contender in models:
        add(_stream(contender, frame, max(5, options.repeats // 10), samples))
    if options.peer_python:
        exports = ultralytics_models(
            options.peer_python, options.public, options.data, image_size=_SIDE, out=options.work / "ultralytics"
        )
        for own, peer in _pairs(models, exports):
            add(_beside_peer(own, peer, picture, options.peer_python, options.repeats, samples))
    float_onnx = next(contender for contender in models if contender.name.startswith("ONNX Runtime FP32"))
    add(*_cold(float_onnx, samples))
    add(_growth(float_onnx, options.frames))
    add(_load(float_onnx, frame, options.load))
    options.out.write_text(json.dumps({"figures": [asdict(figure) for figure in figures], **samples}, indent=1))


def _frame(data: Path) -> np.ndarray[Any, Any]:
    """Return a picture of the dataset as a camera of 1280 x 720 would give it."""
    image = cv2.imread(str(read_dataset(data).samples("val")[0].image))
    assert image is not None
    return cv2.resize(image, (1280, 720), interpolation=cv2.INTER_LINEAR)


def _line(figure: Figure) -> str:
    sign = "≥" if figure.at_least else "≤"
    reached = "yes" if figure.reached else "**no**"
    return f"| {figure.name} | {sign} {figure.goal:g} | {figure.value:.3f} | {reached} | {figure.note} |"


def _bare(contender: Contender) -> tuple[Backend, Callable[[], object]]:
    """Return the engine alone, on a float tensor and outputs that lie ready: nothing can be faster with it."""
    assert contender.model is not None
    open_backend = OpenVinoBackend if contender.engine == OPENVINO else OrtBackend
    backend: Backend = open_backend(contender.model, device="cpu")
    ((name, shape),) = ((tensor.name, tensor.shape) for tensor in backend.inputs)
    feeds = {name: np.full(shape, 0.4, np.float32)}
    outputs = {tensor.name: np.empty(tensor.shape, np.float32) for tensor in backend.outputs}
    return backend, bind(backend, feeds, outputs)


def _over_engine(
    contender: Contender, frame: np.ndarray[Any, Any], repeats: int, samples: dict[str, Any]
) -> list[Figure]:
    backend, engine = _bare(contender)
    with contender.open() as runtime:
        times = interleaved_latency({"engine": engine, "call": lambda: runtime(frame)}, repeats=repeats, warmup=5)
        few = [timing for _ in range(repeats) if (timing := runtime(frame).timing)]
        many = [timing for _ in range(repeats) if (timing := runtime(frame, thresholds=_ALL).timing)]
    backend.close()
    samples[f"{contender.name}: call over engine"] = {name: found.to_dict() for name, found in times.items()}
    ratio = times["call"].median_ms / times["engine"].median_ms
    beside = float(np.median([timing.pre_ms + timing.post_ms for timing in few]))
    flood = float(np.median([timing.pre_ms + timing.post_ms for timing in many]))
    kind = f"{contender.engine} {contender.precision}"
    return [
        Figure(f"frame → Detections ÷ engine, {kind}", ratio, 1.05, note=f"engine {times['engine'].median_ms:.1f} ms"),
        Figure(f"pre + post, ms, {kind}", beside, 3.0),
        Figure(f"the same with 8,400 candidates, {kind}", flood, 6.0),
    ]


def _stream(contender: Contender, frame: np.ndarray[Any, Any], rounds: int, samples: dict[str, Any]) -> Figure:
    backend, engine = _bare(contender)
    count = 20

    def bare() -> None:
        for _ in range(count):
            engine()

    with contender.open() as runtime:

        def stream() -> None:
            with runtime.stream(itertools.repeat(frame, count)) as results:
                assert sum(1 for _ in results) == count

        times = interleaved_latency({"engine": bare, "stream": stream}, repeats=rounds, warmup=1)
    backend.close()
    samples[f"{contender.name}: stream"] = {name: found.to_dict() for name, found in times.items()}
    ratio = times["engine"].median_ms / times["stream"].median_ms
    return Figure(
        f"stream throughput ÷ engine throughput, {contender.engine} {contender.precision}", ratio, 0.97, at_least=True
    )


def _pairs(models: list[Contender], exports: list[Contender]) -> list[tuple[Contender, Contender]]:
    by_kind = {(peer.engine, peer.precision): peer for peer in exports if not peer.problem}
    return [(own, by_kind[kind]) for own in models if (kind := (own.engine, own.precision)) in by_kind]


def _beside_peer(
    own: Contender, peer: Contender, picture: Path, python: Path, repeats: int, samples: dict[str, Any]
) -> Figure:
    assert own.model is not None
    assert peer.model is not None
    folder = Path(__file__).parent
    threads = str(physical_cores())
    theirs = peer.model.parent if peer.engine == OPENVINO else peer.model
    with (
        Worker([sys.executable, folder / "frame_worker.py", own.model, picture, threads]) as ours,
        Worker([python, folder / "peers" / "ultralytics_predict.py", theirs, picture, str(_SIDE)]) as rival,
    ):
        times: dict[Worker, list[float]] = {ours: [], rival: []}
        for turn in range(repeats + 5):
            for worker in (ours, rival) if turn % 2 else (rival, ours):
                time.sleep(_REST_S)
                worker.frame()
                milliseconds = worker.frame()
                if turn >= 5:
                    times[worker].append(milliseconds)
        note = f"{ours.detections} and {rival.detections} detections"
    samples[f"{own.name} beside {peer.maker}"] = {"own_ms": times[ours], "peer_ms": times[rival]}
    kind = f"{own.engine} {own.precision}"
    ratio = float(np.median(times[ours]) / np.median(times[rival]))
    return Figure(f"frame → Detections ÷ {peer.maker} predict, {kind}", ratio, _PEER_GOALS[kind], note=note)


def _cold(contender: Contender, samples: dict[str, Any]) -> list[Figure]:
    script = Path(__file__).parent / "cold_start.py"
    seconds: dict[str, list[float]] = {"runtime": [], "engine": []}
    answer: dict[str, Any] = {}
    for _ in range(7):
        for kind, found in seconds.items():
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, script, kind, str(contender.model)], capture_output=True, text=True, check=True
            )
            found.append(time.perf_counter() - start)
            answer |= json.loads(done.stdout)
    samples["cold start"] = seconds
    beyond = float(np.median(seconds["runtime"]) - np.median(seconds["engine"]))
    return [
        Figure(
            "first detection beyond the engine's own, s",
            beyond,
            1.0,
            note=f"{np.median(seconds['runtime']):.2f} in all",
        ),
        Figure("modules of torch that it loaded", float(answer["torch"]), 0.0),
        Figure("resident memory after load and a frame, MB", answer["resident_mb"], 200.0),
    ]


def _growth(contender: Contender, count: int) -> Figure:
    script = Path(__file__).parent / "memory_growth.py"
    command = [sys.executable, script, str(contender.model), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Figure(f"growth of memory over {count} frames, MB", float(done.stdout), 1.0)


def _load(contender: Contender, frame: np.ndarray[Any, Any], count: int) -> Figure:
    """Let 8 threads run frames of several sizes, and count results that differ in a byte from a single thread's."""
    frames = [frame, frame[:400, :300], frame[::2, ::2], frame[:, ::-1]]
    with contender.open() as runtime:

        def bytes_of(found: Detections) -> bytes:
            return found.xyxy.tobytes() + found.confidence.tobytes() + found.class_id.tobytes()

        def answer(index: int) -> bytes:
            return bytes_of(runtime(frames[index % 4]))

        expected = [answer(index) for index in range(4)]
        assert any(expected), "nothing is detected: nothing would be compared"

        def work(thread: int) -> int:
            if thread % 2 == 0:
                return sum(answer(index) != expected[index % 4] for index in range(thread, thread + count))
            chosen = (frames[index % 4] for index in range(thread, thread + count))
            with runtime.stream(chosen) as stream:
                found = [bytes_of(detections) for _, detections in stream]
            wrong = sum(one != expected[(thread + index) % 4] for index, one in enumerate(found))
            return wrong + abs(len(found) - count)

        with ThreadPoolExecutor(8) as pool:
            wrong = sum(pool.map(work, range(8)))
    return Figure(f"results that differ, of 8 threads x {count} frames", wrong, 0.0)


if __name__ == "__main__":
    try:
        main()
    except CommandError as error:
        raise SystemExit(f"a command failed: {error}") from error
