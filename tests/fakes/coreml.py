"""A false Core ML beneath the true coremltools: what is compiled for macOS alone is replaced, all else is Apple's.

It takes what the true bindings take (coremlpython/CoreMLPythonUtils.mm, coremltools 9), a Pillow image for an image and
an array for a multi-array, and refuses the rest. What the true library leaves undefined (two predictions of one model
at a time, an array whose last reference is Core ML's) is remembered, and ``check()`` raises for it.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from yolo12edge.artifact import Artifact, write_artifact
from yolo12edge.manifest import EMBEDDED_KEY, Manifest
from yolo12edge.runtimes import coreml_library
from yolo12edge.runtimes.lone_package import FUNCTIONS_KEY, functions_json

_MODEL = "com.apple.CoreML/model.mlmodel"
_WEIGHTS = "com.apple.CoreML/weights"
_CARRIED = "fake"  # in the metadata of a package whose weights are an ONNX model
_APPLE_SILICON = ("cpu", "gpu", "ane")


class FakeCoreml:
    """What the machine is, and what happened on it.

    Attributes:
        macos: Its version.
        devices: What Core ML can compute on.
        plan: Operations by the unit that is preferred for them; None where none is told.
        failure: What loading a model fails with.
        loaded: Names of the compute units of every model that was loaded.
        functions: Names of the functions that were loaded; empty of a model with one program.
        fed: What the last prediction was given.
        problems: What the true library leaves undefined.
    """

    def __init__(self, ct: Any, *, macos: tuple[int, ...] = (15, 1), devices: tuple[str, ...] = _APPLE_SILICON) -> None:
        self.ct = ct
        self.macos = macos
        self.devices = devices
        self.plan: Mapping[str, int] | None = {"ane": 300, "cpu": 20}
        self.failure: str | None = None
        self.during: Callable[[], object] = lambda: None
        self.loaded: list[str] = []
        self.functions: list[str] = []
        self.programs = ["main"]  # of the model that was loaded last
        self.fed: Any = None
        self.problems: list[str] = []
        self._lingering: list[np.ndarray] = []

    def linger(self, array: np.ndarray) -> None:
        self._lingering.append(array)

    def let_go(self) -> None:
        """Drop the arrays of earlier predictions, as Core ML's own thread does after a second."""
        while self._lingering:
            array = self._lingering.pop()
            if sys.getrefcount(array) <= 2:  # this name and the argument
                self.problems.append("an array was left to Core ML, which frees it without the interpreter's lock")

    def check(self) -> None:
        self.let_go()
        assert not self.problems, self.problems


class _Device:
    def __init__(self, unit: str) -> None:
        self.unit = unit

    def get_total_core_count(self) -> int:
        return 16


class _Cpu(_Device):
    pass


class _Gpu(_Device):
    pass


class _Ane(_Device):
    pass


class _Plan:
    """What ``MLComputePlan`` wraps: here, each operation carries its unit."""

    def __init__(self, fake: FakeCoreml) -> None:
        kinds = fake.ct.models.compute_plan
        plan = fake.plan or {}
        operations = [_operation(kinds, "const", None)]
        operations += [_operation(kinds, "conv", unit) for unit, count in plan.items() for _ in range(count)]
        block = kinds.MLModelStructureProgramBlock([], operations, [])
        function = kinds.MLModelStructureProgramFunction([], block)
        program = kinds.MLModelStructureProgram(dict.fromkeys(fake.programs, function))
        self.model_structure = kinds.MLModelStructure(None, program, None)
        self._fake = fake

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        if operation.__proxy__ is None:
            return None
        device = _device(self._fake.ct, operation.__proxy__)
        return self._fake.ct.models.compute_plan.MLComputePlanDeviceUsage(device, [device])


def _operation(kinds: Any, name: str, unit: str | None) -> Any:
    return kinds.MLModelStructureProgramOperation({}, name, [], [], unit)


def _device(ct: Any, unit: str) -> Any:
    kinds = ct.models.compute_device
    wrap = {
        "cpu": (kinds.MLCPUComputeDevice, _Cpu),
        "gpu": (kinds.MLGPUComputeDevice, _Gpu),
        "ane": (kinds.MLNeuralEngineComputeDevice, _Ane),
    }
    kind, proxy = wrap[unit]
    return kind(proxy(unit))


