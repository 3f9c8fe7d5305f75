"""``Artifact``: a directory with a model and the manifest that says what it is.

The format is described in ``docs/artifact-format.md``.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from .errors import ArtifactError, InputError
from .files import atomic_directory, atomic_file, sha256_of
from .foreign import METADATA_NAME, manifest_of_onnx, manifest_of_openvino
from .manifest import COPY_AGAIN, EMBEDDED_KEY, MANIFEST_LIMIT, FileEntry, Manifest, Report
from .onnx_metadata import read_onnx_metadata
from .openvino_metadata import read_openvino_metadata

__all__ = [
    "CARD_NAMES",
    "MANIFEST_NAME",
    "Artifact",
    "check_float_onnx",
    "read_embedded_manifest",
    "read_lone_manifest",
    "read_manifest",
    "verify_file",
    "with_report",
    "write_artifact",
]

MANIFEST_NAME = "manifest.json"
CARD_NAMES = ("report.json", "report.html")
"""The report card that lies beside a model: for people, so the manifest does not list it and it may be deleted."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact on disk; ``load`` and ``write_artifact`` make one.

    Attributes:
        path: Its directory.
        manifest: What it is.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read the manifest of an artifact and verify size and SHA-256 of every file that it lists.

        Raises:
            ArtifactError: If the directory or a file is missing, a file was altered or lies outside of the directory,
                or the manifest is not valid.
        """
        directory = Path(path)
        manifest = read_manifest(directory)
        for entry in manifest.files:
            verify_file(directory, entry)
        return cls(directory, manifest)

    def file(self, name: str) -> Path:
        """Return where a file lies that the manifest lists.

        Args:
            name: Its path in the manifest.

        Raises:
            ArtifactError: If the manifest does not list it.
        """
        names = [entry.path for entry in self.manifest.files]
        if name not in names:
            raise ArtifactError(f"{self.path} has no file {name!r}", expected=f"one of {', '.join(names)}")
        return self.path / name

    @property
    def model_file(self) -> Path:
        """The file to hand to the engine: the first that the manifest lists."""
        return self.file(self.manifest.files[0].path)


def read_manifest(directory: Path) -> Manifest:
    """Read and validate the ``manifest.json`` of an artifact; its files are not looked at.

    Raises:
        ArtifactError: If it is missing, not a regular file inside of the directory, or not valid.
    """
    if not directory.is_dir():
        fact = f"{directory} is a file" if directory.exists() else f"{directory} does not exist"
        raise ArtifactError(
            fact,
            expected=f"a directory with {MANIFEST_NAME}",
            remedy="name an artifact: a directory that 'yolo12edge export' wrote",
        )
    if not os.path.lexists(directory / MANIFEST_NAME):
        models = [path for path in directory.glob("*") if path.suffix.lower() in (".onnx", ".xml")]
        raise ArtifactError(
            f"{directory} is no artifact: it has no {MANIFEST_NAME}",
            expected="a directory that 'yolo12edge export' wrote",
            remedy=f"it holds {models[0].name}: name that file" if len(models) == 1 else "",
        )
    place = _inside(directory, MANIFEST_NAME)
    return Manifest.from_json(_read(place, MANIFEST_LIMIT + 1), source=str(directory / MANIFEST_NAME))


def verify_file(directory: Path, entry: FileEntry) -> None:
    """Check that a listed file is there, inside of the directory, and unaltered.

    Raises:
        ArtifactError: If not.
    """
    place = _inside(directory, entry.path)
    try:
        size = place.stat().st_size
        if size != entry.bytes:
            raise ArtifactError(f"{place} has {size} bytes", expected=f"{entry.bytes} bytes", remedy=COPY_AGAIN)
        digest = sha256_of(place)
    except OSError as error:
        raise ArtifactError(f"cannot read {place}: {error.strerror}") from error
    if digest != entry.sha256:
        raise ArtifactError(
            f"{place} was altered: its SHA-256 is {digest[:16]}…", expected=f"{entry.sha256[:16]}…", remedy=COPY_AGAIN
        )


def check_float_onnx(manifest: Manifest, source: Path) -> None:
    """Refuse what is not FP32 ONNX, the form that all others are made from.

    Args:
        manifest: Of the artifact.
        source: Where it lies, for the message.

    Raises:
        InputError: If it is another form.
    """
    if (manifest.format, manifest.precision) != ("onnx", "fp32"):
        raise InputError(
            f"{source} is {manifest.precision} {manifest.format}",
            expected="fp32 onnx, from which all other artifacts are made",
            remedy="name the checkpoint, or the -fp32 artifact beside it",
        )


def read_embedded_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read and validate the manifest inside a lone ``.onnx`` or OpenVINO ``.xml`` file; needs no engine.

    Raises:
        ArtifactError: If the file is neither, carries no manifest, or the manifest is not valid.
    """
    file = Path(path)
    is_openvino = file.suffix.lower() == ".xml"
    metadata = read_openvino_metadata(file).entries if is_openvino else read_onnx_metadata(file)
    if EMBEDDED_KEY not in metadata:
        raise ArtifactError(
            f"{path} carries no yolo12edge manifest",
            expected=f"metadata under the key {EMBEDDED_KEY!r}, or the metadata that Ultralytics writes"
            + (f", {METADATA_NAME} beside it" if is_openvino else ", with class names"),
            remedy="export the model with yolo12edge" + (f", or copy {METADATA_NAME} too" if is_openvino else ""),
        )
    return Manifest.from_embedded_json(metadata[EMBEDDED_KEY], source=f"the manifest embedded in {path}")


