"""A false ``tensorrt`` that builds: what the bindings of a version do as far as building goes, written down.

Its plans have a true header; its layers are told in the JSON that ``IEngineInspector`` writes. What a version does not
have raises ``AttributeError``, as in the bindings.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yolo12edge.manifest import InputSpec, Manifest, OutputSpec, Provenance

BODY = b"what a builder makes of it"
_FLAGS = "REFIT TF32 VERSION_COMPATIBLE"


class _Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _Logger:
    Severity = _Severity

    def __init__(self) -> None:
        pass


class _Monitor:
    def __init__(self) -> None:
        pass


class FakeBuild(ModuleType):
    """The module, what a test says it should do, and what was done with it.

    Attributes:
        record: What was set and called, in order, as (name, value).
        errors: Logged as errors by a build, which then fails.
        has_driver: Whether there is a GPU to build on.
        steps: Called with the progress monitor in the middle of a build; returns whether to go on.
        layers: What the inspector tells.
        creators: The plugins that are registered.
        hidden_creators: Those that are registered beside one that the bindings do not know, so that they list none.
        invalid: Reasons for which TensorRT for RTX does not run an engine here, as bits; None: it does.
        cached: Timing caches that this version reads.
        parser_errors: What the parser objects to, as (node, operator, text).
    """

    def __init__(self, version: str = "10.3.0", *, name: str = "tensorrt") -> None:
        super().__init__(name)
        self.__version__ = version
        self.numbers = tuple(int(part) for part in version.split("."))
        self.record: list[tuple[str, Any]] = []
        self.errors: list[str] = []
        self.has_driver = True
        self.steps: Callable[[Any], bool] = _phases
        self.layers: Any = [{"Name": "all of it", "LayerType": "kgen"}]
        self.creators: list[Any] = []
        self.hidden_creators: list[Any] = []
        self.invalid: int | None = None
        self.cached = {b"", self.cache_content}
        self.parser_errors: list[tuple[str, str, str]] = []
        self.loaded: list[str] = []
        self.readable = True
        self.ILogger, self.IProgressMonitor = _Logger, _Monitor
        self.float32, self.float16 = "float32", "float16"
        flags = _FLAGS if self.numbers[0] >= 11 else f"FP16 INT8 {_FLAGS}"
        self.BuilderFlag = enum.IntEnum("BuilderFlag", flags)
        self.NetworkDefinitionCreationFlag = enum.IntEnum(
            "Creation", ["STRONGLY_TYPED"] if self.numbers[0] >= 11 else ["EXPLICIT_BATCH", "STRONGLY_TYPED"], start=0
        )
        self.MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM")
        self.ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
        self.HardwareCompatibilityLevel = enum.Enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")
        self.LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
        self.LayerType = enum.Enum("LayerType", "CONVOLUTION" + " ATTENTION_INPUT" * self.knows_attention)
        if self.knows_attention:
            self.IAttentionInputLayer = _AttentionInput
        if name == "tensorrt_rtx":
            self.ComputeCapability = enum.IntEnum("ComputeCapability", {f"SM{n}": n for n in (75, 80, 86, 89, 120)})
            self.EngineValidity = enum.Enum("EngineValidity", "VALID SUBOPTIMAL INVALID")
            self.EngineInvalidityDiagnostics = enum.IntEnum(
                "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4}
            )
        if self.numbers >= (10, 6):
            self.IPluginCreatorV3Quick = QuickCreator

    @property
    def knows_attention(self) -> bool:
        """Whether ``IAttention`` is there: since 10.14."""
        return self.numbers >= (10, 14)

    @property
    def cache_content(self) -> bytes:
        """What a timing cache of this version holds."""
        return b"timings of " + self.__version__.encode()

    def note(self, name: str, value: Any = None) -> None:
        """Write down what was done."""
        self.record.append((name, value))

    def noted(self, name: str) -> list[Any]:
        """Return the values of everything of that name."""
        return [value for key, value in self.record if key == name]

    def plan(self) -> bytes:
        """Return a plan of this version."""
        version = bytes((*self.numbers, 0)[:4])
        if self.__name__ == "tensorrt":
            return b"ftrt" + struct.pack("<IQQ", 0, 1, 0) + version + bytes(4) + BODY
        return b"vtrt" + struct.pack("<IQQ", 0, 2, 32 + len(BODY)) + version + bytes(4) + BODY

    def Builder(self, logger: Any) -> Any:
        """As ``trt.Builder``."""
        if not self.has_driver:
            logger.log(_Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return _Builder(self, logger)

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        """As ``trt.OnnxParser``."""
        return _Parser(self, network)

    def Runtime(self, logger: Any) -> Any:
        """As ``trt.Runtime``."""
        return _Runtime(self)

    def get_plugin_registry(self) -> Any:
        """As ``trt.get_plugin_registry``."""

        def load_library(path: str) -> object:
            self.loaded.append(path)
            return object()

        def get_creator(*wanted: str) -> Any:
            known = {(item.name, item.plugin_version, item.plugin_namespace): item for item in self.hidden_creators}
            return known.get(wanted)

        creators = None if self.hidden_creators else self.creators
        return SimpleNamespace(all_creators=creators, load_library=load_library, get_creator=get_creator)


def small_model(*, batch: int | str = 1, extra: Sequence[onnx.NodeProto] = (), opset: int = 17) -> bytes:
    """Return ONNX with one convolution, (batch, 3, 8, 8) to (batch, 4, 8, 8), in an attention block by its name."""
    weight = numpy_helper.from_array(np.full((4, 3, 1, 1), 0.5, np.float32), "weight")
    nodes = [helper.make_node("Conv", ["images", "weight"], ["y"], name="model.6.m.0.0.attn.q.conv"), *extra]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [weight],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("yolo12edge", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def small_manifest(*, batch: int = 1, min_batch: int | None = None, precision: Any = "fp16") -> Manifest:
    """Return a manifest for ``small_model``, as far as building looks at it."""
    return Manifest(
        schema_version=1,
        task="detect",
        scale="n",
        variant="v1",
        class_names=["a"],
        format="tensorrt",
        precision=precision,
        input=InputSpec(name="images", batch=batch, min_batch=min_batch, height=8, width=8),
        outputs=[
            OutputSpec(name="boxes", role="boxes", shape=(batch, 4, 1)),
            OutputSpec(name="scores", role="scores", shape=(batch, 1, 1)),
        ],
        provenance=Provenance(checkpoint_sha256="0" * 64, created="", versions={}),
    )


class QuickCreator:
    """Creator of a plugin that Python registered ahead of time."""

    name, plugin_version, plugin_namespace = "AreaAttention", "1", "yolo12edge"


def compiled_creator() -> Any:
    """Return the creator of a plugin in a shared library."""
    return SimpleNamespace(name="AreaAttention", plugin_version="1", plugin_namespace="yolo12edge")


def _phases(monitor: Any) -> bool:
    """Report as a builder does: phases inside of phases, one of them ended early, another used twice."""
    monitor.phase_start("Building engine", None, 2)
    for index in range(2):
        monitor.phase_start("Timing", "Building engine", 4)
        for step in range(4 if index else 3):
            if not monitor.step_complete("Timing", step):
                return False
        monitor.phase_finish("Timing")
        if not monitor.step_complete("Building engine", index):
            return False
    monitor.phase_finish("Building engine")
    return True


class _Network:
    def __init__(self, trt: FakeBuild) -> None:
        self.trt = trt
        self.inputs: list[Any] = []
        self.all_layers: list[Any] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_layers = property(lambda self: len(self.all_layers))

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    def get_layer(self, index: int) -> Any:
        return self.all_layers[index]


class _Layer:
    def __init__(self, kind: Any, attention: Any = None) -> None:
        self.type, self._attention = kind, attention


class _AttentionInput(_Layer):
    attention = property(lambda self: self._attention)


class _Parser:
    def __init__(self, trt: FakeBuild, network: _Network) -> None:
        self.trt, self.network = trt, network
        self.errors: list[Any] = []

    num_errors = property(lambda self: len(self.errors))

    def get_error(self, index: int) -> Any:
        return self.errors[index]

    def parse(self, content: bytes) -> bool:
        for node, operator, text in self.trt.parser_errors:
            parts = {"node_name": node, "node_operator": operator, "desc": text}
            self.errors.append(SimpleNamespace(**{key: lambda value=value: value for key, value in parts.items()}))
        graph = onnx.load_model_from_string(content).graph
        for tensor in graph.input:
            shape = tuple(dim.dim_value or -1 for dim in tensor.type.tensor_type.shape.dim)
            self.network.inputs.append(SimpleNamespace(name=tensor.name, shape=shape))
        types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in graph.input}
        for node in graph.node:
            if node.op_type == "Cast":
                types[node.output[0]] = node.attribute[0].i
            if node.op_type == "Attention":
                half = types.get(node.input[0]) == onnx.TensorProto.FLOAT16
                tensor = SimpleNamespace(dtype="float16" if half else "float32")
                attention = SimpleNamespace(decomposable=False, get_input=lambda _, tensor=tensor: tensor)
                self.network.all_layers.append(_Layer(self.trt.LayerType.ATTENTION_INPUT, attention))
                self.trt.note("attention", attention)
            else:
                self.network.all_layers.append(_Layer(self.trt.LayerType.CONVOLUTION))
        return not self.errors


class _Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class _Config:
    def __init__(self, trt: FakeBuild) -> None:
        object.__setattr__(self, "trt", trt)
        object.__setattr__(self, "cache", None)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self.trt.note(name, value)

    def set_flag(self, flag: Any) -> None:
        self.trt.note("flag", flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.trt.note("cleared", flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.trt.note("pool", (pool.name, size))

    def set_compute_capability(self, target: Any, index: int) -> bool:
        self.trt.note("target", (index, target.name))
        return index < self.num_compute_capabilities

    def add_optimization_profile(self, profile: Any) -> int:
        self.trt.note("profile", profile.shapes)
        return 0

    def create_timing_cache(self, content: bytes) -> _Cache:
        if content not in self.trt.cached:
            raise RuntimeError("a cache of another version")
        return _Cache(content)

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.trt.note("cache", cache.content)
        object.__setattr__(self, "cache", cache)
        return True

    def get_timing_cache(self) -> _Cache | None:
        return self.cache


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self.shapes[name] = (least, best, most)


class _Builder:
    def __init__(self, trt: FakeBuild, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def create_network(self, flags: int = 0) -> _Network:
        self.trt.note("network", flags)
        return _Network(self.trt)

    def create_builder_config(self) -> _Config:
        return _Config(self.trt)

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        self.trt.note("build")
        self.logger.log(_Severity.WARNING, "a warning of the builder")
        if not self.trt.steps(config.progress_monitor):
            self.logger.log(_Severity.ERROR, "Build canceled by user")
            return None
        for error in self.trt.errors:
            self.logger.log(_Severity.ERROR, error)
        if self.trt.errors:
            return None
        if config.cache is not None:
            config.cache.content = self.trt.cache_content
        return self.trt.plan()


class _Runtime:
    def __init__(self, trt: FakeBuild) -> None:
        object.__setattr__(self, "trt", trt)

    def __setattr__(self, name: str, value: Any) -> None:
        self.trt.note(name, value)

    engine_header_size = 24

    def get_engine_validity(self, head: bytes) -> tuple[Any, int]:
        self.trt.note("judged", head)
        kinds = self.trt.EngineValidity
        return (kinds.VALID if self.trt.invalid is None else kinds.INVALID), self.trt.invalid or 0

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        self.trt.note("read", plan)
        if not self.trt.readable:
            return None
        text = json.dumps({"Layers": self.trt.layers, "Bindings": []})
        inspector = SimpleNamespace(get_engine_information=lambda form: text if form.name == "JSON" else "")
        return SimpleNamespace(create_engine_inspector=lambda: inspector)
