"""Plans, the files of TensorRT engines: what their first bytes say, and whether an engine can run here.

A library that is given a plan of another version, GPU or system at best returns nothing and at worst ends the process,
so everything that can be told beforehand is. TensorRT documents of its header the tag and the place of the version (in
its tool ``trtexec``); of TensorRT for RTX this is what its plans hold: the tag, their length and the version.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import msgspec

from ..errors import ArtifactError
from ..manifest import EngineFacts
from .cuda.driver import DeviceFacts
from .tensorrt_library import Flavor, LogKeeper, build_number, flavor_of, platform_name, version_of

__all__ = ["METADATA_LIMIT", "PlanHeader", "check_plan", "read_leading_metadata", "read_plan_header"]

METADATA_LIMIT = 1 << 20
"""Most bytes of metadata before a plan that are read."""
_HEADER = 32
_TAGS: dict[bytes, Flavor] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
_AGAIN = "build it on the device: yolo12edge export … --format {flavor} --on-device, or export again there"
_BRANCHES = frozenset({(10, 11), (8, 10)})  # major versions that read each other's version-compatible engines


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What the first bytes of a plan say.

    Attributes:
        library: Which library wrote it.
        version: Of the library: major, minor, patch and build; None in a form of header that is not known.
    """

    library: Flavor
    version: tuple[int, int, int, int] | None


def read_plan_header(plan: Path | bytes, *, offset: int = 0) -> PlanHeader:
    """Read the first bytes of a plan, and whether the rest is there where they tell how long it is.

    TensorRT for RTX writes the length; TensorRT's header is not documented that far, so a plan of it that was cut off
    shows only by the digest in a manifest, or when it is read.

    Args:
        plan: File, or its content.
        offset: Where the plan begins.

    Raises:
        ArtifactError: If it is no plan, cannot be read, or is shorter than it says.
    """
    where = str(plan) if isinstance(plan, Path) else "the engine"
    try:
        with _opened(plan) as file:
            size = file.seek(0, os.SEEK_END) - offset
            file.seek(offset)
            head = file.read(_HEADER)
    except OSError as error:
        raise ArtifactError(f"cannot read {where}: {error.strerror}") from error
    library = _TAGS.get(head[:4])
    if library is None:
        raise ArtifactError(
            f"{where} is not a TensorRT engine" if head else f"{where} is empty",
            expected="a file that begins with 'ftrt' (TensorRT) or 'vtrt' (TensorRT for RTX)",
            remedy="name an engine, or copy it again",
        )
    if len(head) < _HEADER:
        raise ArtifactError(f"{where} was cut off after {size} bytes", remedy="copy it again")
    form, version = struct.unpack_from("<I", head, 4)[0], (head[24], head[25], head[26], head[27])
    if library == "tensorrt-rtx" and form == 0:
        length = struct.unpack_from("<Q", head, 16)[0]
        if size != length:
            raise ArtifactError(f"{where} has {size} bytes", expected=f"{length} bytes", remedy="copy it again")
    return PlanHeader(library, version if form == 0 else None)


def check_plan(plan: Path | bytes, facts: EngineFacts, *, trt: ModuleType, device: DeviceFacts) -> None:
    """Refuse an engine that cannot run here, before it is given to the library.

    Plugins are the part of ``load_plugins``. The device's context should be the current one: TensorRT for RTX looks at
    the GPU itself.

    Args:
        plan: The file, or its content.
        facts: What its manifest says of it.
        trt: The library that would read it.
        device: The GPU it would run on.

    Raises:
        ArtifactError: If it is damaged as far as that shows, or was made with or for something else: another library,
            version, system or GPU.
    """
    flavor = flavor_of(trt)
    header = read_plan_header(plan)
    if header.library != facts.library:
        raise ArtifactError(
            f"the engine is one of {header.library}", expected=f"one of {facts.library}, as its manifest says"
        )
    if facts.library != flavor:
        raise ArtifactError(
            f"the engine is one of {facts.library}",
            expected=f"one of {flavor}",
            remedy=f"open it with {facts.library}, or export again with --format {flavor}",
        )
    _check_version(facts, header, trt, flavor)
    here = platform_name()
    if facts.platform != here:
        raise ArtifactError(
            f"the engine was built on {facts.platform}", expected=here, remedy=_AGAIN.format(flavor=flavor)
        )
    if not _covers(facts, device):
        raise ArtifactError(
            f"the engine was built for {', '.join(facts.architectures)}",
            expected=f"{device.architecture}, which {device.name} is",
            remedy=_AGAIN.format(flavor=flavor),
        )
    if flavor == "tensorrt-rtx":
        _ask_library(plan, trt)


