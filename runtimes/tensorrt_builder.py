"""Typed ONNX → plan: one way for TensorRT 10.3 to 11 and TensorRT for RTX, with their differences by name.

Types are in the graph: networks are strongly typed, and nothing here chooses a precision. TensorRT measures kernels on
the GPU that the engine is for; TensorRT for RTX builds without one, for several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from io import BytesIO
from types import ModuleType
from typing import Any

from ..errors import BackendError, ExportError, MissingDependencyError
from ..manifest import EngineFacts, Layers, Manifest
from ..protobuf import NotProtobufError, fields
from .cuda.driver import CudaDevice
from .tensorrt_config import (
    BuildOptions,
    add_profile,
    check_options,
    configure,
    load_timing_cache,
    save_timing_cache,
    target_architectures,
)
from .tensorrt_inspection import attention_block, layers_of
from .tensorrt_library import Flavor, LogKeeper, import_tensorrt, one_line, platform_name, version_of
from .tensorrt_plugins import find_creator, load_plugins
from .tensorrt_progress import BuildProgress, interruptible

__all__ = ["BuildOptions", "BuiltPlan", "build_plan"]

_WARNINGS = 20  # of the library
_NO_MEMORY = re.compile(r"out\s?of\s?memory|insufficient (?:memory|workspace)|bad_alloc|MemoryAllocation", re.I)
_NO_DRIVER = re.compile(r"cudaError 35|error: 35|driver version is insufficient|no CUDA-capable device", re.I)
_GRAPH, _NODE, _NAME, _OP_TYPE, _DOMAIN = 7, 1, 3, 4, 7  # of ModelProto, GraphProto, NodeProto


@dataclass(frozen=True, slots=True, eq=False)
class BuiltPlan:
    """An engine as it goes into a file.

    Attributes:
        plan: Byte for byte what the library wrote.
        facts: What it was built with and for.
        layers: What became of the network; None where the engine cannot be opened to be asked.
        warnings: What there is to know, the library's own last.
    """

    plan: bytes
    facts: EngineFacts
    layers: Layers | None
    warnings: tuple[str, ...]


def build_plan(
    onnx: bytes,
    manifest: Manifest,
    flavor: Flavor,
    options: BuildOptions = BuildOptions(),  # noqa: B008  # it is frozen
    *,
    device: CudaDevice | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BuiltPlan:
    """Build an engine.

    Args:
        onnx: Typed ONNX, as ``tensorrt_onnx`` makes it.
        manifest: Its own; says what goes in, and in which batches.
        flavor: Which library.
        options: How.
        device: GPU to build on. None: the first; TensorRT for RTX does without if there is none.
        progress: Called with (done, total) whenever more is done. What it raises stops the build and is raised here.

    Raises:
        MissingDependencyError: If the library is not installed, or nothing to reach the GPU with.
        InputError: If an option is out of its range.
        ExportError: If the library does not take the model.
        BackendError: If there is no GPU and one is needed, an option is not to be had, a plugin is missing, memory does
            not suffice, or the build fails.
        KeyboardInterrupt: After Ctrl-C, which stops the build.
    """
    trt = import_tensorrt(flavor)
    with nullcontext(device) if device is not None else _first_device(flavor) as found:
        check_options(options, manifest.input, flavor, None if found is None else found.facts)
        if found is not None:
            found.activate()
        return _build(trt, onnx, manifest, flavor, options, found, BuildProgress(progress))


def _build(
    trt: ModuleType,
    onnx: bytes,
    manifest: Manifest,
    flavor: Flavor,
    options: BuildOptions,
    device: CudaDevice | None,
    progress: BuildProgress,
) -> BuiltPlan:
    blocks, plugins, kinds = _look_into(onnx)
    if flavor == "tensorrt-rtx" and "NonMaxSuppression" in kinds:
        raise ExportError(
            "tensorrt-rtx has no kernel that suppresses overlapping boxes",
            remedy="export without suppression in the graph: the Runtime does it",
        )
    load_plugins(trt, plugins)
    keeper = LogKeeper(trt)
    builder = _builder(trt, keeper)
    # Since 11 all networks are strongly typed, and those of TensorRT for RTX always were.
    typed = flavor == "tensorrt" and version_of(trt)[0] < 11
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if typed else 0)
    parser = trt.OnnxParser(network, keeper.logger)  # holds the weights until the engine is built
    _parse(parser, onnx, flavor)
    _let_decompose(trt, network)
    config = builder.create_builder_config()
    problem = add_profile(builder, network, config, manifest.input, options.opt_batch)
    if problem is not None:
        raise ExportError(f"the ONNX model is not what its manifest says: {problem}", remedy="export it again")
    configure(trt, config, options, flavor, exact=manifest.precision == "fp32")
    cache, warnings = load_timing_cache(trt, config, options, flavor)
    monitor = progress.monitor(trt)
    config.progress_monitor = monitor
    with interruptible(progress):
        built = builder.build_serialized_network(network, config)
    if progress.failure is not None:
        raise progress.failure
    if built is None:
        raise _failure(keeper, flavor, limited=options.workspace_bytes is not None)
    plan = bytes(built)
    if cache is not None and (unsaved := save_timing_cache(config, options)) is not None:
        warnings.append(unsaved)
    facts = _facts(trt, flavor, options, device, plugins)
    layers = None
    if device is not None:
        layers, unread = _inspect(trt, keeper, plan, facts, device, blocks)
        warnings += unread
    progress.complete()
    return BuiltPlan(plan, facts, layers, (*warnings, *keeper.warnings[:_WARNINGS]))


def _first_device(flavor: Flavor) -> Any:
    """Open the first GPU, as a context manager; of TensorRT for RTX there may be none."""
    from .cuda import open_cuda

    try:
        cuda = open_cuda()
        if cuda.device_count() == 0:
            raise BackendError("there is no NVIDIA GPU")
        return closing(cuda.open(0))
    except (BackendError, MissingDependencyError) as error:
        if flavor == "tensorrt-rtx":
            return nullcontext(None)
        if isinstance(error, MissingDependencyError):
            raise
        raise _no_gpu(error.fact) from error


def _no_gpu(fact: str) -> BackendError:
    return BackendError(
        f"TensorRT cannot build an engine here: {fact.rstrip('.')}",
        expected="an NVIDIA GPU and its driver",
        remedy="build on the device: export with --on-device, or run yolo12edge export there",
    )


def _builder(trt: ModuleType, keeper: LogKeeper) -> Any:
    try:
        builder = trt.Builder(keeper.logger)
    except (TypeError, RuntimeError) as error:  # the bindings make an exception of a null pointer
        raise _no_gpu(keeper.last_error() if keeper.errors else str(error)) from error
    if builder is None:
        raise _no_gpu(keeper.last_error())
    return builder


def _look_into(onnx: bytes) -> tuple[int, list[str], set[str]]:
    """Return how many attention blocks a model has, its plugins as ``namespace::name``, and ONNX's operators in it."""
    blocks: set[str] = set()
    plugins: dict[str, None] = {}
    kinds: set[str] = set()
    try:
        for name, operator, domain in _nodes(onnx):
            if (block := attention_block(name)) is not None:
                blocks.add(block)
            if domain in ("", "ai.onnx"):
                kinds.add(operator)
            else:
                plugins[f"{domain}::{operator}"] = None
    except (NotProtobufError, UnicodeDecodeError) as error:
        raise ExportError(f"the model is not ONNX, or is damaged: {error}", remedy="export it again") from error
    return len(blocks), list(plugins), kinds


