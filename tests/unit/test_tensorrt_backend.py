"""The TensorRT backend on a false TensorRT and CUDA: order of calls, memory, graphs, batches, and what goes wrong."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import msgspec
import numpy as np
import pytest

from tests.fakes import tensorrt as fakes
from tests.fakes.cuda import FakeCuda
from tests.fakes.dlpack import Maker
from tests.fakes.tensorrt import fake_artifact, fake_facts, fake_plan, install
from yolo12edge import Runtime
from yolo12edge.artifact import write_artifact
from yolo12edge.errors import ArtifactError, BackendError, InputError, MissingDependencyError
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx
from yolo12edge.frame import Frame
from yolo12edge.preprocess import Preprocessor
from yolo12edge.runtimes import tensorrt_plan
from yolo12edge.runtimes.tensorrt_backend import TensorRtBackend
from yolo12edge.thresholds import Thresholds

KEEP = Thresholds(confidence=0.3)


@pytest.fixture
def trt(monkeypatch, request):
    """The false library on a false GPU; a test's parameters are those of ``FakeCuda``."""
    module = install(monkeypatch, cuda=FakeCuda(**getattr(request, "param", {})))
    yield module
    gc.collect()
    module.check()


on_jetson = pytest.mark.parametrize("trt", [{"integrated": True}], indirect=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory, tiny_onnx):
    return fake_artifact(tiny_onnx, tmp_path_factory.mktemp("engine") / "tiny")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_onnx):
    """Make an ONNX artifact of another form."""

    def make(**form):
        folder = tmp_path_factory.mktemp("form")
        content, manifest = tensorrt_onnx(
            tiny_onnx.model_file.read_bytes(), tiny_onnx.manifest, TensorRtForm(precision="fp32", **form)
        )
        return write_artifact(folder / "onnx", manifest, {"model.onnx": content})

    return make


@pytest.fixture(scope="module")
def expected(tiny_onnx, scene_frames):
    with Runtime(tiny_onnx, device="cpu", threads=1) as runtime:
        return [runtime(frame, thresholds=KEEP) for frame in scene_frames]


def same(found, wanted):
    return len(found) > 0 and found.xyxy.tobytes() == wanted.xyxy.tobytes()


def close_to(found, wanted):
    return len(found) == len(wanted) > 0 and np.allclose(found.xyxy, wanted.xyxy, atol=0.05)


def backend_of(artifact, **options):
    return TensorRtBackend(artifact.model_file, manifest=artifact.manifest, flavor="tensorrt", **options)


def work_of(trt, begin=0):
    """What was put into streams or waited for, in order."""
    kinds = {"copy_to_device", "copy_to_host", "launch", "enqueue", "synchronize"}
    kinds |= {"begin_capture", "end_capture", "launch_graph"}
    return [call[0] for call in trt.cuda.calls[begin:] if call[0] in kinds]


def test_it_says_what_it_is(trt, engine):
    backend = backend_of(engine)
    assert (backend.name, backend.device) == ("tensorrt 10.3.0.30", "cuda:0 (Fake GPU, sm_87)")
    assert [(t.name, t.shape, t.dtype) for t in (*backend.inputs, *backend.outputs)] == [
        ("images", (1, 3, 96, 96), "float32"),
        ("boxes", (1, 4, 189), "float32"),
        ("scores", (1, 3, 189), "float32"),
    ]
    backend.close()
    backend.close()


def test_a_frame_is_copied_letterboxed_run_and_brought_back_in_this_order(trt, engine, scene_frames):
    with Runtime(engine, warmup=0) as runtime:
        copied = ["copy_to_device", "launch"]
        for executed in (
            ["enqueue"],  # the first run, in which the engine prepares itself
            ["begin_capture", "enqueue", "end_capture", "launch_graph"],
            ["launch_graph"],
            ["launch_graph"],
        ):
            begin = len(trt.cuda.calls)
            runtime(scene_frames[0])
            found = work_of(trt, begin)
            if executed == ["enqueue"]:
                found.remove("synchronize")  # before memory for the frame is made
            assert found == [*copied, *executed, "copy_to_host", "copy_to_host", "synchronize"]
            streams = {call[-1] for call in trt.cuda.calls[begin:] if call[0] in ("copy_to_device", "copy_to_host")}
            assert len(streams) == 1
            assert min(streams) > 2  # none of CUDA's default streams


@on_jetson
def test_nothing_is_copied_where_memory_is_shared(trt, engine, scene_frames, expected):
    with Runtime(engine) as runtime:
        assert all(same(runtime(frame, thresholds=KEEP), e) for frame, e in zip(scene_frames, expected, strict=True))
        backend = runtime._backend
        backend.infer({"images": Preprocessor(engine.manifest.input)(scene_frames[0])[0]})
    assert not {"copy_to_device", "copy_to_host"} & set(trt.cuda.names())
    mapped = {memory.alias for memory in trt.cuda.memory if memory.kind == "mapped"}
    assert {address for _, name, address in trt.names("address") if name != "images"} <= mapped


