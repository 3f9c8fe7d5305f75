"""TensorRT engines that Ultralytics exported: what it writes before the plan tells how to feed and read them."""

from __future__ import annotations

from pathlib import Path

from ..errors import ArtifactError, InputError
from ..foreign import manifest_of_engine
from ..manifest import EngineFacts, Manifest
from .cuda.driver import DeviceFacts
from .plan_file import read_leading_metadata, read_plan_header
from .tensorrt_library import platform_name

__all__ = ["facts_of_foreign", "read_foreign_engine"]


def read_foreign_engine(path: Path) -> tuple[Manifest, bytes]:
    """Read a lone ``.engine`` file.

    Returns:
        A manifest made of its metadata, and the plan without these.

    Raises:
        InputError: If there are none: the engine of an artifact without its directory, or of another tool.
        ArtifactError: If it is damaged, or no model that can be run.
    """
    entries, offset = read_leading_metadata(path)
    if not entries:
        raise InputError(
            f"{path} is a lone TensorRT engine, which does not say how it is fed and where it runs",
            expected="the artifact directory that 'yolo12edge export --format tensorrt' wrote",
            remedy="name that directory; of an engine that another tool made, name the .onnx file it was built from",
        )
    header = read_plan_header(path, offset=offset)
    manifest = manifest_of_engine(path, entries, header.library)
    try:
        return manifest, path.read_bytes()[offset:]
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def facts_of_foreign(plan: Path | bytes, device: DeviceFacts) -> EngineFacts:
    """Return what is known of a foreign engine: library and version. That it is for this GPU is taken on trust.

    Raises:
        ArtifactError: If its header does not tell the version.
    """
    header = read_plan_header(plan)
    if header.version is None:
        raise ArtifactError(
            "the engine does not tell which version of TensorRT made it", remedy="export it again on this device"
        )
    return EngineFacts(
        library=header.library,
        version=".".join(map(str, header.version[:3])),
        architectures=[device.architecture],
        platform=platform_name(),
    )