def _nodes(onnx: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield name, operator and domain of each node, without the ``onnx`` package; weights are skipped."""
    file = BytesIO(onnx)
    for part in fields(file, len(onnx)):
        if part.number != _GRAPH:
            continue
        file.seek(part.start)
        for node in fields(file, part.start + part.length):
            if node.number == _NODE:
                file.seek(node.start)
                texts = {
                    field.number: onnx[field.start : field.start + field.length].decode()
                    for field in fields(file, node.start + node.length)
                    if field.number in (_NAME, _OP_TYPE, _DOMAIN)
                }
                yield texts.get(_NAME, ""), texts.get(_OP_TYPE, ""), texts.get(_DOMAIN, "")


def _parse(parser: Any, onnx: bytes, flavor: Flavor) -> None:
    if parser.parse(onnx) and parser.num_errors == 0:
        return
    problems = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = one_line(error.node_name() or "")
        place = f"{node} ({one_line(error.node_operator() or 'no operator')}): " if node else ""
        problems.append(place + one_line(error.desc() or "no reason given"))
    raise ExportError(
        f"{flavor} does not take the model: " + ("; ".join(dict.fromkeys(problems)) or "it gave no reason"),
        remedy="export it again with this version of yolo12edge; if it was, report it with the version of TensorRT",
    )


def _let_decompose(trt: ModuleType, network: Any) -> None:
    """Let attention in float32 be computed step by step: no version has a fused kernel for it, and by default it must.

    In float16 there is one for every shape of this model, so where it is not fused, that is an error and not silence.
    """
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    for index in range(network.num_layers if kind is not None else 0):
        layer = network.get_layer(index)
        if layer.type == kind:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings' way to cast
            if layer.attention.get_input(0).dtype == trt.float32:
                layer.attention.decomposable = True


def _failure(keeper: LogKeeper, flavor: Flavor, *, limited: bool) -> BackendError:
    """Say why nothing was built; several errors may tell it, the first being the cause and the last the summary."""
    errors = keeper.errors or (keeper.last_error(),)
    text = "; ".join(dict.fromkeys((errors[0], errors[-1])))
    if any(_NO_MEMORY.search(error) for error in errors):
        remedy = "close other programs, give a smaller batch or a lower optimization level; on Jetson add swap"
        remedy = f"give more workspace, or {remedy}" if limited else f"give less workspace, {remedy}"
        return BackendError(f"memory does not suffice to build the engine: {text}", remedy=remedy)
    if any("decomposable" in error for error in errors):
        return BackendError(
            f"{flavor} has no kernel for the model's attention: {text}", remedy="export with --attention native"
        )
    if any(_NO_DRIVER.search(error) for error in errors):
        return _no_gpu(text)
    return BackendError(f"{flavor} could not build the engine: {text}", remedy="report it with the version and the GPU")


def _facts(
    trt: ModuleType, flavor: Flavor, options: BuildOptions, device: CudaDevice | None, plugins: list[str]
) -> EngineFacts:
    if flavor == "tensorrt-rtx":
        architectures = target_architectures(trt, options)
    else:
        assert device is not None  # _first_device raised otherwise
        architectures = [device.facts.architecture]
    return EngineFacts(
        library=flavor,
        version=".".join(map(str, version_of(trt))),
        cuda="" if device is None else "{}.{}".format(*device.facts.driver_cuda),
        architectures=architectures,
        platform=platform_name(),
        # Without a target, an engine of TensorRT for RTX also holds code that the driver compiles for newer GPUs.
        hardware_compatible=options.hardware_compatible if flavor == "tensorrt" else not options.architectures,
        version_compatible=options.version_compatible,
        plugins=[name for name in plugins if not _is_baked_in(trt, name)],
    )


def _is_baked_in(trt: ModuleType, name: str) -> bool:
    """Whether the plugin's kernel is part of the engine, as of those that Python registers ahead of time."""
    kind = getattr(trt, "IPluginCreatorV3Quick", None)
    return kind is not None and isinstance(find_creator(trt, name), kind)


def _inspect(
    trt: ModuleType, keeper: LogKeeper, plan: bytes, facts: EngineFacts, device: CudaDevice, blocks: int
) -> tuple[Layers | None, list[str]]:
    """Open the engine and ask it for its layers; what does not open here though it should is an error."""
    runtime = trt.Runtime(keeper.logger)
    if facts.version_compatible:
        runtime.engine_host_code_allowed = True  # its runtime lies in the plan, which was made a moment ago
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if facts.library == "tensorrt-rtx" and device.facts.architecture not in facts.architectures:
            return None, [f"the engine is not for {device.facts.architecture}, and was not opened here"]
        raise BackendError(
            f"{facts.library} does not read the engine that it has built: {keeper.last_error()}",
            remedy="report it with the version and the GPU",
        )
    try:
        return layers_of(trt, engine, attention_blocks=blocks), []
    except BackendError as error:
        return None, [one_line(str(error))]