def test_every_tensor_gets_its_address_before_the_first_execution(trt, engine):
    with Runtime(engine, warmup=1):
        names = [call[0] for call in trt.calls]
    assert {name for _, name, _ in trt.names("address")} == {"images", "boxes", "scores"}
    assert names.index("shape") < names.index("execute")
    assert max(i for i, name in enumerate(names) if name == "address") < names.index("execute")


def test_inferences_side_by_side_share_nothing(trt, engine, scene_frames, expected):
    with Runtime(engine) as runtime:
        backend = runtime._backend
        spaces = [backend.workspace(runtime.preprocessor, 1) for _ in range(2)]
        letterboxes = [space.fill(scene_frames[index]) for index, space in enumerate(spaces)]
        for space in spaces:
            space.run()
        for index, space in enumerate(spaces):
            found = runtime.postprocessor(space.outputs, [letterboxes[index]], KEEP)[0]
            assert same(found, expected[index])
        addresses = [address for _, _, address in trt.names("address")]
        assert len(set(addresses)) == len(addresses) == 9  # of three contexts
        assert len({context for _, context, _ in trt.names("execute")}) == 3
        assert len({stream for _, _, stream in trt.names("execute")}) == 3
        for space in spaces:
            space.close()


def test_eight_threads_get_what_one_gets(trt, engine, scene_frames, expected):
    with Runtime(engine) as runtime, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: runtime(scene_frames[i % 6], thresholds=KEEP), range(48)))
    assert all(same(detections, expected[index % 6]) for index, detections in enumerate(found))


def test_memory_is_allocated_once(trt, engine, scene_frames):
    with Runtime(engine) as runtime:
        runtime(scene_frames[0])
        allocations = trt.cuda.allocations
        for frame in scene_frames * 2:
            runtime(frame)
            runtime(frame[:50, ::-1])
        assert trt.cuda.allocations == allocations
        runtime(np.zeros((500, 500, 3), np.uint8))  # a larger frame needs more, and the old goes
        assert trt.cuda.allocations == allocations + 2


def test_memory_of_a_frame_that_is_still_copied_is_not_given_back(trt, engine, scene_frames, expected):
    with Runtime(engine) as runtime:
        space = runtime._backend.workspace(runtime.preprocessor, 1)
        space.fill(scene_frames[1])
        space.fill(np.zeros((500, 500, 3), np.uint8))  # needs more, and the first has not been run
        letterbox = space.fill(scene_frames[0])
        space.run()
        assert same(runtime.postprocessor(space.outputs, [letterbox], KEEP)[0], expected[0])
        space.fill(scene_frames[1])
        space.close()


# --- graphs ------------------------------------------------------------------------------------------------------


def graphs_of(runtime, trt, scene_frames, expected):
    for _ in range(2):
        assert all(same(runtime(frame, thresholds=KEEP), e) for frame, e in zip(scene_frames, expected, strict=True))
    return trt.cuda.names().count("end_capture"), trt.cuda.names().count("launch_graph")


def test_an_execution_is_captured_once_and_launched_again(trt, engine, scene_frames, expected):
    with Runtime(engine) as runtime:
        assert graphs_of(runtime, trt, scene_frames, expected) == (1, 13)
    assert len(trt.names("execute")) == 2


def test_without_a_graph_it_goes_on(trt, engine, scene_frames, expected, caplog):
    trt.capturable = False
    with caplog.at_level("DEBUG"), Runtime(engine) as runtime:
        assert graphs_of(runtime, trt, scene_frames, expected) == (1, 0)  # it is tried once
    assert "no CUDA graph: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in caplog.text
    assert len(trt.names("execute")) == 15


@pytest.mark.parametrize("trt", [{"graphs": False}], indirect=True)
def test_a_library_without_graphs_is_no_error(trt, engine, scene_frames, expected):
    with Runtime(engine) as runtime:
        assert graphs_of(runtime, trt, scene_frames, expected) == (0, 0)


def test_an_execution_that_fails_while_it_is_captured_leaves_no_graph(trt, engine, scene_frames):
    with Runtime(engine, warmup=1) as runtime:
        trt.fail = True
        with pytest.raises(BackendError, match="TensorRT could not run the engine: no address"):
            runtime(scene_frames[0])
        trt.fail = False
        assert len(runtime(scene_frames[0], thresholds=KEEP)) > 0
    assert trt.cuda.names().count("end_capture") == 1


