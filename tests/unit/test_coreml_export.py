"""ML programs made from ONNX: the same numbers, our integers and scales, the same bytes, and clear refusals."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("coremltools", reason="coremltools is not installed")

from coremltools.proto import FeatureTypes_pb2, Model_pb2

from yolo12edge.artifact import Artifact, write_artifact
from yolo12edge.calibration.graph import load_model
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.errors import ExportError, InputError, MissingDependencyError, VerificationError
from yolo12edge.exporters import coreml_export as module
from yolo12edge.exporters import coreml_suppression
from yolo12edge.exporters.coreml_converter import CoremlConverter
from yolo12edge.exporters.coreml_export import coreml_from_onnx
from yolo12edge.exporters.coreml_package import PACKAGE, CoremlForm, coreml_files, coreml_manifest, package_files
from yolo12edge.exporters.coreml_program import program_name
from yolo12edge.exporters.coreml_suppression import coreml_pipeline
from yolo12edge.exporters.coreml_weights import WeightWriter, palettize
from yolo12edge.exporters.mil_evaluator import MilBackend
from yolo12edge.exporters.verify import feeds_of
from yolo12edge.manifest import Calibration, Manifest, Parity
from yolo12edge.runtimes.ort_backend import OrtBackend

MODEL = f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel"


def spec_of(files: dict[str, bytes]):
    spec = Model_pb2.Model()
    spec.ParseFromString(files[MODEL])
    return spec


def operations(files: dict[str, bytes]):
    (block,) = spec_of(files).mlProgram.functions["main"].block_specializations.values()
    return block.operations


def converted(model: bytes, manifest: Manifest, form: CoremlForm) -> tuple[Manifest, dict[str, bytes]]:
    own = coreml_manifest(manifest, form)
    return own, coreml_files(model, own, form)


def worst(files, own: Manifest, model: bytes, manifest: Manifest, frame) -> dict[str, float]:
    """Run a package in the evaluator and its source in ONNX Runtime, and return the largest differences."""
    expected = OrtBackend(model, device="cpu", optimize=False).infer(feeds_of(manifest.input, frame)[0])
    found = MilBackend(files).infer(feeds_of(own.input, frame)[0])
    for name, array in found.items():
        assert (array.dtype, array.shape[1:]) == (np.float32, expected[name].shape[1:])
    return {name: float(np.abs(found[name] - expected[name]).max()) for name in expected}


@pytest.fixture(scope="module")
def hub(tiny_onnx: Artifact) -> bytes:
    return tiny_onnx.model_file.read_bytes()


@pytest.fixture(scope="module")
def quantized(tiny_onnx: Artifact, hub: bytes, scene_frames, tmp_path_factory) -> tuple[Manifest, bytes]:
    """The tiny detector with the Q/DQ pairs of the target, and its manifest."""
    import cv2

    folder = tmp_path_factory.mktemp("images")
    for index, frame in enumerate(scene_frames[:3]):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    quantizer = Quantizer(hub, observe(hub, images_of_folder(folder), tiny_onnx.manifest.input, threads=1))
    calibration = Calibration(
        method="mse",
        split="train",
        images=["0.png"],
        images_digest="0" * 64,
        placement="coreml",
        float_nodes=[],
        reduced_range=False,
    )
    manifest = msgspec.structs.replace(tiny_onnx.manifest, precision="int8", calibration=calibration)
    return manifest, quantizer(Recipe("coreml"))


@pytest.fixture(scope="module")
def single(tiny_onnx: Artifact, hub: bytes) -> tuple[Manifest, dict[str, bytes]]:
    return converted(hub, tiny_onnx.manifest, CoremlForm(precision="fp32", target="iOS16"))


@pytest.fixture(scope="module")
def half(tiny_onnx: Artifact, scene_frames, tmp_path_factory) -> Artifact:
    """An FP16 artifact with an image input, as it is by default."""
    out = tmp_path_factory.mktemp("coreml") / "tiny-coreml-fp16"
    return coreml_from_onnx(tiny_onnx, out, CoremlForm(), images=scene_frames[:1])


@pytest.fixture(scope="module")
def w8a8(quantized: tuple[Manifest, bytes]) -> tuple[Manifest, dict[str, bytes]]:
    manifest, model = quantized
    return converted(model, manifest, CoremlForm())


def test_a_float_program_gives_the_numbers_of_its_source(single, hub, tiny_onnx, scene_frames) -> None:
    own, files = single
    errors = worst(files, own, hub, tiny_onnx.manifest, scene_frames[0])
    assert errors["boxes"] < 0.01
    assert errors["scores"] < 1e-5


def test_silu_is_one_operator_and_attention_is_not_split(single, hub) -> None:
    kinds = Counter(operation.type for operation in operations(single[1]))
    mine = Counter(node.op_type for node in load_model(hub).graph.node)
    assert kinds["conv"] == mine["Conv"]
    assert (kinds["silu"], kinds["sigmoid"]) == (mine["Sigmoid"] - 1, 1)  # one gives the scores
    assert not kinds.keys() & {"split", "slice_by_index", "squeeze", "einsum"}


def test_the_artifact_says_what_it_is(half: Artifact, tiny_onnx: Artifact) -> None:
    loaded = Artifact.load(half.path)
    assert [entry.path for entry in loaded.manifest.files][:2] == [f"{PACKAGE}/Manifest.json", MODEL]
    assert (loaded.manifest.input.dtype, loaded.manifest.input.color) == ("uint8", "RGB")
    assert loaded.manifest.report.parity is not None
    spec = spec_of({MODEL: (half.path / MODEL).read_bytes()})
    (image,) = spec.description.input
    assert (image.type.imageType.width, image.type.imageType.height) == (96, 96)
    assert image.type.imageType.colorSpace == FeatureTypes_pb2.ImageFeatureType.RGB
    arrays = {item.name: item.type.multiArrayType for item in spec.description.output}
    assert {name: tuple(array.shape) for name, array in arrays.items()} == {
        output.name: output.shape for output in tiny_onnx.manifest.outputs
    }
    assert {array.dataType for array in arrays.values()} == {FeatureTypes_pb2.ArrayFeatureType.FLOAT32}
    metadata = spec.description.metadata.userDefined
    assert json.loads(metadata["classes"]) == tiny_onnx.manifest.class_names
    assert Manifest.from_embedded_json(metadata["yolo12edge"]).precision == "fp16"
    assert not any("date" in key for key in metadata)


def test_half_precision_decodes_boxes_in_float32(half: Artifact) -> None:
    types = {
        op.outputs[0].name: op.outputs[0].type.tensorType.dataType
        for op in operations({MODEL: (half.path / MODEL).read_bytes()})
        if op.type != "const"
    }
    assert types["model_21_offset"] == types["boxes"] == 11  # FLOAT32
    assert types["model_0_conv_cast_fp16"] == 10  # FLOAT16


def test_equal_models_are_equal_bytes_and_nothing_is_printed(
    half: Artifact, hub: bytes, tiny_onnx: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    _, again = converted(hub, tiny_onnx.manifest, CoremlForm())
    assert {name: (half.path / name).read_bytes() for name in again} == again
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_coremltools_opens_the_package(half: Artifact) -> None:
    import coremltools

    model = coremltools.models.MLModel(str(half.path / PACKAGE), skip_model_load=True)
    assert model.get_spec().specificationVersion == coremltools.target.iOS17.value


def test_w8a8_is_our_placement_our_integers_and_our_scales(quantized, scene_frames) -> None:
    """What is not INT8 in float32: then nothing differs from the Q/DQ model but the order of sums."""
    manifest, model = quantized
    own, files = converted(model, manifest, CoremlForm(precision="fp32"))
    errors = worst(files, own, model, manifest, scene_frames[0])
    assert errors["boxes"] < 0.01
    assert errors["scores"] < 1e-5


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
def test_w8a8_stores_integers_and_keeps_silu(quantized, w8a8, single, target: str) -> None:
    manifest, model = quantized
    files = w8a8[1] if target == "iOS17" else converted(model, manifest, CoremlForm(target=target))[1]
    kinds = Counter(operation.type for operation in operations(files))
    mine = Counter(node.op_type for node in load_model(model).graph.node)
    packed = "constexpr_affine_dequantize" if target == "iOS17" else "constexpr_blockwise_shift_scale"
    assert kinds["quantize"] == kinds["dequantize"] == mine["QuantizeLinear"]
    assert kinds[packed] == mine["DequantizeLinear"] - mine["QuantizeLinear"]
    assert kinds["silu"] == mine["Sigmoid"] - 1
    size = sum(map(len, files.values())) / sum(map(len, single[1].values()))
    assert size <= 0.30


@pytest.mark.parametrize(
    ("weights", "target", "largest", "error"),
    [
        ("palettized-4", "iOS18", 0.16, 0.2),
        ("palettized-6", "iOS17", 0.22, 0.05),
        ("int8", "iOS16", 0.29, 0.02),
    ],
)
def test_weights_are_compressed(
    single, hub, tiny_onnx, scene_frames, weights: str, target: str, largest: float, error: float
) -> None:
    own, files = converted(hub, tiny_onnx.manifest, CoremlForm(weights=weights, target=target))
    assert own.weights == weights
    assert sum(map(len, files.values())) <= largest * sum(map(len, single[1].values()))
    assert worst(files, own, hub, tiny_onnx.manifest, scene_frames[0])["scores"] < error


def test_a_palette_is_the_best_of_its_size() -> None:
    rng = np.random.default_rng(0)
    few = rng.choice(np.float32([-3, 0.5, 1, 7]), (4, 4, 3, 3))
    table, indices = palettize(few, 4)
    assert np.array_equal(table[indices], few)  # what has no more values than the palette stays as it is
    many = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    table, indices = palettize(many, 4)
    # The least error of 16 levels for a normal distribution: J. Max, "Quantizing for minimum distortion", 1960.
    assert np.mean((table[indices] - many) ** 2) == pytest.approx(0.009497, rel=0.03)


@pytest.mark.parametrize("least", [None, 1])
def test_a_batch_gives_each_image_its_own_boxes(hub, tiny_onnx, scene_frames, least: int | None) -> None:
    form = CoremlForm(precision="fp32", image_input=False, batch=3, min_batch=least)
    own, files = converted(hub, tiny_onnx.manifest, form)
    assert own.outputs[0].shape[0] == 3
    single_inputs = [feeds_of(tiny_onnx.manifest.input, frame)[0]["images"] for frame in scene_frames[:3]]
    reference, engine = OrtBackend(hub, device="cpu"), MilBackend(files)
    for count in (3,) if least is None else (1, 2, 3):
        found = engine.infer({"images": np.concatenate(single_inputs[:count])})
        for index in range(count):
            expected = reference.infer({"images": single_inputs[index]})
            # Random weights amplify rounding, more on some pictures than on others.
            assert np.abs(found["boxes"][index] - expected["boxes"][0]).max() < 0.1
            assert np.abs(found["scores"][index] - expected["scores"][0]).max() < 1e-3


def test_the_pipeline_hands_scores_and_relative_boxes_to_the_suppression(w8a8, scene_frames, tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "int8", *w8a8)
    out = coreml_pipeline(artifact, tmp_path / "vision.mlpackage", iou=0.6, confidence=0.3)
    spec = Model_pb2.Model()
    spec.ParseFromString((out / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    assert [item.name for item in spec.description.input] == ["images", "iouThreshold", "confidenceThreshold"]
    assert [item.type.isOptional for item in spec.description.input] == [False, True, True]
    assert [item.name for item in spec.description.output] == ["confidence", "coordinates"]
    detector, suppression = spec.pipeline.models
    layer = suppression.nonMaximumSuppression
    assert (layer.iouThreshold, layer.confidenceThreshold, layer.pickTop.perClass) == (0.6, 0.3, True)
    labels = list(layer.stringClassLabels.vector)
    assert (len(labels), labels[:4]) == (80, ["a", "b", "c", "unused 1"])
    shapes = [tuple(item.type.multiArrayType.shape) for item in suppression.description.input[:2]]
    assert shapes == [(189, 80), (189, 4)]

    feeds = feeds_of(artifact.manifest.input, scene_frames[0])[0]
    expected = MilBackend(artifact.path / PACKAGE).infer(feeds)
    weights = (out / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()
    found = MilBackend(package_files(detector, weights)).infer(feeds)
    assert np.array_equal(found["raw_confidence"][:, :3], expected["scores"][0].T)
    assert not found["raw_confidence"][:, 3:].any()
    left, top, right, bottom = expected["boxes"][0] / 96
    relative = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
    assert np.abs(found["raw_coordinates"] - relative).max() < 1e-5

    again = coreml_pipeline(artifact, tmp_path / "again.mlpackage", iou=0.6, confidence=0.3)
    for name in ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_a_pipeline_leaves_its_artifact_alone_and_nothing_behind(
    half: Artifact, hub, tiny_onnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """coremltools writes into packages that it opens, and keeps what it converts until the process ends."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    files = [path for path in (half.path / PACKAGE).rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, ns=(0, 0))
    coreml_pipeline(half, tmp_path / "vision.mlpackage")
    converted(hub, tiny_onnx.manifest, CoremlForm())
    assert [path.stat().st_mtime_ns for path in files] == [0] * len(files)
    assert not list(scratch.iterdir())


