"""A folder that is made of an artifact by its manifest alone: what Triton and DeepStream have in common.

Neither is asked to make an engine of its own where yolo12edge would make another one: typed ONNX that waits for its
device is refused, because a builder that does not know its types would compute in others, unchecked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..artifact import Artifact
from ..errors import ArtifactError, InputError
from ..files import atomic_directory
from ..manifest import Manifest

__all__ = ["BUILD_HERE", "LABELS_NAME", "Deployment", "engine_notes", "label_lines", "only_file", "write_folder"]

LABELS_NAME = "labels.txt"
BUILD_HERE = "make the engine on the GPU that will run it: 'yolo12edge export --format tensorrt' without --on-device"
"""Remedy where an engine is needed."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was written.

    Attributes:
        path: The folder.
        notes: What else is needed to run it, in sentences.
    """

    path: Path
    notes: tuple[str, ...]


def only_file(artifact: Artifact) -> Path:
    """Return the model of an artifact of one file.

    Raises:
        ArtifactError: If it has more.
    """
    if len(artifact.manifest.files) != 1:
        names = ", ".join(entry.path for entry in artifact.manifest.files)
        raise ArtifactError(f"{artifact.path} holds {names}", expected="one file: weights in it, not beside it")
    return artifact.model_file


def engine_notes(manifest: Manifest, program: str) -> list[str]:
    """Return where an engine runs, in sentences; nothing of other models."""
    engine = manifest.engine
    if engine is None:
        return []
    version = f"TensorRT {engine.version}{' or newer' if engine.version_compatible else ''}"
    others = " and other GPUs from Ampere on" if engine.hardware_compatible else " only"
    return [f"The engine runs on {', '.join(engine.architectures)}{others}, in a {program} that comes with {version}."]


def label_lines(names: Sequence[str]) -> str:
    """Return one label a line; what is no printable character would break the line or the screen."""
    return "".join("".join(char if char.isprintable() else "?" for char in name) + "\n" for name in names)


def write_folder(
    target: Path,
    texts: Mapping[str, str],
    copies: Mapping[str, Path],
    *,
    own: str,
    others: Iterable[str],
    overwrite: bool,
) -> None:
    """Write a folder in one step; one that is there is replaced only if all in it is of the same making.

    Args:
        target: The folder.
        texts: Content by path.
        copies: Files to copy by path.
        own: The file that tells that a folder is of this making.
        others: What else may lie in a folder that is replaced.
        overwrite: Whether it may be replaced.

    Raises:
        InputError: If the folder cannot be written, or is there and must not be replaced.
    """
    expected = {*texts, *copies, *others}

    def check(folder: Path) -> None:
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        strange = sorted(found - expected)
        if own not in found or strange:
            what = f"also holds {strange[0]}" if own in found else f"holds no {own}"
            raise InputError(f"{folder} {what} and is not replaced", remedy="name another folder, or delete it first")

    with atomic_directory(target, overwrite=overwrite, check=check) as building:
        try:
            for name, text in texts.items():
                (building / name).write_text(text, encoding="utf-8", newline="\n")
            for name, source in copies.items():
                (building / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source, building / name)
        except OSError as error:
            raise InputError(f"cannot write {target}: {error}") from error