def read_lone_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of a lone model file: the embedded one, or one made from what another tool wrote into it.

    Raises:
        ArtifactError: If the file is neither ``.onnx`` nor OpenVINO's ``.xml``, its manifest is not valid, or it is a
            foreign model that cannot be run (``docs/foreign-models.md``).
    """
    file = Path(path)
    if file.suffix.lower() == ".xml":
        is_ours = EMBEDDED_KEY in read_openvino_metadata(file).entries
        if not is_ours and file.with_name(METADATA_NAME).exists():
            return manifest_of_openvino(file)
    else:
        metadata = read_onnx_metadata(file)
        if EMBEDDED_KEY not in metadata and "names" in metadata:
            return manifest_of_onnx(file, metadata)
    return read_embedded_manifest(file)


def write_artifact(
    path: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, Path | bytes],
    *,
    card: Callable[[Path], object] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Write an artifact in one step: it is there whole, or not at all.

    Args:
        path: Directory to make.
        manifest: What it is; its ``files`` are replaced by the entries of what is written.
        files: Content, or a file to copy, by path inside the artifact. The first is the model.
        card: Writes the files ``CARD_NAMES`` into the directory that it is given.
        overwrite: Whether an artifact that is already there may be replaced. Only an artifact is ever replaced, and
            only if its directory holds nothing else.

    Returns:
        The artifact as written.

    Raises:
        ArtifactError: If the manifest is not valid, or a path inside the artifact is not allowed.
        InputError: If ``path`` cannot be written or must not be replaced, or a file to copy cannot be read.
    """
    target = Path(path)
    # Nothing is written under a name that has not passed the checks, hence a first round with made-up digests.
    empty = [FileEntry(path=name, sha256="0" * 64, bytes=0) for name in files]
    msgspec.structs.replace(manifest, files=empty).to_json()
    with atomic_directory(target, overwrite=overwrite, check=_check_replaceable) as building:
        try:
            entries = [_fill(building, name, content) for name, content in files.items()]
            complete = msgspec.structs.replace(manifest, files=entries)
            (building / MANIFEST_NAME).write_bytes(complete.to_json())
            if card is not None:
                card(building)
        except OSError as error:
            raise InputError(f"cannot write {target}: {error}") from error
    return Artifact(target, complete)


def with_report(artifact: Artifact, report: Report) -> Artifact:
    """Replace the report in an artifact's ``manifest.json``, atomically.

    The manifest that is embedded in the model file stays as it was exported: changing it would change the model file.

    Returns:
        The artifact with the new report.

    Raises:
        ArtifactError: If the report is not valid.
        InputError: If the directory cannot be written.
    """
    manifest = msgspec.structs.replace(artifact.manifest, report=report)
    text = manifest.to_json()
    with atomic_file(artifact.path / MANIFEST_NAME) as temporary:
        temporary.write_bytes(text)
    return Artifact(artifact.path, manifest)


def _fill(directory: Path, name: str, content: Path | bytes) -> FileEntry:
    place = directory / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, place)
    else:
        place.write_bytes(content)
    return FileEntry(path=name, sha256=sha256_of(place), bytes=place.stat().st_size)


def _inside(directory: Path, name: str) -> Path:
    """Return the regular file ``name`` of a directory; links that leave the directory are refused."""
    try:
        place = (directory / name).resolve(strict=True)
        mode = place.stat().st_mode
    except FileNotFoundError as error:
        raise ArtifactError(f"{directory} has no file {name}", remedy=COPY_AGAIN) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise ArtifactError(f"cannot read {name} of {directory}: {error}") from error
    if not place.is_relative_to(directory.resolve()):
        raise ArtifactError(f"{name} of {directory} is a link to {place}", expected="a file inside of the artifact")
    if not stat.S_ISREG(mode):  # a named pipe would block, a device never end
        raise ArtifactError(f"{name} of {directory} is not a regular file")
    return place


def _read(place: Path, limit: int) -> bytes:
    try:
        with place.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise ArtifactError(f"cannot read {place}: {error.strerror}") from error


def _check_replaceable(directory: Path) -> None:
    """Refuse to replace a directory that holds anything but an artifact.

    The check is lenient on purpose: an artifact that is damaged or of another schema version may be replaced.
    """
    allowed = {MANIFEST_NAME, *CARD_NAMES, ".DS_Store"}
    try:
        raw: Any = msgspec.json.decode(_read(_inside(directory, MANIFEST_NAME), MANIFEST_LIMIT + 1))
        if not isinstance(raw["schema_version"], int):
            raise TypeError("schema_version")
        allowed.update(str(entry["path"]) for entry in raw["files"])
    except (ArtifactError, msgspec.MsgspecError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise InputError(
            f"{directory} is not an artifact and is not replaced", remedy="name another directory, or delete it first"
        ) from error
    for folder, _, names in os.walk(directory):
        for name in names:
            relative = Path(folder, name).relative_to(directory).as_posix()
            if relative not in allowed:
                raise InputError(
                    f"{directory} also holds {relative}, which is no part of the artifact, and is not replaced",
                    remedy="move it away, or name another directory",
                )