def test_a_wrong_pipeline_is_not_written(half: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(program, **options):
        description, weights = written_program(program, **options)
        one = np.float16(1).tobytes() * 32
        start = weights.index(b"\xef\xbe\xad\xde", len(weights) // 2) + 64  # behind the next header
        return description, weights[:start] + one + weights[start + len(one) :]

    written_program = coreml_suppression.written_program
    monkeypatch.setattr(coreml_suppression, "written_program", wrong)
    with pytest.raises(VerificationError, match="raw_confidence is not what"):
        coreml_pipeline(half, tmp_path / "vision.mlpackage")
    assert not list(tmp_path.iterdir())


def test_a_damaged_artifact_gives_no_pipeline(half: Artifact, tmp_path: Path) -> None:
    copy = Artifact(tmp_path / "copy", half.manifest)
    shutil.copytree(half.path, copy.path)
    weights = copy.path / PACKAGE / "Data/com.apple.CoreML/weights/weight.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ExportError, match="coremltools cannot read"):
        coreml_pipeline(copy, tmp_path / "vision.mlpackage")


def test_a_pipeline_needs_an_image_input_and_sane_thresholds(half: Artifact, tiny_onnx, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Core ML artifact"):
        coreml_pipeline(tiny_onnx, tmp_path / "x.mlpackage")
    with pytest.raises(InputError, match=r"iou is 1\.5"):
        coreml_pipeline(half, tmp_path / "x.mlpackage", iou=1.5)
    with pytest.raises(InputError, match="name of a package"):
        coreml_pipeline(half, tmp_path / "x.mlmodel")
    (tmp_path / "mine.mlpackage").mkdir()
    (tmp_path / "mine.mlpackage/diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match="not a package"):
        coreml_pipeline(half, tmp_path / "mine.mlpackage", overwrite=True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"target": "iOS15"}, "deployment target 'iOS15'"),
        ({"precision": "int8"}, "precision 'int8'"),
        ({"weights": "palettized-5"}, "weights 'palettized-5'"),
        ({"weights": "int8", "precision": "fp32"}, "in fp32"),
        ({"batch": 2}, "takes one image"),
        ({"batch": 2, "min_batch": 3, "image_input": False}, "at least 3"),
    ],
)
def test_forms_that_cannot_be_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CoremlForm(**wrong)  # type: ignore[arg-type]


def test_w8a8_needs_calibration_and_ios17(tiny_onnx: Artifact, hub: bytes, quantized) -> None:
    manifest, model = quantized
    with pytest.raises(InputError, match=r"without Q/DQ pairs.*calibrate"):
        converted(hub, manifest, CoremlForm())
    with pytest.raises(InputError, match="with Q/DQ pairs"):
        converted(model, tiny_onnx.manifest, CoremlForm())
    with pytest.raises(InputError, match=r"iOS16 has no INT8 activations.*iOS17"):
        converted(model, manifest, CoremlForm(target="iOS16"))


def test_an_operator_without_counterpart_is_named(tiny_onnx: Artifact, hub: bytes) -> None:
    model = load_model(hub)
    gate = next(node for node in model.graph.node if node.op_type == "Softmax")
    gate.op_type = "Hardmax"
    with pytest.raises(ExportError, match=f"Hardmax of {gate.name}"):
        converted(model.SerializeToString(), tiny_onnx.manifest, CoremlForm())


def test_what_cannot_be_translated_or_written_is_an_export_error(
    tiny_onnx: Artifact, hub: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import coremltools

    model = load_model(hub)
    bare = next(node for node in model.graph.node if node.op_type == "Conv")
    del bare.attribute[:]
    with pytest.raises(ExportError, match=f"Conv of {bare.name} cannot be translated"):
        converted(model.SerializeToString(), tiny_onnx.manifest, CoremlForm())

    def fail(*_, **__):
        raise RuntimeError("a pass\nfailed")

    monkeypatch.setattr(coremltools, "convert", fail)
    with pytest.raises(ExportError, match="cannot write the program: a pass failed"):
        converted(hub, tiny_onnx.manifest, CoremlForm())


@pytest.mark.parametrize("batch", [1, 2])
def test_int8_is_judged_on_the_package_that_is_written(quantized, scene_frames, batch: int) -> None:
    manifest, model = quantized
    converter = CoremlConverter(CoremlForm(image_input=batch == 1, batch=batch))
    own, files = converter.files(model, manifest)
    expected = MilBackend(files).infer(feeds_of(own.input, scene_frames[0])[0])
    simulation = converter.simulation(model, manifest, threads=None)
    found = simulation.infer(feeds_of(manifest.input, scene_frames[0])[0])
    for name, array in found.items():
        assert np.array_equal(array, expected[name][:1])
    assert [(item.name, item.shape) for item in simulation.outputs] == [(o.name, o.shape) for o in manifest.outputs]


def test_zero_points_are_refused(tiny_onnx: Artifact, quantized) -> None:
    from onnx import numpy_helper

    manifest, content = quantized
    model = load_model(content)
    zero = next(item for item in model.graph.initializer if item.name.endswith(".zero_point") and not item.dims)
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), zero.name))
    with pytest.raises(ExportError, match="zero point"):
        converted(model.SerializeToString(), manifest, CoremlForm())