def test_a_capture_that_is_interrupted_leaves_no_empty_graph(trt, engine, scene_frames, expected, monkeypatch):
    execute = fakes._Context.execute_async_v3
    with Runtime(engine, warmup=1) as runtime:
        monkeypatch.setattr(fakes._Context, "execute_async_v3", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            runtime(scene_frames[1])
        monkeypatch.setattr(fakes._Context, "execute_async_v3", execute)
        assert same(runtime(scene_frames[0], thresholds=KEEP), expected[0])
    assert "destroy_graph" in trt.cuda.names()
    assert "launch_graph" not in trt.cuda.names()


def test_suppression_is_not_captured_and_higher_thresholds_are_refused(trt, made, tmp_path, scene_frames):
    source = made(candidates=100, nms_iou=0.5)
    with Runtime(fake_artifact(source, tmp_path / "nms")) as runtime:
        for frame in scene_frames[:3]:
            runtime(frame, thresholds=Thresholds(confidence=0.3, iou=0.5))
        with pytest.raises(InputError, match=r"already suppressed boxes at 0.5. Expected: at most 0.5"):
            runtime(scene_frames[0], thresholds=Thresholds(iou=0.51))
        expected = runtime(scene_frames[0], thresholds=Thresholds(iou=0.5))
        assert same(runtime(scene_frames[0]), expected)  # where nothing is said, the model's own
        assert same(runtime.submit(scene_frames[0]).result(), expected)
    assert "begin_capture" not in trt.cuda.names()


@pytest.mark.parametrize(("form", "captured"), [({"batch": 2}, True), ({"batch": 2, "min_batch": 1}, False)])
def test_rtx_exchanges_kernels_where_sizes_are_open(monkeypatch, made, tmp_path, scene_frames, form, captured):
    trt = install(monkeypatch, flavor="tensorrt-rtx")
    with Runtime(fake_artifact(made(**form), tmp_path / "rtx", flavor="tensorrt-rtx")) as runtime:
        assert runtime.engine == "tensorrt-rtx 10.3.0.30"
        runtime(scene_frames[0])
    assert ("begin_capture" in trt.cuda.names()) is captured
    trt.check()


# --- batches, pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize(
    ("form", "groups"),
    [
        ({"batch": 4}, [4, 4, 3]),  # of 11 frames; the last place is padded
        ({"batch": 4, "min_batch": 1}, [4, 4, 3]),
        ({"batch": 8, "min_batch": 1}, [8, 1, 1, 1]),  # 3 are less than half of a batch
    ],
)
def test_frames_are_grouped_into_the_engines_batch(trt, made, tmp_path, scene_frames, library, form, groups):
    source = made(**form)
    frames = [*scene_frames, scene_frames[0][:50, :97], *scene_frames[1:5]]
    artifact = fake_artifact(source, tmp_path / "batch") if library == "tensorrt" else source
    options = {} if library == "tensorrt" else {"device": "cpu", "threads": 1}
    with Runtime(artifact, **options) as runtime:
        alone = [runtime(frame, thresholds=KEEP) for frame in frames]
        sizes = []
        detect = runtime._detect
        runtime._detect = lambda group, *rest: (sizes.append(len(group)), detect(group, *rest))[1]
        found = runtime.batch(frames, thresholds=KEEP)
        assert sorted(sizes, reverse=True) == groups
        assert len(found) == 11
        assert all(close_to(a, b) for a, b in zip(found, alone, strict=True))
        with runtime.stream(frames, thresholds=KEEP) as stream:
            assert all(close_to(a, b) for (_, a), b in zip(stream, alone, strict=True))
        assert runtime.batch([]) == []
        with pytest.raises(InputError, match="NoneType"):
            runtime.batch([scene_frames[0], None])


def test_a_batch_outside_of_the_profile_names_it(trt, made, tmp_path):
    backend = backend_of(fake_artifact(made(batch=4, min_batch=2), tmp_path / "batch"))
    for size in (1, 5):
        with pytest.raises(BackendError, match=f"a batch of {size} is not in the engine's profile. Expected: 2 to 4"):
            backend.infer({"images": np.zeros((size, 3, 96, 96), np.float32)})
    for size in (2, 4, 3):
        found = backend.infer({"images": np.zeros((size, 3, 96, 96), np.float32)})
        assert found["boxes"].shape == (size, 4, 189)
    backend.close()
    assert len([call for call in trt.calls if call[0] == "profile"]) == 3


def test_an_engine_that_takes_pixels_gets_them(trt, made, tmp_path, scene_frames, expected):
    source = made(uint8=True)
    with Runtime(fake_artifact(source, tmp_path / "pixels")) as runtime, Runtime(source, device="cpu") as onnx:
        assert runtime.preprocessor.pixels
        for frame, wanted in zip(scene_frames, expected, strict=True):
            assert close_to(runtime(frame, thresholds=KEEP), wanted)
            assert close_to(onnx(frame, thresholds=KEEP), wanted)


def test_frames_of_16_bits_and_others(trt, engine, tiny_onnx, scene_frames):
    frame = cv2.resize(scene_frames[0], (96, 96))
    with Runtime(engine) as runtime, Runtime(tiny_onnx, device="cpu", threads=1) as reference:
        for color, image in {
            "gray16": frame[..., 0].astype(np.uint16) * 257,
            "rgb16": frame.astype(np.uint16) * 257,
            "rgba": cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA),
            "gray": scene_frames[0][:77, :, 1],
            "rgb": scene_frames[0][::-2],
        }.items():
            found = runtime(image, color=color, thresholds=KEEP)
            assert same(found, reference(image, color=color, thresholds=KEEP)), color


