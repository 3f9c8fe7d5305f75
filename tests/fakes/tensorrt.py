"""A false ``tensorrt`` that runs: its plans hold an ONNX model, which ONNX Runtime computes when the stream gets there.

It lies on ``FakeCuda``: an execution reads and writes the memory at the addresses it was given, when somebody waits.
What the true library leaves undefined (an address that is missing, a context in two threads, an engine that goes before
its contexts, a run after the context went) is remembered, and ``check()`` raises for it.
"""

from __future__ import annotations

import enum
import struct
import sys
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from tests.fakes import cuda as fake_cuda
from tests.fakes.cuda import FakeCuda
from yolo12edge.artifact import Artifact, write_artifact
from yolo12edge.manifest import EngineFacts
from yolo12edge.runtimes import tensorrt_plan
from yolo12edge.runtimes.tensorrt_library import platform_name

VERSION = (10, 3, 0, 30)
_TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(uint8)": "UINT8", "tensor(int64)": "INT64"}
_NUMPY = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT64": "int64"}
_TAGS = {"tensorrt": b"ftrt", "tensorrt-rtx": b"vtrt"}


def fake_plan(
    onnx: bytes, *, flavor: str = "tensorrt", batches: tuple[int, int] | None = None, version: tuple[int, ...] = VERSION
) -> bytes:
    """Return a plan that holds a model; ``batches`` is the profile of one whose batch is open."""
    facts = msgspec.json.encode({"batches": batches})
    body = struct.pack("<I", len(facts)) + facts + onnx
    head = _TAGS[flavor] + struct.pack("<IQQ", 0, 0, 32 + len(body)) + bytes(version) + bytes(4)
    return head + body


def fake_facts(flavor: str = "tensorrt", **changes: Any) -> EngineFacts:
    """Return what a plan of ``fake_plan`` was built with and for."""
    facts: dict[str, Any] = {
        "library": flavor,
        "version": ".".join(map(str, VERSION[:3])),
        "cuda": "12.6",
        "architectures": ["sm_87"],
        "platform": platform_name(),
    }
    return EngineFacts(**{**facts, **changes})


def fake_artifact(source: Artifact, path: Path, *, flavor: str = "tensorrt", **changes: Any) -> Artifact:
    """Write a TensorRT artifact whose engine computes what an ONNX artifact does."""
    spec = source.manifest.input
    batches = None if spec.min_batch is None else (spec.min_batch, spec.batch)
    facts = fake_facts(flavor, **changes)
    manifest = msgspec.structs.replace(source.manifest, format=flavor, engine=facts, files=[])
    plan = fake_plan(source.model_file.read_bytes(), flavor=flavor, batches=batches)
    return write_artifact(path, manifest, {"model.engine": plan})


def install(monkeypatch: Any = None, *, flavor: str = "tensorrt", cuda: FakeCuda | None = None) -> FakeTensorRt:
    """Let the library and CUDA be the false ones, until the test ends; without ``monkeypatch``, for good."""
    cuda = cuda or FakeCuda()
    module = FakeTensorRt(flavor, cuda)
    if monkeypatch is None:
        sys.modules[module.__name__] = module
        tensorrt_plan.open_cuda = lambda: cuda
    else:
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(tensorrt_plan, "open_cuda", lambda: cuda)
    return module


class _Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _Logger:
    Severity = _Severity


class _Validity(enum.Enum):
    VALID, SUBOPTIMAL, INVALID = range(3)


class _Diagnostics(enum.IntFlag):
    VALID, DRIVER_TOO_OLD = 0, 1


DataType = enum.Enum("DataType", ["FLOAT", "HALF", "UINT8", "INT64", "FP8"])
TensorFormat = enum.Enum("TensorFormat", ["LINEAR", "CHW32"])


