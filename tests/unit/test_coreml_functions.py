"""One package for several sizes: each function gives what its artifact gives, over weights stored once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("coremltools", reason="coremltools is not installed")

import coremltools
from coremltools.converters.mil.mil.passes.defs.cleanup import const_deduplication

from yolo12edge.artifact import Artifact, write_artifact
from yolo12edge.errors import ExportError, InputError, VerificationError
from yolo12edge.exporters import coreml_functions as module
from yolo12edge.exporters import coreml_sizes, onnx_from_checkpoint
from yolo12edge.exporters.coreml_package import PACKAGE, CoremlForm, coreml_files, coreml_manifest
from yolo12edge.exporters.mil_evaluator import MilProgram
from yolo12edge.exporters.verify import feeds_of

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def coreml_artifact(source: Artifact, out: Path) -> Artifact:
    chosen = CoremlForm(target="iOS18")
    manifest = coreml_manifest(source.manifest, chosen)
    return write_artifact(out, manifest, coreml_files(source.model_file.read_bytes(), manifest, chosen))


def changed(artifact: Artifact, **fields) -> Artifact:
    return replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, **fields))


def contents(package: Path) -> dict[str, bytes]:
    return {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sizes")


@pytest.fixture(scope="module")
def pair(folder: Path, tiny_checkpoint: Path, tiny_onnx: Artifact) -> list[Artifact]:
    """The tiny detector for 96 x 96 and for 96 x 64 pixels (width x height), in half precision."""
    low = onnx_from_checkpoint(tiny_checkpoint, folder / "onnx", image_size=(64, 96), verify=False)
    return [coreml_artifact(tiny_onnx, folder / "square"), coreml_artifact(low, folder / "low")]


@pytest.fixture(scope="module")
def package(folder: Path, pair: list[Artifact]) -> Path:
    return coreml_sizes(pair, folder / "sizes.mlpackage")


def test_each_function_gives_what_its_artifact_gives(package, pair, scene_frames) -> None:
    for name, artifact in zip(("size_96x96", "size_64x96"), pair, strict=True):
        pixels = feeds_of(artifact.manifest.input, scene_frames[0])[0]["images"][0]
        expected = MilProgram.load(artifact.path / PACKAGE).run({"images": pixels})
        found = MilProgram.load(package, function=name).run({"images": pixels})
        assert found.keys() == expected.keys() == {"boxes", "scores"}
        for output, array in found.items():
            np.testing.assert_array_equal(array, expected[output])


def test_weights_are_stored_once(package, pair) -> None:
    size = (package / WEIGHTS).stat().st_size
    assert all(size < 1.01 * (artifact.path / PACKAGE / WEIGHTS).stat().st_size for artifact in pair)


def test_the_package_says_what_it_holds(package) -> None:
    spec = coremltools.utils.load_spec(str(package))
    described = {one.name: one.input[0].type.imageType for one in spec.description.functions}
    assert {name: (image.height, image.width) for name, image in described.items()} == {
        "size_64x96": (64, 96),
        "size_96x96": (96, 96),
    }
    assert spec.description.defaultFunctionName == "size_96x96"  # of the first
    assert MilProgram.load(package).inputs[0].shape == (1, 3, 96, 96)
    metadata = spec.description.metadata
    assert json.loads(metadata.userDefined["functions"]) == [
        {"name": "size_96x96", "height": 96, "width": 96},
        {"name": "size_64x96", "height": 64, "width": 96},
    ]
    assert json.loads(metadata.userDefined["classes"]) == ["a", "b", "c"]
    assert set(metadata.userDefined) == {"functions", "classes"}
    assert metadata.shortDescription == "YOLO12n, 3 classes, 96 x 96, 96 x 64 pixels"


def test_the_same_artifacts_give_the_same_bytes_and_are_left_alone(package, pair, folder, monkeypatch) -> None:
    monkeypatch.setattr(const_deduplication, "_const_threshold", 100)  # as in a process that has converted nothing
    again = coreml_sizes([Artifact.load(artifact.path) for artifact in pair], folder / "again.mlpackage")
    assert contents(again) == contents(package)
    for artifact in pair:
        Artifact.load(artifact.path)  # which compares the digest of every file


def test_what_does_not_go_together_is_refused(pair, tiny_onnx, folder) -> None:
    first, second = pair
    out = folder / "refused.mlpackage"
    provenance = msgspec.structs.replace(second.manifest.provenance, checkpoint_sha256="1" * 64)
    tensor = msgspec.structs.replace(second.manifest.input, dtype="float32", layout="NCHW")
    for artifacts, words in (
        ([first], "1 artifacts were given"),
        ([], "0 artifacts were given"),
        ([first, tiny_onnx], "is of the format onnx"),
        ([first, first], "are both for 96 x 96 pixels"),
        ([first, changed(second, provenance=provenance)], "differ in their checkpoint"),
        ([first, changed(second, class_names=["a", "b", "d"])], "differ in their class names"),
        ([first, changed(second, precision="fp32")], "differ in their precision"),
        ([first, changed(second, weights="palettized-6")], "differ in their weights"),
        ([first, changed(second, input=tensor)], "differ in their input"),
    ):
        with pytest.raises(InputError, match=words):
            coreml_sizes(artifacts, out)
    with pytest.raises(InputError, match="not the name of a package"):
        coreml_sizes(pair, folder / "refused")
    assert not out.exists()


def test_an_older_target_is_refused(pair, folder) -> None:
    files = {f"{PACKAGE}/{name}": content for name, content in contents(pair[1].path / PACKAGE).items()}
    files = {name: content.replace(b"CoreML8", b"CoreML7") for name, content in files.items()}
    older = write_artifact(folder / "older", pair[1].manifest, files)
    with pytest.raises(InputError, match=r"older is for iOS 17[\s\S]*--ios 18"):
        coreml_sizes([pair[0], older], folder / "refused.mlpackage")


def test_nothing_is_written_that_is_not_what_it_should_be(package, pair, tmp_path, monkeypatch) -> None:
    files = {f"{PACKAGE}/{name}": content for name, content in contents(package).items()}
    weights = files[f"{PACKAGE}/{WEIGHTS}"]
    altered = weights[:128] + bytes(64) + weights[192:]  # the first values, behind the header and their own
    padded = weights + bytes(2 * len(weights))
    for broken, words in ((altered, "is not what"), (padded, "the package has .* bytes")):
        merged = {**files, f"{PACKAGE}/{WEIGHTS}": broken}
        monkeypatch.setattr(module, "_merged", lambda _, merged=merged: merged)
        with pytest.raises(VerificationError, match=words):
            coreml_sizes(pair, tmp_path / "sizes.mlpackage")
    assert not list(tmp_path.iterdir())


def test_what_coremltools_cannot_merge_is_an_export_error(pair, tmp_path, monkeypatch) -> None:
    def failing(*_) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(coremltools.utils, "save_multifunction", failing)
    with pytest.raises(ExportError, match="cannot merge the programs: no such thing"):
        coreml_sizes(pair, tmp_path / "sizes.mlpackage")


def test_only_a_package_is_replaced_and_only_if_that_is_wanted(package, pair, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_merged", lambda _: {f"{PACKAGE}/{name}": b for name, b in contents(package).items()})
    monkeypatch.setattr(module, "_expected", lambda _: {})
    monkeypatch.setattr(module, "_verify", lambda *_: None)
    place = tmp_path / "sizes.mlpackage"
    place.mkdir()
    (place / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="is not a package"):
        coreml_sizes(pair, place, overwrite=True)
    (place / "mine.txt").rename(place / "Manifest.json")
    with pytest.raises(InputError, match="not empty"):
        coreml_sizes(pair, place)
    assert coreml_sizes(pair, place, overwrite=True) == place
    assert contents(place) == contents(package)


def test_the_evaluator_knows_functions_by_name(package, pair) -> None:
    with pytest.raises(InputError, match="no function 'main'"):
        MilProgram.load(package, function="main")
    single = pair[0].path / PACKAGE
    assert MilProgram.load(single, function="main").inputs == MilProgram.load(single).inputs
    with pytest.raises(InputError, match="no function 'size_64x96'"):
        MilProgram.load(single, function="size_64x96")