# --- frames on the GPU -------------------------------------------------------------------------------------------


class OnGpu:
    """A picture in memory of the false device, as a library would hand it out that computes in a stream of its own."""

    def __init__(self, trt, image):
        (device,) = trt.cuda.opened
        device.activate()
        self.device, self.image = device, np.ascontiguousarray(image)
        self.address = device.allocate(image.nbytes)
        self.stream = device.stream()
        device.enqueue(self.stream, "camera", self.arrive)

    def arrive(self):
        self.device.view(self.address, self.image.shape)[...] = self.image

    @property
    def __cuda_array_interface__(self):
        data = (self.address, False)
        return {"version": 3, "shape": self.image.shape, "typestr": "|u1", "data": data, "stream": self.stream}

    def free(self):
        self.device.activate()
        self.device.free(self.address)
        self.device.destroy_stream(self.stream)


@pytest.mark.parametrize(("color", "code"), [("bgr", None), ("rgba", cv2.COLOR_BGR2RGBA)])
def test_a_frame_on_the_gpu_is_waited_for_and_not_copied(trt, engine, scene_frames, expected, color, code):
    with Runtime(engine) as runtime:
        runtime(scene_frames[0])
        frame = OnGpu(trt, scene_frames[1] if code is None else cv2.cvtColor(scene_frames[1], code))
        begin = len(trt.cuda.calls)
        assert same(runtime(frame, color=color, thresholds=KEEP), expected[1])
        assert "copy_to_device" not in trt.cuda.names()[begin:]
        assert same(runtime.batch([frame, scene_frames[1]] if code is None else [frame], color=color)[0], expected[1])
        frame.free()


class ByDlpack(Maker):
    """The same by DLPack: the stream that will read it is made to wait, and memory goes when the last lets go of it."""

    def __init__(self, picture):
        height, width, channels = picture.image.shape
        super().__init__((height, width, channels), (width * channels, channels, 1), data=picture.address)
        self.picture = picture

    def __dlpack__(self, *, stream):
        device = self.picture.device
        event = device.event()
        device.record(event, self.picture.stream)
        device.wait(stream, event)
        device.destroy_event(event)
        return super().__dlpack__(stream=stream)


def gone_at(maker):
    """Wait until a worker has let go of a frame, which it does as soon as the result is out; an error goes with gc."""
    end = time.monotonic() + 5
    while not maker.deleted and time.monotonic() < end:
        time.sleep(0.001)
        gc.collect()
    assert maker.deleted == 1


@pytest.mark.parametrize("way", ["call", "capsule", "batch", "submit", "stream", "frame"])
def test_a_frame_by_dlpack_is_waited_for_not_copied_and_given_back_once(trt, engine, scene_frames, expected, way):
    with Runtime(engine) as runtime:
        runtime(scene_frames[0])
        picture = OnGpu(trt, scene_frames[1])
        maker = ByDlpack(picture)
        begin = len(trt.cuda.calls)
        if way == "call":
            found = runtime(maker, thresholds=KEEP)
        elif way == "capsule":
            picture.device.synchronize(picture.stream)  # a capsule makes nobody wait
            found = runtime(maker.capsule(), thresholds=KEEP)
        elif way == "batch":
            (found,) = runtime.batch([maker], thresholds=KEEP)
        elif way == "submit":
            found = runtime.submit(maker, thresholds=KEEP).result()
        elif way == "frame":
            found = runtime(Frame(maker, stamp_ns=7), thresholds=KEEP)
            assert found.stamp_ns == 7
        else:
            with runtime.stream([maker], thresholds=KEEP) as stream:
                ((_, found),) = stream
        assert same(found, expected[1])
        assert "copy_to_device" not in trt.cuda.names()[begin:]
        gone_at(maker)
        assert len(maker.streams) == (way != "capsule")
        assert all(stream > 2 for stream in maker.streams)
        picture.free()


class OfThisThread(ByDlpack):
    """As PyTorch does it: only the thread that computes knows in which stream."""

    def __init__(self, picture):
        super().__init__(picture)
        self.thread = threading.get_ident()

    def __dlpack__(self, *, stream):
        return super().__dlpack__(stream=stream) if threading.get_ident() == self.thread else self.capsule()


@pytest.mark.parametrize("way", ["batch", "submit", "frame", "generator"])
def test_what_the_callers_thread_still_computes_is_waited_for_by_workers(trt, engine, scene_frames, expected, way):
    with Runtime(engine) as runtime:
        pictures = [OnGpu(trt, frame) for frame in scene_frames[:3]]
        if way == "batch":
            found = runtime.batch([OfThisThread(picture) for picture in pictures], thresholds=KEEP)
        elif way == "generator":
            with runtime.stream((OfThisThread(picture) for picture in pictures), thresholds=KEEP) as stream:
                found = [detections for _, detections in stream]
        else:
            makers = [OfThisThread(picture) for picture in pictures]
            frames = [Frame(maker) for maker in makers] if way == "frame" else makers
            found = [future.result() for future in [runtime.submit(frame, thresholds=KEEP) for frame in frames]]
        assert [same(*pair) for pair in zip(found, expected[:3], strict=True)] == [True] * 3
        for picture in pictures:
            picture.free()


