"""Batches, futures, streams, threads and processes: one body for all backends."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import cv2
import numpy as np
import pytest

from yolo12edge import Frame, Runtime
from yolo12edge.errors import BackendError, InputError
from yolo12edge.runtimes import TensorInfo
from yolo12edge.thresholds import Thresholds

KEEP = Thresholds(confidence=0.3)


def same(found, expected):
    return (
        found.xyxy.tobytes() == expected.xyxy.tobytes()
        and found.confidence.tobytes() == expected.confidence.tobytes()
        and found.class_id.tobytes() == expected.class_id.tobytes()
    )


def test_a_batch_is_its_frames(runtime, scene_frames):
    frames = [*scene_frames[:3], scene_frames[0][:50, :97], Frame(scene_frames[4], 7, 99)]
    found = runtime.batch(frames, thresholds=KEEP)
    assert len(found) == 5
    for frame, detections in zip(frames, found, strict=True):
        assert same(detections, runtime(frame, thresholds=KEEP))
    assert found[4].stamp_ns == 99
    assert runtime.batch([]) == []


def test_futures_bring_what_a_call_brings(runtime, scene_frames):
    futures = [runtime.submit(frame, thresholds=KEEP) for frame in scene_frames]
    for frame, future in zip(scene_frames, futures, strict=True):
        assert same(future.result(30), runtime(frame, thresholds=KEEP))


@pytest.mark.parametrize("drop", ["none", "oldest"])
def test_a_stream_gives_frames_in_order_and_counts_what_it_drops(runtime, scene_frames, drop):
    def frames():
        for index in range(12):
            yield Frame(scene_frames[index % 6], index, 1000 + index, "scenes")

    with runtime.stream(frames(), drop=drop, thresholds=KEEP) as stream:
        found = list(stream)
    indices = [frame.index for frame, _ in found]
    assert indices == sorted(set(indices))
    assert len(found) + stream.dropped == 12
    assert stream.dropped == 0 or drop == "oldest"
    for frame, detections in found:
        assert detections.stamp_ns == 1000 + frame.index
        assert same(detections, runtime(frame, thresholds=KEEP))
    assert list(stream) == []


def test_plain_arrays_become_frames(runtime, scene_frames):
    before = time.time_ns()
    with runtime.stream(scene_frames) as stream:
        found = [frame for frame, _ in stream]
    assert [frame.index for frame in found] == list(range(6))
    assert all(frame.image is image for frame, image in zip(found, scene_frames, strict=True))
    assert all(before <= frame.stamp_ns <= time.time_ns() for frame in found)


def test_every_result_says_where_the_time_went(runtime, scene_frames):
    before, start = time.time_ns(), time.perf_counter()
    found = runtime(scene_frames[0])
    elapsed = (time.perf_counter() - start) * 1e3
    assert before <= found.stamp_ns <= time.time_ns()
    timing = found.timing
    assert min(timing.pre_ms, timing.infer_ms, timing.post_ms) > 0
    assert timing.queue_ms < timing.total_ms <= elapsed
    assert timing.total_ms > 0.5 * elapsed
    assert found[:0].timing == timing
    queued = [runtime.submit(frame).result().timing for frame in scene_frames * 2]
    many = [future.result().timing for future in [runtime.submit(frame) for frame in scene_frames * 2]]
    assert max(timing.queue_ms for timing in many) > min(timing.queue_ms for timing in queued)
    assert max(timing.queue_ms for timing in many) > 0.3 * min(timing.infer_ms for timing in many)


def test_a_bad_frame_is_raised_in_its_place_and_the_stream_goes_on(runtime, scene_frames):
    with runtime.stream([scene_frames[0], None, scene_frames[1]], thresholds=KEEP) as stream:
        assert next(stream)[0].index == 0
        with pytest.raises(InputError, match="NoneType"):
            next(stream)
        assert next(stream)[0].index == 2
        with pytest.raises(StopIteration):
            next(stream)


@pytest.mark.parametrize("drop", ["none", "oldest"])
def test_a_source_that_dies_ends_the_stream_with_its_error(runtime, scene_frames, drop):
    def dying():
        yield scene_frames[0]
        time.sleep(0.1)
        raise OSError("unplugged")

    stream = runtime.stream(dying(), drop=drop)
    assert next(stream)[0].index == 0
    with pytest.raises(OSError, match="unplugged"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_the_newest_frame_is_looked_at_and_the_rest_is_counted(runtime, scene_frames):
    read = threading.Event()

    def camera():
        for index in range(100):
            yield Frame(scene_frames[index % 6], index)
        read.set()

    with runtime.stream(camera(), drop="oldest") as stream:
        found = [next(stream)[0].index]
        assert read.wait(10)  # the source is read on although nobody takes results
        found += [frame.index for frame, _ in stream]
    assert found[-1] == 99
    assert len(found) + stream.dropped == 100
    assert stream.dropped > 50


def test_without_dropping_a_source_is_read_no_faster_than_results_are_taken(runtime, scene_frames):
    read = []

    def frames():
        for index in range(50):
            read.append(index)
            yield scene_frames[0]

    with runtime.stream(frames()) as stream:
        next(stream)
        time.sleep(0.2)
        assert len(read) < 25
    assert stream.dropped == len(read) - 1


def test_closing_a_stream_ends_who_waits_for_it(runtime, scene_frames):
    held = threading.Event()

    def frames():
        yield scene_frames[0]
        held.wait(10)

    stream = runtime.stream(frames())
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: list(stream))
        time.sleep(0.05)
        stream.close()
        stream.close()
        assert waiting.result(5) == []
    held.set()


def test_a_forgotten_stream_ends_its_threads(runtime, scene_frames):
    def forever():
        while True:
            yield scene_frames[0]

    stream = runtime.stream(forever())
    next(stream)
    del stream
    deadline = time.time() + 5
    while time.time() < deadline and any(t.name == "yolo12edge-stream" for t in threading.enumerate()):
        time.sleep(0.01)
    assert not any(thread.name == "yolo12edge-stream" for thread in threading.enumerate())


def test_nothing_is_left_of_a_stream(tiny_onnx, scene_frames):
    with Runtime(tiny_onnx, device="cpu", threads=1) as runtime:
        stream = runtime.stream(scene_frames[:1])
        assert len(list(stream)) == 1
        stream.close()
        feed = weakref.ref(stream._feed)
        del stream
        gc.collect()
        assert feed() is None


def test_closing_the_runtime_finishes_what_was_handed_in(source, device, scene_frames):
    runtime = Runtime(source, device=device, threads=1)
    stream = runtime.stream(itertools.repeat(scene_frames[0]))
    next(stream)
    futures = [runtime.submit(frame) for frame in scene_frames[:3]]
    runtime.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(BackendError, match="closed"):
        list(stream)
    for call in (runtime, runtime.submit, lambda frame: runtime.batch([frame]), lambda frame: runtime.stream([frame])):
        with pytest.raises(BackendError, match="closed"):
            call(scene_frames[0])


def test_a_result_may_close_the_runtime(source, device, scene_frames):
    runtime = Runtime(source, device=device, threads=1)
    closed, begin = threading.Event(), threading.Event()

    def close(_):
        begin.wait(10)
        runtime.close()
        closed.set()

    first = runtime.submit(scene_frames[0])
    first.add_done_callback(close)
    others = [runtime.submit(frame) for frame in scene_frames[:2]]  # no more than the queue of one worker takes
    begin.set()
    assert closed.wait(10)
    assert all(future.exception(30) is None for future in others)
    with pytest.raises(BackendError, match="closed"):
        runtime(scene_frames[0])


def test_eight_threads_get_what_one_gets(runtime, scene_frames):
    frames = [frame[: 160 - 10 * index, : 100 + 12 * index] for index, frame in enumerate(scene_frames[:5])]
    limits = [Thresholds(confidence=confidence) for confidence in (0.3, 0.4)]
    expected = {(f, t): runtime(frames[f], thresholds=limits[t]) for f in range(5) for t in range(2)}

    def work(seed):
        order = np.random.default_rng(seed).integers(0, 10, 20)
        calls = (runtime, lambda *args, **options: runtime.submit(*args, **options).result())
        return all(
            same(calls[n % 2](frames[n // 2], thresholds=limits[n % 2]), expected[n // 2, n % 2])
            for n in order.tolist()
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_one_runtime_per_thread(source, device, scene_frames):
    def work(frame):
        with Runtime(source, device=device, threads=1) as runtime:
            return runtime(frame, thresholds=KEEP)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(work, [scene_frames[0]] * 3))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_memory_is_flat_after_the_first_frames(runtime, scene_frames):
    for frame in scene_frames:
        runtime(frame)
    buffers = list(runtime._single.idle)
    for frame in scene_frames * 3:
        runtime(frame)
    assert runtime._single.idle == buffers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_an_error_and_no_deadlock(runtime, scene_frames):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for call in (runtime, runtime.submit, lambda frame: runtime.stream([frame]), lambda _: runtime.infer({})):
            try:
                call(scene_frames[0])
                said.append("nothing")
            except BackendError as error:
                said.append("fork" if "fork" in str(error) else str(error))
        runtime.close()
        os.write(writer, " ".join(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "fork fork fork fork"
    os.waitpid(child, 0)
    assert len(runtime(scene_frames[0], thresholds=KEEP)) > 0


def test_a_runtime_is_not_pickled(runtime):
    with pytest.raises(BackendError, match="another process"):
        pickle.dumps(runtime)


def _count(path, frame):
    with Runtime(path, device="cpu", threads=1) as runtime:
        return len(runtime(frame, thresholds=KEEP))


def test_a_spawned_process_opens_its_own(tiny_onnx, scene_frames):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_count, (tiny_onnx.path, scene_frames[0]))
    assert there == _count(tiny_onnx.path, scene_frames[0])


@pytest.mark.parametrize("shape", [(1, 1), (20_000, 10), (4320, 7680), (3, 1)])
def test_frames_of_any_size(runtime, shape):
    found = runtime(np.full((*shape, 3), 90, np.uint8), thresholds=Thresholds(confidence=0.0))
    assert (found.xyxy >= 0).all()
    assert (found.xyxy[:, 2] <= shape[1]).all()
    assert (found.xyxy[:, 3] <= shape[0]).all()


def test_colours(runtime, scene_frames):
    frame = cv2.resize(scene_frames[0], (96, 96))  # as large as the input: resizing rounds 16 bits elsewhere than 8
    expected = runtime(frame, thresholds=KEEP)
    for color, image in {
        "rgb": frame[..., ::-1],
        "bgra": cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA),
        "rgba": cv2.cvtColor(frame, cv2.COLOR_BGR2RGBA),
        "bgr16": frame.astype(np.uint16) * 257,
        "rgb16": frame[..., ::-1].astype(np.uint16) * 257,
    }.items():
        found = runtime(image, color=color, thresholds=KEEP)
        assert same(found, expected), color
    gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    expected = runtime(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), thresholds=KEEP)
    for image, color in ((gray, "gray"), (gray[..., None], "gray"), (gray.astype(np.uint16) * 257, "gray16")):
        found = runtime(image, color=color, thresholds=KEEP)
        assert same(found, expected), color
    with pytest.raises(InputError, match="no colour"):
        runtime(frame, color="yuv")
    with pytest.raises(InputError, match="bgr16"):
        runtime(frame.astype(np.uint16))


def test_wrong_drop_is_refused(runtime, scene_frames):
    with pytest.raises(InputError, match="drop"):
        runtime.stream(scene_frames, drop="newest")


class Failing:
    """An engine that fails on its third run, has no bound memory and uses all cores, so that frames come in order."""

    name, device, threads, parallel = "failing 1", "cpu", 1024, 1

    def __init__(self, manifest):
        spec = manifest.input
        self.inputs = (TensorInfo(spec.name, (1, 3, spec.height, spec.width), "float32"),)
        self.outputs = tuple(TensorInfo(output.name, output.shape, "float32") for output in manifest.outputs)
        self.runs = 0

    def infer(self, feeds):
        self.runs += 1
        if self.runs == 3:
            raise BackendError("the device is lost")
        return {output.name: np.zeros(output.shape, np.float32) for output in self.outputs}

    def close(self):
        pass


def test_an_engine_that_fails_says_so_where_its_frame_was(tiny_onnx, scene_frames):
    with Runtime.of(Failing(tiny_onnx.manifest), tiny_onnx.manifest, warmup=0) as runtime:
        stream = runtime.stream(scene_frames)
        assert [next(stream)[0].index for _ in range(2)] == [0, 1]
        with pytest.raises(BackendError, match="device is lost"):
            next(stream)
        assert [frame.index for frame, _ in stream] == [3, 4, 5]


def wait_until(condition):
    deadline = time.time() + 10
    while not condition() and time.time() < deadline:
        time.sleep(0.005)
    assert condition()


@pytest.mark.parametrize("drop", ["none", "oldest"])
def test_every_frame_that_was_read_is_given_or_counted(tiny_onnx, scene_frames, drop):
    for ending in ("source first", "stream", "runtime"):
        read = []

        def frames(read=read, endless=ending != "source first"):
            for index in itertools.count() if endless else range(20):
                read.append(index)
                yield scene_frames[index % 6]

        with Runtime(tiny_onnx, device="cpu", threads=1) as runtime:
            stream = runtime.stream(frames(), drop=drop)
            given = 1 if next(stream) else 0
            if ending == "runtime":
                runtime.close()
                with suppress(BackendError):
                    while True:
                        given += bool(next(stream))
            elif ending == "source first" and drop == "oldest":
                wait_until(lambda read=read: len(read) == 20)
            stream.close()
        assert given + stream.dropped == len(read), ending
        with pytest.raises(StopIteration):
            next(stream)
        time.sleep(0.02)
        assert given + stream.dropped == len(read), "nothing is read on"


def test_an_interrupted_wait_loses_no_frame(tiny_onnx, scene_frames, monkeypatch):
    with Runtime(tiny_onnx, device="cpu", threads=1) as runtime, runtime.stream(scene_frames) as stream:
        next(stream)
        exception = Future.exception
        monkeypatch.setattr(Future, "exception", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        monkeypatch.setattr(Future, "exception", exception)
        assert [frame.index for frame, _ in stream] == [1, 2, 3, 4, 5]
    assert stream.dropped == 0


def test_callbacks_may_use_the_runtime(tiny_onnx, scene_frames):
    engine = Slow(tiny_onnx.manifest)
    with Runtime.of(engine, tiny_onnx.manifest, warmup=0) as runtime:
        chained, refused = [], []

        def use(_):
            runtime(scene_frames[1])
            chained.extend(runtime.submit(scene_frames[2]) for _ in range(8))  # more than the queue holds
            for call in (runtime.batch, runtime.stream):
                try:
                    call([scene_frames[0]])
                except BackendError as error:
                    refused.append("wait for itself" in str(error))
            raise SystemExit  # must not end the worker

        futures = [runtime.submit(frame) for frame in scene_frames[:2]]
        for future in futures:
            future.add_done_callback(use)
        engine.go.set()
        wait_until(lambda: len(chained) == 16)
        assert all(len(future.result(10)) == 0 for future in chained)
        assert len(runtime.batch(scene_frames)) == 6
    assert refused == [True] * 4


def test_cancelled_frames_are_not_run_and_do_not_widen_the_queue(tiny_onnx, scene_frames):
    engine = Slow(tiny_onnx.manifest)
    with Runtime.of(engine, tiny_onnx.manifest, warmup=0) as runtime:
        futures = [runtime.submit(scene_frames[0]) for _ in range(2)]
        assert futures[1].cancel()
        engine.go.set()
        assert futures[0].result(10) is not None
    assert engine.runs == 1


def test_a_batch_that_fails_has_let_go_of_its_frames(tiny_onnx, scene_frames):
    engine = Slow(tiny_onnx.manifest)
    engine.go.set()

    def frames():
        yield from scene_frames[:3]
        raise OSError("no more")

    with Runtime.of(engine, tiny_onnx.manifest, warmup=0) as runtime:
        with pytest.raises(OSError, match="no more"):
            runtime.batch(frames())
        runs = engine.runs
        time.sleep(0.05)
        assert engine.runs == runs
        with pytest.raises(InputError, match="NoneType"):
            runtime.batch([scene_frames[0], None])


def test_who_closes_waits_until_it_is_closed(tiny_onnx, scene_frames):
    engine = Slow(tiny_onnx.manifest)
    runtime = Runtime.of(engine, tiny_onnx.manifest, warmup=0)
    future = runtime.submit(scene_frames[0])
    with ThreadPoolExecutor(2) as pool:
        closing = [pool.submit(runtime.close) for _ in range(2)]
        time.sleep(0.05)
        assert not any(done.done() for done in closing)
        engine.go.set()
        for done in closing:
            done.result(10)
    assert future.done()
    assert engine.closed == 1


class Slow(Failing):
    """An engine that waits until it may go on."""

    def __init__(self, manifest):
        super().__init__(manifest)
        self.go, self.closed = threading.Event(), 0

    def infer(self, feeds):
        self.go.wait(10)
        self.runs = min(self.runs, 1)  # never fails
        return super().infer(feeds)

    def close(self):
        self.closed += 1


class Careless(Failing):
    """An engine whose outputs are not what it says."""

    def infer(self, feeds):
        return {output.name: np.zeros((1, 1, 1), np.float32) for output in self.outputs}


def test_outputs_of_another_shape_are_an_error_and_not_numbers(tiny_onnx, scene_frames):
    with (
        Runtime.of(Careless(tiny_onnx.manifest), tiny_onnx.manifest, warmup=0) as runtime,
        pytest.raises(BackendError, match="the engine gave"),
    ):
        runtime(scene_frames[0])


@pytest.mark.parametrize("drop", ["none", "oldest"])
def test_a_program_may_end_with_a_stream_open(tiny_onnx, drop):
    code = f"""
