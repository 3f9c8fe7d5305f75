"""One package for several sizes: its functions give what their artifacts give, over weights stored once, and open."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("coremltools", reason="coremltools is not installed")

import coremltools
from coremltools.converters.mil.mil import Program

from tests.fakes.coreml import functions, install, specification
from yolo12edge import Runtime
from yolo12edge.artifact import Artifact, write_artifact
from yolo12edge.benchmark.run import _describe, _names
from yolo12edge.cli.inspect import describe, inspect
from yolo12edge.errors import ArtifactError, InputError, VerificationError
from yolo12edge.exporters import coreml_functions as module
from yolo12edge.exporters import coreml_sizes, onnx_from_checkpoint
from yolo12edge.exporters.coreml_package import PACKAGE, CoremlForm, coreml_files, coreml_manifest, package_files
from yolo12edge.exporters.mil_evaluator import MilProgram
from yolo12edge.exporters.mil_evaluator.package import Blob, WeightFile, WeightWriter
from yolo12edge.exporters.verify import feeds_of
from yolo12edge.manifest import Calibration
from yolo12edge.runtimes.lone_package import package_manifests

command = importlib.import_module("yolo12edge.cli.export")
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def coreml_artifact(source: Artifact, out: Path) -> Artifact:
    chosen = CoremlForm(target="iOS18")
    manifest = coreml_manifest(source.manifest, chosen)
    return write_artifact(out, manifest, coreml_files(source.model_file.read_bytes(), manifest, chosen))


def changed(artifact: Artifact, **fields) -> Artifact:
    return replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, **fields))


def embedded(artifact: Artifact) -> dict:
    return json.loads(artifact.manifest.to_embedded_json())


def contents(package: Path) -> dict[str, bytes]:
    return {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*") if file.is_file()}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small layers take torch's threads more time than they save, above all on a busy machine."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sizes")


@pytest.fixture(scope="module")
def sources(folder: Path, tiny_checkpoint: Path) -> list[Artifact]:
    """The tiny detector for 96 x 96 and for 96 x 64 pixels (width x height), as ONNX."""
    sizes = {"square-fp32": 96, "low-fp32": (64, 96)}
    return [
        onnx_from_checkpoint(tiny_checkpoint, folder / name, image_size=size, verify=False)
        for name, size in sizes.items()
    ]


@pytest.fixture(scope="module")
def pair(folder: Path, sources: list[Artifact]) -> list[Artifact]:
    """The same for Core ML, in half precision."""
    with pytest.MonkeyPatch.context() as patch:  # coremltools checks a program after each pass: most of the time
        patch.setattr(Program, "validate", lambda *_, **__: None)
        return [coreml_artifact(source, folder / name) for name, source in zip(("square", "low"), sources, strict=True)]


@pytest.fixture(scope="module")
def package(folder: Path, pair: list[Artifact]) -> Path:
    return coreml_sizes(pair, folder / "sizes.mlpackage")


def test_weights_are_stored_once(package, pair) -> None:
    size = (package / WEIGHTS).stat().st_size
    assert all(size < 1.01 * (artifact.path / PACKAGE / WEIGHTS).stat().st_size for artifact in pair)


def test_the_package_says_what_it_holds(package, pair) -> None:
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
        {"name": "size_96x96", "height": 96, "width": 96, "manifest": embedded(pair[0])},
        {"name": "size_64x96", "height": 64, "width": 96, "manifest": embedded(pair[1])},
    ]
    assert json.loads(metadata.userDefined["classes"]) == ["a", "b", "c"]
    assert set(metadata.userDefined) == {"functions", "classes"}
    assert metadata.shortDescription == "YOLO12n, 3 classes, 96 x 96, 96 x 64 pixels"


def test_what_does_not_go_together_is_refused(pair, sources, folder) -> None:
    first, second = pair
    out = folder / "refused.mlpackage"
    provenance = msgspec.structs.replace(second.manifest.provenance, checkpoint_sha256="1" * 64)
    tensor = msgspec.structs.replace(second.manifest.input, dtype="float32", layout="NCHW")
    for artifacts, words in (
        ([first], "1 artifacts were given"),
        ([], "0 artifacts were given"),
        ([first, sources[1]], "is of the format onnx"),
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


def test_equal_weights_are_equal_in_type_and_bits() -> None:
    writer = WeightWriter()
    blobs = [Blob(1, 0, b"abcd"), Blob(2, 0, b"abcd"), Blob(8, 4, b"abcd"), Blob(8, 0, b"abcd" * 30), Blob(1, 0, b"")]
    offsets = [writer.add(blob) for blob in blobs]
    assert [writer.add(blob) for blob in blobs] == offsets
    assert len(set(offsets)) == len(blobs)
    content = writer.content()
    assert content[:8] == bytes([5, 0, 0, 0, 2, 0, 0, 0])
    file = WeightFile(content, name="weights")
    assert [file.blob(offset) for offset in offsets] == blobs


def test_sizes_may_be_calibrated_to_other_recipes_but_not_on_other_images(pair, folder) -> None:
    one = Calibration(
        method="minmax",
        split="train",
        images=["a"],
        images_digest="1" * 64,
        placement="coreml",
        float_nodes=[],
        reduced_range=False,
    )
    other = msgspec.structs.replace(one, method="percentile", rounding="gptq", attention="int8")
    first, second = (
        changed(item, precision="int8", calibration=how) for item, how in zip(pair, (one, other), strict=True)
    )
    module._check([first, second])
    second = changed(second, calibration=msgspec.structs.replace(one, images_digest="2" * 64))
    with pytest.raises(InputError, match="differ in their images of calibration"):
        module._check([first, second])


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


def test_one_command_makes_a_package_of_all_sizes(
    package, pair, sources, tiny_checkpoint, tmp_path, capsys, monkeypatch
) -> None:
    """Each size is exported as it is alone; the same artifacts give the same bytes, and are left as they were."""
    exported = []

    def open_float_onnx(source, place, *, imgsz, images, overwrite) -> Artifact:
        exported.append((source, imgsz))
        return sources[0]

    def write_packages(forms, onnx, place, **_) -> list[Artifact]:
        assert [form.target for form in forms.values()] == ["iOS18"]
        exported.append([place(name) for name in forms])
        return [Artifact.load(pair[len(exported) // 2 - 1].path)]

    monkeypatch.setattr(command, "open_float_onnx", open_float_onnx)
    monkeypatch.setattr(command, "write_packages", write_packages)
    command.export(tiny_checkpoint, format="coreml", ios="18", imgsz=[96, 64], out=tmp_path)
    assert exported == [
        (tiny_checkpoint, 96),
        [tmp_path / "tiny-96-coreml-fp16"],
        (tiny_checkpoint, 64),
        [tmp_path / "tiny-64-coreml-fp16"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-coreml-fp16.mlpackage"]
    assert contents(tmp_path / "tiny-coreml-fp16.mlpackage") == contents(package)
    for artifact in pair:
        Artifact.load(artifact.path)  # which compares the digest of every file
    said = capsys.readouterr().err.replace("\n", "")
    assert f"All sizes in one package: {tmp_path / 'tiny-coreml-fp16.mlpackage'}" in said
    assert f"It opens as size_96x96; name {tmp_path / 'tiny-coreml-fp16.mlpackage' / 'size_64x64'}" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"imgsz": [96, 64]}, "iOS 17 knows no package of several sizes[\\s\\S]*--ios 18"),
        ({"imgsz": [96, 96], "ios": "18"}, "--imgsz 96 was given twice"),
        ({"imgsz": [96, 70], "ios": "18"}, "70x70"),
        ({"imgsz": [96, 64], "format": "onnx"}, "only Core ML packages hold several sizes"),
        ({"imgsz": [96, 64], "ios": "18", "int8": True, "calibration": Path("s.npz")}, "--calibration is of one size"),
    ],
)
def test_sizes_that_cannot_share_a_package_are_refused_at_once(tiny_checkpoint, tmp_path, options, said) -> None:
    with pytest.raises(InputError, match=said):
        command.export(tiny_checkpoint, **{"format": "coreml", "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_there_is_refused_before_anything_is_made(tiny_checkpoint, tmp_path) -> None:
    (tmp_path / "tiny-coreml-fp16.mlpackage").mkdir()
    (tmp_path / "tiny-coreml-fp16.mlpackage" / "Manifest.json").touch()
    with pytest.raises(InputError, match=r"tiny-coreml-fp16\.mlpackage is there already"):
        command.export(tiny_checkpoint, format="coreml", ios="18", imgsz=[96, 64], out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-coreml-fp16.mlpackage"]


def test_a_runtime_opens_the_first_size_and_any_other_by_name(package, pair, scene_frames, monkeypatch) -> None:
    fake = install(monkeypatch)
    for source, artifact in zip((package, str(package / "size_64x96")), pair, strict=True):
        feeds = feeds_of(artifact.manifest.input, scene_frames[0])[0]
        expected = MilProgram.load(artifact.path / PACKAGE).run({"images": feeds["images"][0]})
        with Runtime(source, device="cpu", warmup=0) as runtime:
            assert runtime.manifest.input == artifact.manifest.input
            found = runtime.infer(feeds)
            assert found.keys() == expected.keys() == {"boxes", "scores"}
            for output, array in found.items():
                np.testing.assert_array_equal(array, expected[output])
            assert len(runtime(scene_frames[0])) > 0
    assert fake.functions == ["size_96x96", "size_64x96"]
    fake.check()


def test_functions_that_are_not_there_are_an_input_error(package, pair, monkeypatch) -> None:
    install(monkeypatch)
    with pytest.raises(InputError, match=r"has no function 'size_320x320'[\s\S]*size_96x96, size_64x96"):
        Runtime(package / "size_320x320")
    with pytest.raises(InputError, match=r"has no function 'size_96x96'[\s\S]*one of main"):
        Runtime(pair[0].path / PACKAGE / "size_96x96")
    with pytest.raises(InputError, match="does not exist"):
        Runtime(package.parent / "absent.mlpackage" / "size_96x96")
    install(monkeypatch, macos=(14, 5))
    with pytest.raises(ArtifactError, match="needs macOS 15"):
        Runtime(package)


def test_operations_are_counted_of_the_function_alone(package, monkeypatch) -> None:
    fake = install(monkeypatch)
    fake.plan = {"gpu": 1}
    with Runtime(package, device="gpu", warmup=0) as runtime:
        assert "1 on the GPU" in runtime.device


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entries: entries.pop("functions"), "no manifest of yolo12edge"),
        (lambda entries: entries.update(functions="[{"), "cannot be read"),
        (
            lambda entries: entries.update(functions='[{"name": "a\\u001b", "height": 1, "width": 1, "manifest": {}}]'),
            "cannot be read",
        ),
        (lambda entries: entries.update(functions="[]"), "lists other functions"),
        (
            lambda entries: entries.update(functions=entries["functions"].replace('"one"', '"six"')),
            "lists other functions",
        ),
        (
            lambda entries: entries.update(functions=entries["functions"].replace('"detect"', '"dance"')),
            "manifest schema",
        ),
    ],
)
def test_lists_that_are_damaged_are_an_artifact_error(pair, tmp_path, change, said) -> None:
    message = specification(pair[0].manifest)
    functions("one", "two")(message)
    change(message.description.metadata.userDefined)
    place = tmp_path / "damaged.mlpackage"
    for name, content in package_files(message, b"").items():
        file = place / Path(name).relative_to(PACKAGE)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with pytest.raises(ArtifactError, match=said):
        package_manifests(place)


def test_inspect_shows_the_functions(package, pair, capsys) -> None:
    facts = describe(package / "size_64x96")
    assert (facts["kind"], facts["functions"], facts["verified"]) == ("coreml", ["size_96x96", "size_64x96"], True)
    assert facts["manifest"]["input"]["height"] == 64
    assert {file["path"] for file in facts["files"]} == set(contents(package))
    inspect(package)
    printed = capsys.readouterr().out
    assert "size_96x96, size_64x96; size_96x96 opens by itself" in printed
    assert describe(pair[1].path / PACKAGE)["functions"] == ["main"]
    with pytest.raises(InputError, match="has no function"):
        describe(package / "size_1x1")


def test_benchmarks_know_functions_apart(package, pair) -> None:
    places = [package / "size_96x96", package / "size_64x96", pair[0].path]
    assert _names(places) == ["sizes.mlpackage/size_96x96", "sizes.mlpackage/size_64x96", "square"]
    facts = _describe("low", places[1], package_manifests(package)["size_64x96"], None)
    assert (facts.height, facts.width) == (64, 96)
    assert facts.bytes == sum(map(len, contents(package).values()))