class FakeTensorRt(ModuleType):
    """The module, and what a test looks at.

    Attributes:
        cuda: What it lies on.
        calls: Every call of an engine or context, in order.
        problems: What a program must not do and did.
        contexts_left: How many execution contexts memory is left for.
        capturable: Whether an execution may be captured.
        fail: Whether executions fail.
        creators: The plugins that are registered.
        format: Of all tensors.
    """

    def __init__(self, flavor: str, cuda: FakeCuda) -> None:
        super().__init__("tensorrt" if flavor == "tensorrt" else "tensorrt_rtx")
        self.__version__ = ".".join(map(str, VERSION))
        self.flavor, self.cuda = flavor, cuda
        self.ILogger = _Logger
        self.DataType, self.TensorFormat = DataType, TensorFormat
        self.TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
        self.TensorLocation = enum.Enum("TensorLocation", ["DEVICE", "HOST"])
        self.EngineValidity, self.EngineInvalidityDiagnostics = _Validity, _Diagnostics
        self.Runtime = lambda logger: _Runtime(self, logger)
        self.calls: list[tuple[Any, ...]] = []
        self.problems: list[str] = []
        self.contexts_left = 1000
        self.capturable = True
        self.fail = False
        self.creators: list[Any] = []
        self.format = TensorFormat.LINEAR
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def get_plugin_registry(self) -> Any:
        return SimpleNamespace(all_creators=self.creators)

    def names(self, kind: str) -> list[tuple[Any, ...]]:
        """Return the calls of one name."""
        return [call for call in self.calls if call[0] == kind]

    def check(self) -> None:
        """Raise AssertionError for what a program must not do, and for what it has not given back."""
        assert not self.problems, "; ".join(dict.fromkeys(self.problems))
        left = sorted(type(thing).__name__ for thing in self.alive)
        assert not left, f"not given back: {left}"
        self.cuda.check()


def _native(destroyed: Callable[[], None]) -> Any:
    """Return what stands for a C++ object: it goes when nobody refers to it, not when Python looks for cycles.

    An array is such a thing: the collector of cycles does not know it.
    """
    thing = np.empty(0)
    weakref.finalize(thing, destroyed).atexit = False
    return thing