import cv2, numpy as np
from yolo12edge import Runtime
def camera():
    while True:
        yield cv2.GaussianBlur(np.zeros((720, 1280, 3), np.uint8), (5, 5), 0)
stream = Runtime({str(tiny_onnx.path)!r}, device="cpu", threads=1).stream(camera(), drop={drop!r})
for _ in range(3):
    next(stream)
print("end")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr[-1000:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_may_let_go_and_open_its_own(source, device, false_library):
    code = f"""
import importlib, os, sys
sys.path[:0] = {sys.path!r}
import numpy as np
from yolo12edge import Runtime
if {false_library is not None}:
    fake = importlib.import_module({false_library!r}).install()
runtime = Runtime({str(getattr(source, "path", source))!r}, device={device!r}, threads=2)
frame = np.full((64, 64, 3), 90, np.uint8)
stream = runtime.stream([frame] * 9)
next(stream)
child = os.fork()
if not child:
    try:
        next(stream)
    except Exception as error:
        print(type(error).__name__, flush=True)
    stream.close()
    runtime.close()
    del stream, runtime
    print("let go", flush=True)
    os._exit(0)
os.waitpid(child, 0)
runtime(frame)
runtime.close()
if {false_library is not None}:
    fake.check()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["BackendError", "let go"], done.stderr[-1000:]
    assert done.returncode == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda runtime, frame: runtime.stream(None),
        lambda runtime, frame: runtime.batch(5),
        lambda runtime, frame: runtime(frame, thresholds=0.5),
        lambda runtime, frame: runtime(frame, color=["bgr"]),
        lambda runtime, frame: Runtime(None),
        lambda runtime, frame: Runtime("x", threads=1.5),
        lambda runtime, frame: Runtime("x", threads=2**20),
        lambda runtime, frame: Runtime("x", warmup=1.5),
        lambda runtime, frame: Runtime("x", device=None),
        lambda runtime, frame: Thresholds(classes=("person",)),
        lambda runtime, frame: Thresholds(classes=3),
        lambda runtime, frame: Thresholds(confidence="high"),
        lambda runtime, frame: Thresholds(max_detections=1.5),
    ],
)
def test_arguments_of_other_types_are_an_input_error(tiny_onnx, scene_frames, call):
    with Runtime(tiny_onnx, device="cpu", threads=1) as runtime, pytest.raises(InputError):
        call(runtime, scene_frames[0])