def test_frames_on_the_gpu_that_are_refused_are_refused_in_their_place(trt, engine, scene_frames):
    with Runtime(engine) as runtime:
        picture = OnGpu(trt, scene_frames[0])
        wrong = ByDlpack(picture)
        wrong.managed.tensor.bits = 32
        future = runtime.submit(wrong)
        with pytest.raises(InputError, match="uint32"):
            future.result()
        with runtime.stream([wrong, ByDlpack(picture)]) as stream:
            with pytest.raises(InputError, match="uint32"):
                next(stream)
            assert len(next(stream)[1]) >= 0
        picture.free()
    with pytest.raises(BackendError, match="closed"):
        runtime._backend.receive(ByDlpack(picture))


@pytest.mark.parametrize("fails", ["another frame", "the engine", "the size"])
def test_after_an_error_frames_on_the_gpu_are_their_owners_again(trt, made, tmp_path, scene_frames, fails):
    """Nothing reads them any more, and nothing holds them."""
    with Runtime(fake_artifact(made(batch=2), tmp_path / "two")) as runtime:
        picture = OnGpu(trt, scene_frames[0])
        maker = ByDlpack(picture)
        begin = len(trt.cuda.calls)
        second: object = scene_frames[1]
        if fails == "another frame":
            second = None
        elif fails == "the size":
            huge = ByDlpack(picture)
            huge.shape[0] = 2**40
            second = huge
        else:
            with runtime._single.idle[0]._lane as lane:
                lane._forget_graph()
            trt.fail = True
        with pytest.raises((InputError, BackendError)):
            runtime.batch([maker, second])
        trt.fail = False
        assert ("done", "letterbox_float32") in trt.cuda.calls[begin:]
        gone_at(maker)
        picture.free()


@pytest.mark.parametrize("trt", [{"devices": 2}], indirect=True)
def test_a_frame_of_another_gpu_is_refused_before_a_kernel_reads_it(trt, engine, scene_frames):
    """The CUDA array interface does not say where it lies; a kernel that read it would end all work of the process."""
    other = trt.cuda.open(1)
    other.activate()
    memory = other.allocate(scene_frames[0].nbytes)
    shape, nowhere = scene_frames[0].shape, np.zeros(scene_frames[0].nbytes, np.uint8)
    with Runtime(engine) as runtime:
        for address in (memory, nowhere.ctypes.data):
            interface = {"version": 3, "shape": shape, "typestr": "|u1", "data": (address, False), "stream": None}
            with pytest.raises(InputError, match="does not lie on CUDA device 0"):
                runtime(SimpleNamespace(__cuda_array_interface__=interface))
        assert len(runtime(scene_frames[0], thresholds=KEEP)) > 0
    other.activate()
    other.free(memory)
    other.close()


@pytest.mark.parametrize("trt", [{"devices": 2}], indirect=True)
def test_what_others_have_active_in_a_thread_stays_active(trt, engine, scene_frames):
    """Such as pycuda's own context, or PyTorch's choice of a GPU."""
    other = trt.cuda.open(1)

    def active():
        return trt.cuda.current.device

    other.activate()
    with pytest.raises(ArtifactError):
        TensorRtBackend(b"", manifest=engine.manifest, flavor="tensorrt")
    assert active() == 1
    runtime = Runtime(engine)
    assert active() == 1
    runtime(scene_frames[0])
    assert active() == 1
    runtime.infer({"images": np.zeros((1, 3, 96, 96), np.float32)})
    assert active() == 1
    runtime._backend.receive(SimpleNamespace(__cuda_array_interface__=_interface(trt.cuda.memory[0].address)))
    assert active() == 1
    with pytest.raises(InputError):
        runtime(None)
    trt.fail = True
    with runtime._single.idle[0]._lane as lane:
        lane._forget_graph()
    with pytest.raises(BackendError):
        runtime(scene_frames[0])
    trt.fail = False
    assert active() == 1
    runtime.close()
    assert active() == 1
    other.close()


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_every_task_runs(trt, task, tiny_onnx_of, tmp_path, scene_frames):
    source = tiny_onnx_of(task)
    engine = fake_artifact(source, tmp_path / task)
    low = Thresholds(confidence=0.001)
    with Runtime(engine) as runtime, Runtime(source, device="cpu", threads=1) as onnx:
        for frame in scene_frames[:2]:
            found, wanted = (one(frame, thresholds=low) for one in (runtime, onnx))
            assert len(found) == len(wanted) > 0
            for name in ("xyxy", "confidence", "class_id", "keypoints", "obb", "probs"):
                mine, theirs = getattr(found, name), getattr(wanted, name)
                assert (mine is None) == (theirs is None)
                assert mine is None or np.allclose(mine, theirs, atol=1e-3), name
            assert (found.mask is None) == (task != "segment")
        # The GPU letterboxes; what a classifier sees is cut out before.
        kernel = "launch" in {call[0] for call in trt.cuda.calls}
        assert kernel == (task != "classify")
        if task == "classify":
            frame = OnGpu(trt, scene_frames[0])
            with pytest.raises(InputError, match="only models of TensorRT"):
                runtime(frame)
            frame.free()


