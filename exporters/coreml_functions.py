"""One Core ML package for several image sizes: a function for each, over weights that are stored once.

Anchors and the shapes of attention are constants of a size, so one program cannot take several. From iOS 18 on a
package may hold several programs ("functions"), of which an app loads the one that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..artifact import Artifact
from ..errors import InputError, VerificationError
from ..manifest import Manifest
from ..runtimes.coreml_library import import_coremltools
from ..runtimes.lone_package import FUNCTIONS_KEY, functions_json
from .coreml_package import PACKAGE, finished_spec, new_package, package_files
from .verify import Frame, feeds_of, verification_frames

__all__ = ["coreml_sizes"]

_OPSET = 8  # of iOS 18, the first system that knows functions


def coreml_sizes(artifacts: Sequence[Artifact], out: Path | str, *, overwrite: bool = False) -> Path:
    """Write a package with a function for each of several Core ML artifacts, which differ in their image size alone.

    A function is named ``size_HEIGHTxWIDTH``; that of the first artifact is the default. Class names are in the user
    metadata, and so is a list of the functions, as JSON under ``functions``: ``[{"name": "size_640x640",
    "height": 640, "width": 640, "manifest": {…}}, …]``. A Runtime opens ``out``, and ``out/size_320x320``. Weights
    that are the same are stored once; those of INT8 may differ from size to size. The same artifacts give the same
    bytes.

    Args:
        artifacts: At least two, of one checkpoint and one form, made for iOS 18.
        out: The package to write, ``….mlpackage``.
        overwrite: Whether a package at ``out`` may be replaced.

    Returns:
        ``out``.

    Raises:
        InputError: If the artifacts are others or do not go together, or ``out`` must not be replaced.
        MissingDependencyError: If coremltools or torch is not installed.
        ArtifactError: If the package of an artifact is damaged.
        VerificationError: If a function does not give exactly what its artifact gives, or nothing is saved; nothing is
            written then.
    """
    place = Path(out)
    _check(artifacts)
    named = {_function(artifact.manifest): artifact for artifact in artifacts}
    with new_package(place, overwrite=overwrite) as write:
        expected = _expected(named)
        files = _merged(named)
        _verify(files, named, expected)
        write(files)
    return place


def _check(artifacts: Sequence[Artifact]) -> None:
    """Refuse artifacts that differ in more than their size, as far as their manifests tell."""
    if len(artifacts) < 2:
        raise InputError(
            f"{len(artifacts)} artifacts were given to merge",
            expected="two or more, of different sizes",
            remedy="a package for one size is in the artifact itself",
        )
    for artifact in artifacts:
        if artifact.manifest.format != "coreml":
            raise InputError(
                f"{artifact.path} is of the format {artifact.manifest.format}",
                expected="what `yolo12edge export --format coreml` wrote",
            )
    first, *others = artifacts
    wanted, seen = _traits(first.manifest), {_function(first.manifest): first}
    for artifact in others:
        for name, value in _traits(artifact.manifest).items():
            if value != wanted[name]:
                raise InputError(
                    f"{artifact.path} and {first.path} differ in their {name}",
                    expected="the same but for the image size",
                    remedy="export the same checkpoint with the same options, but for the image size",
                )
        if twin := seen.get(_function(artifact.manifest)):
            size = f"{artifact.manifest.input.width} x {artifact.manifest.input.height}"
            raise InputError(f"{twin.path} and {artifact.path} are both for {size} pixels", expected="different sizes")
        seen[_function(artifact.manifest)] = artifact


def _traits(manifest: Manifest) -> dict[str, object]:
    """Return what functions of one package have in common, by a name for people."""
    calibration = manifest.calibration
    return {
        "checkpoint": (manifest.provenance.checkpoint_sha256, manifest.scale, manifest.variant),
        "class names": manifest.class_names,
        "precision": manifest.precision,
        "weights": manifest.weights,
        "input, beyond its size": msgspec.structs.replace(manifest.input, height=1, width=1),
        "outputs": [(item.name, item.role) for item in manifest.outputs],
        "images of calibration": calibration and calibration.images_digest,
    }


def _function(manifest: Manifest) -> str:
    return f"size_{manifest.input.height}x{manifest.input.width}"


def _expected(named: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Return what each artifact gives on a picture; refuse those that are for systems without functions."""
    from .mil_evaluator import MilProgram

    programs = {name: MilProgram.load(artifact.path / PACKAGE) for name, artifact in named.items()}
    for name, program in programs.items():
        if program.opset < _OPSET:
            raise InputError(
                f"{named[name].path} is for iOS {program.opset + 10}, which knows no package of several functions",
                expected="iOS 18 (macOS 15)",
                remedy="export all of them with `--ios 18`",
            )
    frame = verification_frames(None)[0]
    return {name: program.run(_feeds(named[name].manifest, frame)) for name, program in programs.items()}