def read_leading_metadata(plan: Path | bytes) -> tuple[dict[str, Any], int]:
    """Read what Ultralytics writes before a plan: the length as four bytes, little-endian, and JSON.

    Returns:
        The entries, and where the plan begins; nothing and 0 if the file begins with the plan.

    Raises:
        ArtifactError: If the file cannot be read, or is neither.
    """
    where = str(plan) if isinstance(plan, Path) else "the engine"
    try:
        with _opened(plan) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(4)
            if head in _TAGS:
                return {}, 0
            length = int.from_bytes(head, "little")
            text = file.read(length) if len(head) == 4 and 0 < length <= min(METADATA_LIMIT, size - 8) else b""
            tag = file.read(4)
    except OSError as error:
        raise ArtifactError(f"cannot read {where}: {error.strerror}") from error
    if not text or tag not in _TAGS:
        raise ArtifactError(
            f"{where} is not a TensorRT engine",
            expected="an engine, or the metadata that Ultralytics writes and then an engine",
            remedy="export it again",
        )
    try:
        entries = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ArtifactError(f"the metadata before {where} is not valid JSON", remedy="export it again") from error
    if not isinstance(entries, dict):
        raise ArtifactError(f"the metadata before {where} has no entries", remedy="export it again")
    return entries, 4 + length


def _opened(plan: Path | bytes) -> BinaryIO:
    return plan.open("rb") if isinstance(plan, Path) else BytesIO(plan)


def _check_version(facts: EngineFacts, header: PlanHeader, trt: ModuleType, flavor: Flavor) -> None:
    """Compare versions by the header where it tells one; a plan is for one version unless it was built for later ones.

    RTX engines are for one version always.
    """
    here = version_of(trt)
    made = header.version[:3] if header.version is not None else _numbers(facts.version)
    shown = ".".join(map(str, made))
    remedy = _AGAIN.format(flavor=flavor) + f" with {flavor} {'.'.join(map(str, here))}"
    if header.version is not None and _numbers(facts.version) != made:
        raise ArtifactError(
            f"the engine was built with {flavor} {shown}", expected=f"{facts.version}, as its manifest says"
        )
    if made == here:
        build = build_number(trt)
        if facts.version_compatible or header.version is None or build in (None, header.version[3]):
            return
        raise ArtifactError(
            f"the engine was built with {flavor} {shown}.{header.version[3]}",
            expected=f"{shown}.{build}, which is installed here",
            remedy=remedy,
        )
    later = here > made and (here[0] == made[0] or (made[0], here[0]) in _BRANCHES)
    if facts.version_compatible and flavor == "tensorrt" and later:
        return
    raise ArtifactError(
        f"the engine was built with {flavor} {shown}"
        + (", for later versions too" if facts.version_compatible else ""),
        expected=f"{'.'.join(map(str, here))}, which is installed here",
        remedy=remedy,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else -1 for part in version.split(".")[:3])


def _covers(facts: EngineFacts, device: DeviceFacts) -> bool:
    """Whether the engine may run on the device.

    Engines built for Ampere and newer run on all of those but Jetson. Which GPUs that it does not name an engine of
    TensorRT for RTX runs on, the library itself says.
    """
    if device.architecture in facts.architectures:
        return True
    if not facts.hardware_compatible or device.compute_capability < (8, 0):
        return False
    return facts.library == "tensorrt-rtx" or not device.integrated


def _ask_library(plan: Path | bytes, trt: ModuleType) -> None:
    """Let TensorRT for RTX judge the header by its own rules: GPU, driver and memory."""
    keeper = LogKeeper(trt)
    runtime = trt.Runtime(keeper.logger)
    with _opened(plan) as file:
        validity, found = runtime.get_engine_validity(file.read(runtime.engine_header_size))
    if validity == trt.EngineValidity.INVALID:
        members = trt.EngineInvalidityDiagnostics.__members__
        reasons = [name.lower().replace("_", " ") for name, value in members.items() if int(found) & int(value)]
        raise ArtifactError(
            f"tensorrt-rtx cannot run the engine here: {', '.join(reasons) or keeper.last_error()}",
            remedy=_AGAIN.format(flavor="tensorrt-rtx") + "; where the driver is too old, update it",
        )