def _interface(address):
    return {"version": 3, "shape": (1, 1, 3), "typestr": "|u1", "data": (address, False), "stream": None}


def test_frames_on_the_gpu_are_checked_and_refused_elsewhere(trt, engine, tiny_onnx, scene_frames):
    with Runtime(engine) as runtime, Runtime(tiny_onnx, device="cpu") as onnx:
        frame = OnGpu(trt, scene_frames[0])
        with pytest.raises(InputError, match=r"its colour is said to be 'gray'. Expected: one of 'bgr', 'rgb'"):
            runtime(frame, color="gray")
        with pytest.raises(InputError, match="'bgr16'"):
            runtime(frame, color="bgr16")
        with pytest.raises(InputError, match="only models of TensorRT that letterbox take"):
            onnx(frame)
        frame.free()


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrated", [False, True])
def test_wherever_memory_ends_all_is_given_back(monkeypatch, engine, scene_frames, integrated):
    for limit in range(1, 40):
        trt = install(monkeypatch, cuda=FakeCuda(integrated=integrated, out_of_memory_at=limit))
        try:
            with Runtime(engine, warmup=1) as runtime:
                runtime(scene_frames[0])
            break
        except BackendError as error:
            assert "OUT_OF_MEMORY" in str(error)  # noqa: PT017
            assert error.remedy  # noqa: PT017
            del error
        gc.collect()
        trt.check()
    assert 4 < limit < 39
    trt.check()


def test_too_little_memory_for_a_context_says_how_much_was_needed(trt, engine, scene_frames):
    trt.contexts_left = 1
    with Runtime(engine) as runtime:
        with pytest.raises(BackendError, match=r"needs 100\.1 MiB on Fake GPU, where 61\d\d MiB are free: .*OutOfMem"):
            runtime._backend.workspace(runtime.preprocessor, 1)
        assert len(runtime(scene_frames[0], thresholds=KEEP)) > 0  # what there is goes on