def _merged(named: Mapping[str, Artifact]) -> dict[str, bytes]:
    """Return the files of the package: the very programs of the artifacts, with offsets into one file of weights."""
    import_coremltools()
    from coremltools.proto import Model_pb2

    from .mil_evaluator.package import Package, WeightWriter

    merged, weights = Model_pb2.Model(), WeightWriter()
    for name, artifact in named.items():
        package, model = Package(artifact.path / PACKAGE), Model_pb2.Model()
        model.ParseFromString(package.model())
        program = model.mlProgram.functions["main"]
        for stored in _stored_values(program):
            stored.offset = weights.add(package.weights(stored.fileName).blob(stored.offset))
        merged.mlProgram.functions[name].CopyFrom(program)
        merged.mlProgram.version = model.mlProgram.version
        merged.specificationVersion = model.specificationVersion
        merged.description.functions.add(name=name, input=model.description.input, output=model.description.output)
    merged.description.defaultFunctionName = next(iter(named))
    manifests = {name: artifact.manifest for name, artifact in named.items()}
    first = next(iter(manifests.values()))
    metadata = finished_spec(merged, first, embed=False).description.metadata
    sizes = ", ".join(f"{one.input.width} x {one.input.height}" for one in manifests.values())
    metadata.shortDescription = f"YOLO12{first.scale}, {len(first.class_names)} classes, {sizes} pixels"
    metadata.userDefined[FUNCTIONS_KEY] = functions_json(manifests)
    return package_files(merged, weights.content())


def _stored_values(message: Any) -> Iterator[Any]:
    """Go through what a message holds, and yield each ``BlobFileValue``: what lies in the file of weights."""
    if message.DESCRIPTOR.name == "BlobFileValue":
        yield message
        return
    for field, value in message.ListFields():
        kind = field.message_type
        if kind is None or kind.name == "ValueType":
            continue
        if kind.GetOptions().map_entry:
            if kind.fields_by_name["value"].message_type is not None:
                for key in value:
                    yield from _stored_values(value[key])
        else:
            for item in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from _stored_values(item)


def _verify(
    files: Mapping[str, bytes], named: Mapping[str, Artifact], expected: Mapping[str, Mapping[str, Any]]
) -> None:
    """Weigh what will be written against its parts, and evaluate each function of it."""
    from .mil_evaluator import MilProgram

    size = sum(len(content) for content in files.values())
    parts = sum(
        file.stat().st_size
        for artifact in named.values()
        for file in (artifact.path / PACKAGE).rglob("*")
        if file.is_file()
    )
    if size >= parts:
        raise VerificationError(f"the package has {size} bytes", expected=f"less than the {parts} of its parts")
    frame = verification_frames(None)[0]
    for name, artifact in named.items():
        found = MilProgram.load(files, function=name).run(_feeds(artifact.manifest, frame))
        if found.keys() != expected[name].keys():
            raise VerificationError(f"the function {name} gives {sorted(found)}", expected=f"{sorted(expected[name])}")
        for output, array in found.items():
            if not np.array_equal(array, expected[name][output]):
                raise VerificationError(
                    f"{output} of the function {name} is not what {artifact.path} gives", expected="the same values"
                )


def _feeds(manifest: Manifest, frame: Frame) -> dict[str, Any]:
    feeds, _ = feeds_of(manifest.input, frame)
    return {name: array[0] if manifest.input.pixels else array for name, array in feeds.items()}