class _Runtime:
    engine_header_size = 32

    def __init__(self, trt: FakeTensorRt, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        self.engine_host_code_allowed = False
        self.state = state = SimpleNamespace(alive=True)
        self.native = _native(lambda: vars(state).update(alive=False))
        trt.alive.add(self)

    def get_engine_validity(self, header: bytes) -> tuple[Any, int]:
        assert len(header) == self.engine_header_size
        return _Validity.VALID, 0

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        self.trt.calls.append(("deserialize", len(plan)))
        if getattr(self.trt.cuda.current, "device", None) is None:
            self.trt.problems.append("an engine was deserialized in a thread without a CUDA context")
        try:
            return _Engine(self, plan)
        except Exception as error:  # the true one is as forgiving, if it does not crash
            self.logger.log(_Severity.ERROR, f"Error Code 4: API Usage Error ({error})")
            return None


@lru_cache(maxsize=8)
def _session(onnx: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if b"DequantizeLinear" in onnx:  # rewritten into integer operators, these would want float32 scales
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


class _Engine:
    def __init__(self, runtime: _Runtime, plan: bytes) -> None:
        self.trt, self.logger = runtime.trt, runtime.logger
        self.contexts: list[Any] = []
        self.native = _native(partial(_check_engine, self.trt, runtime.state, self.contexts))
        (length,) = struct.unpack_from("<I", plan, 32)
        self.batches = msgspec.json.decode(plan[36 : 36 + length])["batches"]
        self.session = _session(plan[36 + length :])
        self.nodes = {node.name: (node, True) for node in self.session.get_inputs()}
        self.nodes |= {node.name: (node, False) for node in self.session.get_outputs()}
        self.trt.alive.add(self)

    num_optimization_profiles = 1
    device_memory_size_v2 = 100 << 20

    @property
    def num_io_tensors(self) -> int:
        return len(self.nodes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.nodes)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.trt.TensorIOMode
        return modes.INPUT if self.nodes[name][1] else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType[_TYPES[self.nodes[name][0].type]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self.nodes[name][0].shape)

    def get_tensor_location(self, name: str) -> Any:
        return self.trt.TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> Any:
        return self.trt.format

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        assert self.nodes[name][1], "outputs have no profile"
        first, *rest = self.get_tensor_shape(name)
        least, most = self.batches if first < 0 else (first, first)
        return [(batch, *rest) for batch in (least, least, most)]

    def create_execution_context(self) -> Any:
        self.trt.calls.append(("context",))
        if self.trt.contexts_left < 1:
            self.logger.log(_Severity.ERROR, "Error Code 2: OutOfMemory (Requested size was 104857600 bytes.)")
            return None
        self.trt.contexts_left -= 1
        return _Context(self)


def _check_engine(trt: FakeTensorRt, runtime: Any, contexts: list[Any]) -> None:
    if any(context.alive for context in contexts):
        trt.problems.append("an engine was destroyed before its contexts")
    if not runtime.alive:
        trt.problems.append("a runtime was destroyed before its engine")


def _check_context(trt: FakeTensorRt, state: Any) -> None:
    state.alive = False
    if any(device.closed for device in state.devices):
        trt.problems.append("a context was destroyed after its device was closed")


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = weakref.ref(engine)
        self.trt, self.logger = engine.trt, engine.logger
        # If sizes are open, only the first has a profile.
        self.profile = None if engine.contexts and engine.batches else 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.prepared = False  # by a first execution since shapes changed, which cannot be captured
        self.inside = threading.Lock()
        self.state = SimpleNamespace(alive=True, devices=set())
        self.native = _native(partial(_check_context, self.trt, self.state))
        engine.contexts.append(self.state)
        engine.trt.alive.add(self)

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile, self.prepared = profile, False
        return self._said("profile", profile, stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        engine = self._engine()
        least, _, most = engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(least) or not all(a <= s <= b for a, s, b in zip(least, shape, most, strict=True)):
            self.logger.log(_Severity.ERROR, f"{name}: {shape} is not in the profile")
            return False
        self.shapes[name], self.prepared = tuple(shape), False
        return self._said("shape", name, tuple(shape))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self._said("address", name, address)

    def execute_async_v3(self, stream: int) -> bool:
        trt, engine = self.trt, self._engine()
        if not self.inside.acquire(blocking=False):
            trt.problems.append("an execution context was used by two threads at a time")
            return False
        try:
            trt.calls.append(("execute", id(self), stream))
            missing = set(engine.nodes) - set(self.addresses)
            open_shapes = {name for name, (_, is_input) in engine.nodes.items() if is_input} - set(self.shapes)
            if missing or open_shapes or self.profile is None or trt.fail:
                self.logger.log(_Severity.ERROR, f"no address: {missing}; no shape: {open_shapes}; {self.profile}")
                return False
            if fake_cuda._streams[stream].captured is not None and not self.prepared:
                trt.problems.append("the first execution after shapes were set was captured")
            self.prepared = True
            device = fake_cuda._streams[stream].device
            self.state.devices.add(device)
            me, shapes, addresses = weakref.ref(self), dict(self.shapes), dict(self.addresses)

            def work() -> None:
                context = me()
                if context is None:
                    trt.problems.append("the work of a context was done after it was destroyed")
                    return
                context._compute(device, shapes, addresses)

            fake_cuda.enqueue(stream, "engine", work, milliseconds=4.0, capture=trt.capturable)
            return True
        finally:
            self.inside.release()

    def _compute(self, device: Any, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        engine = self._engine()
        dtypes = {name: _NUMPY[engine.get_tensor_dtype(name).name] for name in engine.nodes}
        feeds = {name: device.view(addresses[name], shape, dtypes[name]).copy() for name, shape in shapes.items()}
        names = [name for name, (_, is_input) in engine.nodes.items() if not is_input]
        for name, value in zip(names, engine.session.run(names, feeds), strict=True):
            device.view(addresses[name], value.shape, dtypes[name])[...] = np.asarray(value)

    def _engine(self) -> _Engine:
        engine = self.engine()
        if engine is None:
            self.trt.problems.append("a context was used after its engine was destroyed")
            raise AssertionError("the engine is gone")
        return engine

    def _said(self, *call: Any) -> bool:
        self.trt.calls.append(call)
        return True