def _proxy_of(fake: FakeCoreml) -> type:
    """Return the class that coremltools knows as ``_MLModelProxy``."""

    class Proxy:
        def __init__(self, path: str, units: str, function: str, hints: dict[str, str], asset: Any) -> None:
            assert units in ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
            assert (hints, asset) == ({}, None)
            if fake.failure is not None:
                raise RuntimeError('{\n    NSLocalizedDescription = "' + fake.failure + '";\n}')
            fake.loaded.append(units)
            spec = fake.ct.models.utils.load_spec(path)
            functions = {one.name: one for one in spec.description.functions}
            if function and function not in functions:
                raise RuntimeError(f"the model has no function {function}")
            if functions and fake.macos < (15,):
                raise RuntimeError("functions need macOS 15")
            fake.programs = list(functions) or ["main"]
            name = function or spec.description.defaultFunctionName
            fake.functions.append(name)
            self._inputs = list((functions[name] if functions else spec.description).input)
            self._run = _engine(spec, Path(path), name or None)
            self._busy = threading.Lock()

        @staticmethod
        def maximum_supported_specification_version() -> int:
            return {12: 6, 13: 7, 14: 8, 15: 9, 26: 10}[fake.macos[0]]

        @staticmethod
        def get_available_compute_devices() -> list[Any]:
            if fake.macos < (14, 0):
                raise RuntimeError("MLComputeDevice is only available on macOS >= 14.0")
            return [_device(fake.ct, unit) for unit in fake.devices]

        @staticmethod
        def get_compute_plan(path: str, units: str) -> Any:
            if fake.macos < (14, 4) or fake.plan is None:
                raise RuntimeError("MLComputePlan is only available on macOS >= 14.4")
            assert path.endswith(".mlmodelc")
            return fake.ct.models.compute_plan.MLComputePlan(_Plan(fake))

        def get_compiled_model_path(self) -> str:
            return "/tmp/model.mlmodelc"

        def predict(self, data: dict[str, Any], state: Any) -> dict[str, np.ndarray]:
            if not self._busy.acquire(blocking=False):
                fake.problems.append("two predictions of one model at a time")
                self._busy.acquire()
            try:
                fake.let_go()
                fake.fed = data
                fake.during()
                values = {item.name: _value(item, data[item.name], fake) for item in self._inputs}
                return {name: np.array(value, np.float32) for name, value in self._run(values).items()}
            finally:
                self._busy.release()

    return Proxy


def _value(feature: Any, given: Any, fake: FakeCoreml) -> np.ndarray:
    """Return what Core ML reads of a value: an image as uint8, shape (height, width, 3), RGB; an array as it is."""
    from PIL import Image

    if feature.type.WhichOneof("Type") == "imageType":
        kind = feature.type.imageType
        if not isinstance(given, Image.Image):
            raise RuntimeError("value type not convertible")
        sizes = {(kind.width, kind.height)} | {(one.width, one.height) for one in kind.enumeratedSizes.sizes}
        if given.size not in sizes:
            raise RuntimeError(f"image size {given.size} is not in {sizes}")
        return np.frombuffer(given.tobytes(), np.uint8).reshape(given.height, given.width, 3)
    if not isinstance(given, np.ndarray) or given.dtype not in (np.float32, np.float64, np.int32):
        raise RuntimeError("Unsupported array type")
    fake.linger(given)
    return given