def test_a_wrong_program_is_not_written(
    tiny_onnx: Artifact, single, scene_frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = f"{PACKAGE}/Data/com.apple.CoreML/weights/weight.bin"
    middle = len(single[1][weights]) // 2
    content = bytearray(single[1][weights])
    start = content.index(b"\xef\xbe\xad\xde", middle) + 64  # behind the next header
    content[start : start + 512] = np.full(128, 9, np.float32).tobytes()
    wrong = {**single[1], weights: bytes(content)}
    monkeypatch.setattr(module, "coreml_files", lambda *_: wrong)
    with pytest.raises(VerificationError, match="nothing was written"):
        coreml_from_onnx(tiny_onnx, tmp_path / "out", CoremlForm(precision="fp32"), images=scene_frames[:1])
    assert not (tmp_path / "out").exists()


def test_compressed_weights_that_give_no_numbers_are_not_written(
    tiny_onnx: Artifact, scene_frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = CoremlForm(weights="int8")
    lost = Parity(source="onnx fp32", images=1, errors={"boxes": 0.1, "scores": math.inf})  # NaN is told as infinite
    monkeypatch.setattr(module, "compare_with_onnx", lambda *_: (lost, lost))
    with pytest.raises(VerificationError, match="int8 weights the model gives values that are not finite"):
        coreml_from_onnx(tiny_onnx, tmp_path / "out", form, images=scene_frames[:1])
    assert not (tmp_path / "out").exists()


def test_a_missing_coremltools_is_told(tiny_onnx: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependencyError, match=r"yolo12edge\[coreml\]"):
        coreml_manifest(tiny_onnx.manifest, CoremlForm())


def test_what_boxes_and_scores_come_out_of_has_the_largest_palette(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = {}
    monkeypatch.setattr(WeightWriter, "_palette", lambda self, values, count, name: bits.update({name: count}))
    names = [program_name(f"model.21.cv2.0.{part}.weight") for part in ("2", "1.conv")]
    for name in names:
        WeightWriter("palettized-4", None).floats(np.ones((64, 64, 1, 1), np.float32), name)
    assert [bits[name] for name in names] == [8, 4]
