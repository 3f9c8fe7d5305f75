"""How an engine is built: the options, which library and device has which, and their way into ``IBuilderConfig``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BackendError, InputError
from ..files import atomic_file
from ..manifest import InputSpec
from .cuda.driver import DeviceFacts
from .tensorrt_library import Flavor, one_line

__all__ = [
    "BuildOptions",
    "add_profile",
    "check_options",
    "configure",
    "load_timing_cache",
    "save_timing_cache",
    "target_architectures",
]

_TIMING_LIMIT = 1 << 30  # bytes of a timing cache
_MOST_WORKSPACE = 1 << 40  # more than any GPU has, and less than the library's arithmetic overflows at


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an engine is built; the defaults are the library's.

    Attributes:
        workspace_bytes: Most scratch memory that a layer may use. None: all of the device.
        timing_cache: File that keeps what was measured, so that the next build takes seconds; made if it is not there.
        opt_batch: The batch that the engine is tuned for. None: the largest.
        hardware_compatible: Let the engine run on all GPUs from Ampere on (not on Jetson), at some cost of speed.
        version_compatible: Let newer versions of TensorRT run the engine, at some cost of speed.
        refit: Let the weights be replaced later.
        dla: Core of the deep learning accelerator; always refused, see ``check_options``.
        optimization_level: 0 (fast to build) to 5 (fast to run).
        architectures: GPUs that an engine of TensorRT for RTX is for, such as ``("sm_86",)``. Empty: all from sm_80 on.
    """

    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    opt_batch: int | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False
    refit: bool = False
    dla: int | None = None
    optimization_level: int | None = None
    architectures: tuple[str, ...] = ()


def check_options(options: BuildOptions, spec: InputSpec, flavor: Flavor, device: DeviceFacts | None) -> None:
    """Refuse what the model, the library or the device does not have.

    Raises:
        InputError: If a number is out of its range.
        BackendError: If an option is not to be had here.
    """
    if options.workspace_bytes is not None and not 1 <= options.workspace_bytes <= _MOST_WORKSPACE:
        raise InputError(f"workspace_bytes is {options.workspace_bytes}", expected=f"1 to {_MOST_WORKSPACE}")
    if options.optimization_level is not None and not 0 <= options.optimization_level <= 5:
        raise InputError(f"optimization_level is {options.optimization_level}", expected="0 to 5")
    if options.opt_batch is not None and not spec.least_batch <= options.opt_batch <= spec.batch:
        raise InputError(
            f"opt_batch is {options.opt_batch}", expected=f"{spec.least_batch} to {spec.batch}, which the model takes"
        )
    if options.dla is not None:
        raise BackendError(
            f"the model does not run on DLA core {options.dla}: a DLA computes no attention, so every block of it "
            "would go to the GPU and back; Orin Nano and Thor have no DLA, and TensorRT 11.0 to 11.3 use none",
            remedy="build for the GPU: leave dla out",
        )
    if flavor == "tensorrt-rtx":
        _check_rtx(options, device)
    elif options.architectures:
        raise BackendError(
            f"tensorrt builds for the GPU that it finds, not for {', '.join(options.architectures)}",
            remedy="build on that GPU, or use --format tensorrt-rtx",
        )
    elif options.hardware_compatible and device is not None:
        if device.integrated:
            raise BackendError(
                f"TensorRT builds no engines for other GPUs on Jetson, which {device.name} is",
                remedy="leave hardware_compatible out, and build on each kind of device",
            )
        if device.compute_capability < (8, 0):
            raise BackendError(
                f"{device.name} is {device.architecture}",
                expected="sm_80 or newer, to build engines for all GPUs from Ampere on",
                remedy="leave hardware_compatible out",
            )


def _check_rtx(options: BuildOptions, device: DeviceFacts | None) -> None:
    if options.version_compatible:
        raise BackendError(
            "an engine of tensorrt-rtx is for one version of it", remedy="leave version_compatible out, and build again"
        )
    if options.hardware_compatible:
        raise BackendError(
            "tensorrt-rtx has no such switch: its engines are for all GPUs from sm_80 on, or for those that are named",
            remedy="leave hardware_compatible out, or name architectures",
        )
    if options.refit and device is None:
        raise BackendError(
            "tensorrt-rtx needs a GPU to build an engine whose weights can be replaced",
            remedy="build on the device, or leave refit out",
        )


