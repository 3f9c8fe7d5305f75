"""Engines that are built on the device when a model is first opened there, and kept for the next time.

An entry is the plan, a JSON file with its digest and facts, and a lock. Its name holds all that an engine depends on,
so that an update of TensorRT or another GPU simply finds none.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import msgspec

from ..errors import ArtifactError, BackendError, InputError
from ..files import atomic_file, cache_folder, sha256_of
from ..manifest import PLAN_SUFFIX, EngineFacts, Manifest, Sha256
from .cuda.driver import CudaDevice, DeviceFacts
from .plan_file import check_plan
from .tensorrt_builder import BuildOptions, build_plan
from .tensorrt_library import Flavor, import_tensorrt, platform_name

__all__ = ["engine_for_device"]

_FACTS_LIMIT = 1 << 20  # bytes of an entry's JSON


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of a plan in the cache."""

    sha256: Sha256
    facts: EngineFacts


def engine_for_device(
    onnx: Path,
    manifest: Manifest,
    flavor: Flavor,
    *,
    device: CudaDevice,
    cache: Path | None = None,
    options: BuildOptions = BuildOptions(),  # noqa: B008  # it is frozen
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, EngineFacts]:
    """Return an engine of a model for a device, from the cache or built now.

    Of several processes that need the same engine, one builds it and the others wait. An entry that is damaged or does
    not fit is built again, with a ``RuntimeWarning``; so is the start of a build told.

    Args:
        onnx: Typed ONNX of an artifact, whose digest was checked.
        manifest: Of the artifact.
        flavor: Which library.
        device: The GPU.
        cache: Folder; None: ``files.cache_folder``.
        options: How to build. TensorRT for RTX builds for this device alone where it knows its architecture.
        progress: As of ``build_plan``; not called if nothing is built.

    Raises:
        ArtifactError: If the model cannot be read.
        BackendError: If the folder cannot be used; also as ``build_plan``, like all that it raises.
    """
    trt = import_tensorrt(flavor)
    facts = device.facts
    if flavor == "tensorrt-rtx" and not options.architectures and _knows(trt, facts.architecture):
        options = replace(options, architectures=(facts.architecture,))
    folder = cache or cache_folder()
    plan = folder / (_name(onnx, manifest, trt, facts, options) + PLAN_SUFFIX)
    device.activate()
    known, _ = _lookup(plan, trt, facts)
    if known is not None:
        return plan, known
    with _locked(plan):
        known, problem = _lookup(plan, trt, facts)  # another process may have built it meanwhile
        if known is not None:
            return plan, known
        if problem is not None:
            warnings.warn(f"the engine {plan} is built again: {problem}", RuntimeWarning, stacklevel=2)
        warnings.warn(
            f"the engine is built for {facts.name} now, and kept: this may take minutes, and happens once",
            RuntimeWarning,
            stacklevel=2,
        )
        built = build_plan(onnx.read_bytes(), manifest, flavor, options, device=device, progress=progress)
        for warning in built.warnings:
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
        entry = _Entry(sha256=hashlib.sha256(built.plan).hexdigest(), facts=built.facts)
        for path, content in ((plan, built.plan), (plan.with_suffix(".json"), msgspec.json.encode(entry))):
            try:
                with atomic_file(path) as temporary:
                    temporary.write_bytes(content)
            except (InputError, OSError) as error:
                raise _unusable(plan.parent, error) from error
    return plan, built.facts


def _knows(trt: ModuleType, architecture: str) -> bool:
    return architecture.replace("_", "").upper() in trt.ComputeCapability.__members__


def _name(onnx: Path, manifest: Manifest, trt: ModuleType, device: DeviceFacts, options: BuildOptions) -> str:
    """Return a file name for all that an engine depends on, part of it readable."""
    try:
        model = sha256_of(onnx)
    except OSError as error:
        raise ArtifactError(f"cannot read {onnx}: {error.strerror}") from error
    # Neither where timings are kept nor how long a build may take changes what the engine is.
    rest = (
        manifest.precision,
        msgspec.to_builtins(manifest.input),
        device.name,
        sorted((key, str(getattr(options, key))) for key in BuildOptions.__slots__ if key != "timing_cache"),
    )
    digest = hashlib.sha256(msgspec.json.encode(rest)).hexdigest()
    version = re.sub(r"[^0-9A-Za-z.]", "-", str(trt.__version__))
    return f"{model[:16]}-{trt.__name__}-{version}-{device.architecture}-{platform_name()}-{digest[:8]}"


def _lookup(plan: Path, trt: ModuleType, device: DeviceFacts) -> tuple[EngineFacts | None, str | None]:
    """Return the facts of an engine that can be used; else why not, or two Nones if there is none."""
    try:
        with plan.with_suffix(".json").open("rb") as file:
            entry = msgspec.json.decode(file.read(_FACTS_LIMIT), type=_Entry)
        if sha256_of(plan) != entry.sha256:
            return None, "it was altered"
        check_plan(plan, entry.facts, trt=trt, device=device)
    except FileNotFoundError:
        return None, None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        return None, f"it cannot be read ({type(error).__name__})"
    except ArtifactError as error:
        return None, error.fact
    return entry.facts, None


@contextmanager
def _locked(plan: Path) -> Iterator[None]:
    """Let one process at a time build an engine; without file locks, as on Windows, the last one's stays."""
    try:
        plan.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = plan.with_suffix(".lock").open("ab")
    except OSError as error:
        raise _unusable(plan.parent, error) from error
    with file:
        try:
            import fcntl
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, also if the process dies
        except OSError as error:  # some network file systems have none
            raise _unusable(plan.parent, error) from error
        yield


def _unusable(folder: Path, error: InputError | OSError) -> BackendError:
    return BackendError(
        f"cannot keep engines in {folder}: {error.fact if isinstance(error, InputError) else error.strerror}",
        expected="a folder that can be written, with room for an engine",
        remedy="name another one as cache, or let XDG_CACHE_HOME name one",
    )