def _engine(spec: Any, path: Path, function: str | None) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return what computes a package: the reference evaluator, or ONNX Runtime for a package of ``fake_artifact``."""
    if _CARRIED not in spec.description.metadata.userDefined:
        from yolo12edge.exporters.mil_evaluator import MilProgram

        return MilProgram.load(path, function=function).run
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = (path / "Data" / _WEIGHTS / "weight.bin").read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {
            name: value
            if value.dtype == np.float32
            else (value.transpose(2, 0, 1)[None] * np.float32(1 / 255)).astype(np.float32)
            for name, value in values.items()
        }
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


def install(monkeypatch: Any = None, **facts: Any) -> FakeCoreml:
    """Let this machine be a Mac with Core ML, until the test ends. Skips where coremltools is not installed.

    Args:
        monkeypatch: Of the test; without, it is for good.
        facts: ``macos`` and ``devices`` of ``FakeCoreml``.
    """
    if find_spec("coremltools") is None:
        pytest.skip("coremltools is not installed; pip install 'yolo12edge[coreml]'")
    ct = coreml_library.import_coremltools()
    fake = FakeCoreml(ct, **facts)
    monkeypatch = pytest.MonkeyPatch() if monkeypatch is None else monkeypatch
    proxy = _proxy_of(fake)
    monkeypatch.setattr(coreml_library, "macos_version", lambda: fake.macos)
    for module in (ct.models.model, ct.models.compute_device, ct.models.compute_plan):
        monkeypatch.setattr(module, "_MLModelProxy", proxy)
    for module in (ct.models.model, ct.models.utils):
        monkeypatch.setattr(module, "_is_macos", lambda: True)
        monkeypatch.setattr(module, "_macos_version", lambda: fake.macos)
    monkeypatch.setattr(ct.models.compute_device, "_MLCPUComputeDeviceProxy", _Cpu)
    monkeypatch.setattr(ct.models.compute_device, "_MLGPUComputeDeviceProxy", _Gpu)
    monkeypatch.setattr(ct.models.compute_device, "_MLNeuralEngineComputeDeviceProxy", _Ane)
    monkeypatch.setattr(ct.models.compute_plan, "_MLComputePlanProxy", _Plan)
    return fake


def fake_artifact(
    source: Artifact, path: Path, *, image: bool = True, change: Callable[[Any], None] | None = None
) -> Artifact:
    """Write a Core ML artifact that computes what an ONNX artifact does, and whose weights are that model.

    Args:
        source: The ONNX artifact.
        path: Where the artifact goes.
        image: Whether it takes an image, or float32 of any batch that the ONNX model takes.
        change: Alters the specification before it is written.
    """
    spec = source.manifest.input
    if image:
        spec = msgspec.structs.replace(spec, dtype="uint8", layout="NHWC", color="RGB")
    manifest = msgspec.structs.replace(source.manifest, format="coreml", input=spec, files=[])
    message = specification(manifest)
    message.description.metadata.userDefined[_CARRIED] = "onnx"
    if change is not None:
        change(message)
    identifiers = [str(uuid.uuid5(uuid.NAMESPACE_URL, name)).upper() for name in (_MODEL, _WEIGHTS)]
    items = {
        identifier: {"author": "com.apple.CoreML", "description": "", "name": Path(name).name, "path": name}
        for identifier, name in zip(identifiers, (_MODEL, _WEIGHTS), strict=True)
    }
    package = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": identifiers[0]}
    files: dict[str, bytes] = {
        "model.mlpackage/Manifest.json": msgspec.json.encode(package),
        f"model.mlpackage/Data/{_MODEL}": message.SerializeToString(),
        f"model.mlpackage/Data/{_WEIGHTS}/weight.bin": source.model_file.read_bytes(),
    }
    return write_artifact(path, manifest, files)


def functions(*names: str) -> Callable[[Any], None]:
    """Return a change for ``fake_artifact``: the one program becomes several of these names, the first by default."""

    def change(message: Any) -> None:
        description = message.description
        entries = description.metadata.userDefined
        manifest = Manifest.from_embedded_json(entries.pop(EMBEDDED_KEY))
        for name in names:
            description.functions.add(name=name, input=description.input, output=description.output)
        description.ClearField("input")
        description.ClearField("output")
        description.defaultFunctionName = names[0]
        message.specificationVersion = 9
        entries[FUNCTIONS_KEY] = functions_json(dict.fromkeys(names, manifest))

    return change


def specification(manifest: Any) -> Any:
    """Return the specification of an ML program without operators: its input, outputs and metadata."""
    proto = coreml_library.import_coremltools().proto
    types, message = proto.FeatureTypes_pb2, proto.Model_pb2.Model()
    message.specificationVersion = 8
    message.mlProgram.version = 1
    spec, description = manifest.input, message.description
    given = description.input.add()
    given.name = spec.name
    if spec.pixels:
        given.type.imageType.height, given.type.imageType.width = spec.height, spec.width
        given.type.imageType.colorSpace = types.ImageFeatureType.RGB
    else:
        array = given.type.multiArrayType
        array.dataType = types.ArrayFeatureType.FLOAT32
        array.shape.extend(spec.shape(spec.least_batch))
        if spec.min_batch is not None:
            for size in spec.shape(spec.batch):
                array.shapeRange.sizeRanges.add(lowerBound=size, upperBound=size)
            array.shapeRange.sizeRanges[0].lowerBound = spec.min_batch
    for output in manifest.outputs:
        feature = description.output.add()
        feature.name = output.name
        feature.type.multiArrayType.dataType = types.ArrayFeatureType.FLOAT32
        if spec.min_batch is None:
            feature.type.multiArrayType.shape.extend(output.shape)
    description.metadata.userDefined[EMBEDDED_KEY] = manifest.to_embedded_json()
    return message