def configure(trt: ModuleType, config: Any, options: BuildOptions, flavor: Flavor, *, exact: bool) -> None:
    """Set what the options say.

    Args:
        trt: The library.
        config: An ``IBuilderConfig``.
        options: Checked ones.
        flavor: Which library.
        exact: Whether float32 is to be float32: by default its products are rounded to TF32.

    Raises:
        BackendError: If a GPU that is named is none that the library builds for.
    """
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if exact:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if flavor == "tensorrt-rtx" and options.architectures:
        known = trt.ComputeCapability.__members__
        config.num_compute_capabilities = len(options.architectures)
        for index, name in enumerate(target_architectures(trt, options)):
            if not config.set_compute_capability(known[_member(name)], index):
                raise BackendError(f"tensorrt-rtx {trt.__version__} does not build for {name}")


def target_architectures(trt: ModuleType, options: BuildOptions) -> list[str]:
    """Return the GPUs that TensorRT for RTX builds for.

    Raises:
        BackendError: If one that is named is none of its own.
    """
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    for name in options.architectures:
        if _member(name) not in known:
            raise BackendError(
                f"tensorrt-rtx {trt.__version__} does not build for {name}",
                expected=", ".join(f"sm_{member[2:]}" for member in known),
                remedy="leave architectures out: an engine for all GPUs from sm_80 on may run there, too",
            )
    return list(options.architectures) or [f"sm_{member[2:]}" for member in known if int(member[2:]) >= 80]


def _member(architecture: str) -> str:
    return architecture.replace("_", "").upper()


def add_profile(builder: Any, network: Any, config: Any, spec: InputSpec, opt_batch: int | None) -> str | None:
    """Say which batches the engine takes.

    Returns:
        Why the network's input is not the manifest's, or None if it is.
    """
    if network.num_inputs != 1:
        return f"it has {network.num_inputs} inputs, not 1"
    tensor = network.get_input(0)
    found, free = tuple(tensor.shape), spec.min_batch is not None
    wanted = spec.shape(-1 if free else spec.batch)
    if tensor.name != spec.name or found != wanted:
        return f"its input is {tensor.name} {found}, not {spec.name} {wanted}"
    if spec.min_batch is not None:
        profile = builder.create_optimization_profile()
        shapes = (spec.shape(batch) for batch in (spec.min_batch, opt_batch or spec.batch, spec.batch))
        profile.set_shape(spec.name, *shapes)
        if config.add_optimization_profile(profile) < 0:
            return f"it does not take batches from {spec.min_batch} to {spec.batch}"
    return None


def load_timing_cache(trt: ModuleType, config: Any, options: BuildOptions, flavor: Flavor) -> tuple[Any, list[str]]:
    """Give the builder what was measured before.

    A cache of another version or GPU is left alone; the builder then measures, and the file is replaced.

    Returns:
        The cache, which must live as long as the build, or None; and what there is to warn of.
    """
    if options.timing_cache is None:
        return None, []
    if flavor == "tensorrt-rtx":
        return None, [f"tensorrt-rtx measures nothing while it builds: {options.timing_cache} is not used"]
    warnings = []
    try:
        with options.timing_cache.open("rb") as file:
            content = file.read(_TIMING_LIMIT)
    except FileNotFoundError:
        content = b""
    except OSError as error:
        warnings.append(f"cannot read the timing cache {options.timing_cache}: {error.strerror}")
        content = b""
    if content:
        cache = _attached(config, content)
        if cache is not None:
            return cache, warnings
        warnings.append(f"{options.timing_cache} is of another GPU or version of TensorRT, or damaged, and not used")
    return _attached(config, b""), warnings


def _attached(config: Any, content: bytes) -> Any | None:
    try:
        cache = config.create_timing_cache(content)
        return cache if cache is not None and config.set_timing_cache(cache, False) else None
    except (RuntimeError, TypeError, ValueError):  # the bindings make an exception of a null pointer
        return None


def save_timing_cache(config: Any, options: BuildOptions) -> str | None:
    """Write what was measured; two builds at once do not disturb each other, and the last one stays.

    Returns:
        Why it could not be written, or None.
    """
    cache = config.get_timing_cache()
    content = None if cache is None else cache.serialize()
    if options.timing_cache is None or content is None:
        return None
    try:
        with atomic_file(options.timing_cache) as temporary:
            temporary.write_bytes(bytes(content))
    except (InputError, OSError) as error:
        return f"the timing cache was not written: {one_line(str(error))}"
    return None