def test_too_little_memory_for_tensors_says_so_too(monkeypatch, engine):
    install(monkeypatch, cuda=FakeCuda(out_of_memory_at=2))
    with pytest.raises(BackendError, match=r"needs 100\.1 MiB on .*CUDA_ERROR_OUT_OF_MEMORY"):
        Runtime(engine)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"architectures": ["sm_86"]}, "built for sm_86. Expected: sm_87, which Fake GPU is"),
        ({"version": "10.4.0"}, "the engine was built with tensorrt 10.3.0"),
        ({"platform": "windows-x86_64"}, "built on windows"),
    ],
)
def test_an_engine_for_something_else_is_refused_before_it_is_read(trt, tiny_onnx, tmp_path, facts, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        Runtime(fake_artifact(tiny_onnx, tmp_path / "a", **facts))
    assert caught.value.fact
    assert not trt.names("deserialize")


@pytest.mark.parametrize("cut", [0, 3, 20])
def test_a_plan_that_was_cut_off_is_refused_before_it_is_read(trt, engine, cut):
    with pytest.raises(ArtifactError, match=r"cut off|not a TensorRT engine|empty"):
        TensorRtBackend(engine.model_file.read_bytes()[:cut], manifest=engine.manifest, flavor="tensorrt")
    assert not trt.names("deserialize")


def test_what_the_library_cannot_read_is_said_in_its_words(trt, engine):
    plan = engine.model_file.read_bytes()
    with pytest.raises(ArtifactError, match=r"cannot load the engine: Error Code 4: API Usage Error") as caught:
        TensorRtBackend(plan[: len(plan) // 2], manifest=engine.manifest, flavor="tensorrt")
    assert "again" in caught.value.remedy


def test_a_plugin_must_be_there_before_the_engine_is_read(trt, tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.delenv("YOLO12EDGE_TENSORRT_PLUGIN", raising=False)
    artifact = fake_artifact(tiny_onnx, tmp_path / "a", plugins=["yolo12edge::AreaAttention"])
    with pytest.raises(BackendError, match="yolo12edge::AreaAttention"):
        Runtime(artifact)
    assert not trt.names("deserialize")
    creator = SimpleNamespace(plugin_namespace="yolo12edge", name="AreaAttention", plugin_version="1")
    trt.creators.append(creator)
    Runtime(artifact).close()


def test_tensors_that_cannot_be_fed_are_refused(trt, engine):
    trt.format = fakes.TensorFormat.CHW32
    with pytest.raises(ArtifactError, match=r"'images' cannot be fed or read here: \[1, 3, 96, 96\], FLOAT, CHW32"):
        backend_of(engine)


def test_an_engine_of_another_input_is_refused(trt, tiny_onnx, made, tmp_path):
    """The manifest says float, the engine takes pixels: the letterbox would write beyond its memory."""
    plan = fake_plan(made(uint8=True).model_file.read_bytes())
    manifest = msgspec.structs.replace(tiny_onnx.manifest, format="tensorrt", engine=fake_facts())
    artifact = write_artifact(tmp_path / "a", manifest, {"model.engine": plan})
    with pytest.raises((ArtifactError, BackendError), match="as the manifest says"):
        Runtime(artifact)


def test_an_error_of_the_device_is_raised_and_closing_is_quiet(trt, engine, scene_frames):
    with Runtime(engine) as runtime:
        (device,) = trt.cuda.opened
        device.fail = "CUDA_ERROR_ILLEGAL_ADDRESS"
        for _ in range(2):
            with pytest.raises(BackendError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
                runtime(scene_frames[0])


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("cpu", InputError, "'cpu' is not known to TensorRT"),
        ("tpu", InputError, "'tpu' is not known"),
        ("cuda:", InputError, "not known"),
        ("cuda:2", BackendError, "'cuda:2' was asked for, but there are 2 CUDA devices"),
    ],
)
def test_devices_that_are_not_there_are_refused(monkeypatch, engine, device, error, message):
    install(monkeypatch, cuda=FakeCuda(devices=2)).cuda  # noqa: B018
    with pytest.raises(error, match=message):
        backend_of(engine, device=device)


def test_devices_by_number(monkeypatch, engine):
    trt = install(monkeypatch, cuda=FakeCuda(devices=2))
    for device, index in (("auto", 0), ("cuda", 0), ("cuda:1", 1)):
        backend = backend_of(engine, device=device)
        assert backend.device.startswith(f"cuda:{index} ")
        backend.close()
    trt.check()


@pytest.mark.parametrize("cuda", [{"devices": 0}, {"driver": False}])
def test_there_is_no_silent_cpu(monkeypatch, engine, cuda):
    install(monkeypatch, cuda=FakeCuda(**cuda))
    with pytest.raises(BackendError, match="'auto' was asked for") as caught:
        Runtime(engine)
    assert caught.value.remedy


def test_a_missing_library_names_its_extra(monkeypatch, engine):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises((MissingDependencyError, BackendError), match="tensorrt"):
        Runtime(engine)


# --- the end -----------------------------------------------------------------------------------------------------


def test_closing_while_others_run(trt, engine, scene_frames):
    runtime = Runtime(engine)
    expected = runtime(scene_frames[0], thresholds=KEEP)

    def run(index):
        if index == 20:
            runtime.close()
        try:
            return runtime(scene_frames[0], thresholds=KEEP)
        except BackendError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(40)))
    refused = [one for one in found if isinstance(one, str)]
    assert refused
    assert all("closed" in text for text in refused)
    assert all(same(one, expected) for one in found if not isinstance(one, str))


@pytest.mark.parametrize("kind", ["runtime", "infer", "bind"])
def test_who_closes_in_the_middle_of_a_run_does_not_take_its_memory(trt, engine, scene_frames, monkeypatch, kind):
    """As a signal handler may, in the very thread that runs."""
    runtime = Runtime(engine, warmup=0)
    backend = runtime._backend
    feeds = {"images": Preprocessor(engine.manifest.input)(scene_frames[0])[0]}
    outputs = {"boxes": np.zeros((1, 4, 189), np.float32), "scores": np.zeros((1, 3, 189), np.float32)}
    bound = backend.bind(feeds, outputs)
    wanted = backend.infer(feeds)
    compute = fakes._Context._compute

    def and_close(self, *arguments):
        compute(self, *arguments)
        runtime.close()

    monkeypatch.setattr(fakes._Context, "_compute", and_close)
    if kind == "runtime":
        assert len(runtime(scene_frames[0], thresholds=KEEP)) > 0
    elif kind == "infer":
        assert (backend.infer(feeds)["boxes"] == wanted["boxes"]).all()
    else:
        bound()
        assert (outputs["boxes"] == wanted["boxes"]).all()
    for call in (lambda: backend.infer(feeds), bound, lambda: backend.bind(feeds, outputs)):
        with pytest.raises(BackendError, match="closed"):
            call()


def test_close_does_not_wait_for_a_run_and_the_run_ends_well(trt, engine, scene_frames, monkeypatch):
    backend = backend_of(engine)
    feeds = {"images": Preprocessor(engine.manifest.input)(scene_frames[0])[0]}
    wanted = backend.infer(feeds)
    inside, go = threading.Event(), threading.Event()
    execute = fakes._Context.execute_async_v3

    def slow(self, stream):
        inside.set()
        assert go.wait(10)
        return execute(self, stream)

    monkeypatch.setattr(fakes._Context, "execute_async_v3", slow)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(backend.infer, feeds)
        assert inside.wait(10)
        backend.close()
        go.set()
        assert (running.result(10)["boxes"] == wanted["boxes"]).all()


def test_two_who_close_at_once_do_not_share_the_work(trt, engine):
    """What is given back needs the context, which is active in one of them alone."""
    plan = backend_of(engine)._plan
    threads = []

    def note():
        threads.append(threading.get_ident())
        time.sleep(0.02)

    for _ in range(5):
        plan._stack.callback(note)
    with ThreadPoolExecutor(2) as pool:
        for closing in [pool.submit(plan.close) for _ in range(2)]:
            closing.result(10)
    assert len(threads) == 5
    assert len(set(threads)) == 1


def test_who_forgets_to_close_loses_nothing(trt, engine, scene_frames):
    runtime = Runtime(engine)
    runtime(scene_frames[0])
    bound = runtime._backend.bind(*[{t.name: np.zeros(t.shape, t.dtype) for t in ts} for ts in _ports(runtime)])
    bound()
    del runtime, bound


def _ports(runtime):
    return runtime._backend.inputs, runtime._backend.outputs


def test_arrays_that_do_not_fit_are_refused_and_their_lane_is_given_back(trt, engine):
    backend = backend_of(engine)
    feeds = {"images": np.zeros((1, 3, 96, 96), np.float32)}
    with pytest.raises(BackendError, match="the outputs are boxes"):
        backend.bind(feeds, {"boxes": np.zeros((1, 4, 10), np.float32)})
    with pytest.raises(BackendError, match="the feeds are none"):
        backend.bind({}, {})
    backend.close()


# --- opening -----------------------------------------------------------------------------------------------------


def test_a_lone_engine_is_refused(engine):
    with pytest.raises(InputError, match="does not say how it is fed") as caught:
        Runtime(engine.model_file)
    assert "directory" in caught.value.remedy


@pytest.mark.filterwarnings("ignore:the engine is built")
def test_an_artifact_with_a_model_is_built_here_once(trt, tiny_onnx, tmp_path, scene_frames, expected, monkeypatch):
    from yolo12edge.runtimes import tensorrt_cache

    manifest = msgspec.structs.replace(tiny_onnx.manifest, format="tensorrt")
    artifact = write_artifact(tmp_path / "a", manifest, {"model.onnx": tiny_onnx.model_file})
    built = []

    def build(onnx, *_, **__):
        built.append(1)
        return SimpleNamespace(plan=fake_plan(onnx), facts=fake_facts(), warnings=())

    monkeypatch.setattr(tensorrt_cache, "build_plan", build)
    for _ in range(2):
        with Runtime(artifact, cache=tmp_path / "cache") as runtime:
            assert same(runtime(scene_frames[0], thresholds=KEEP), expected[0])
    assert built == [1]
    assert list((tmp_path / "cache").glob("*.engine"))


# --- the true library --------------------------------------------------------------------------------------------


def test_the_true_library_has_what_the_backend_uses():
    true = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    assert {"FLOAT", "HALF", "UINT8", "INT8", "INT32", "INT64", "BOOL"} <= set(true.DataType.__members__)
    assert true.TensorLocation.DEVICE != true.TensorLocation.HOST
    assert {"LINEAR"} <= set(true.TensorFormat.__members__)
    assert {"INPUT", "OUTPUT"} <= set(true.TensorIOMode.__members__)
    for kind, false in (
        (true.ICudaEngine, fakes._Engine),
        (true.IExecutionContext, fakes._Context),
        (true.Runtime, fakes._Runtime),
    ):
        own = {name for name in vars(false) if not name.startswith("_")}
        assert own <= set(dir(kind)), "the false one has what the true one has not"
    assert hasattr(true.IExecutionContext, "is_stream_capturable")
    assert hasattr(true.Runtime, "engine_host_code_allowed")


def test_the_true_library_refuses_its_engine_where_there_is_no_gpu(monkeypatch, made, tmp_path):
    """CUDA is a false one here: what the library itself asks of the driver fails, and must not end the process."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    from yolo12edge.runtimes.cuda import open_cuda
    from yolo12edge.runtimes.tensorrt_builder import build_plan

    with contextlib.suppress(BackendError, MissingDependencyError):
        if open_cuda().device_count():
            pytest.skip("this machine has a GPU; what is said without one cannot be shown here")
    cuda = FakeCuda()
    monkeypatch.setattr(tensorrt_plan, "open_cuda", lambda: cuda)
    source = made()
    manifest = msgspec.structs.replace(source.manifest, format="tensorrt-rtx", files=[])
    built = build_plan(source.model_file.read_bytes(), manifest, "tensorrt-rtx")
    manifest = msgspec.structs.replace(manifest, engine=built.facts)
    with pytest.raises(ArtifactError, match="tensorrt-rtx cannot run the engine here"):
        Runtime(write_artifact(tmp_path / "a", manifest, {"model.engine": built.plan}))
    cuda.check()
