"""ONNX → OpenVINO: what is written, that it is the same model, and that INT8 stays INT8."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from yolo12edge import Runtime
from yolo12edge.artifact import Artifact, read_embedded_manifest
from yolo12edge.errors import ArtifactError, ExportError, InputError, VerificationError
from yolo12edge.exporters import onnx_fp16_from_onnx, openvino_from_onnx, openvino_ir
from yolo12edge.exporters.openvino_ir import count_int8_convolutions, openvino_files
from yolo12edge.manifest import InputSpec, OutputSpec
from yolo12edge.openvino_metadata import read_openvino_metadata
from yolo12edge.runtimes.openvino_backend import OpenVinoBackend

SIDE = 16


@pytest.fixture(scope="module")
def half(tiny_onnx, tmp_path_factory):
    out = tmp_path_factory.mktemp("half") / "tiny-fp16"
    return openvino_from_onnx(tiny_onnx, out, precision="fp16", verify=False)


def test_the_artifact_is_whole_and_says_how_well_it_agrees(tiny_openvino, tiny_onnx):
    manifest = Artifact.load(tiny_openvino.path).manifest
    assert [entry.path for entry in manifest.files] == ["model.xml", "model.bin"]
    assert (manifest.format, manifest.precision) == ("openvino", "fp32")
    assert "openvino" in manifest.provenance.versions
    assert manifest.report.parity.source == "onnx fp32"
    assert manifest.report.parity.errors["boxes"] < 0.1
    assert (manifest.input, manifest.outputs) == (tiny_onnx.manifest.input, tiny_onnx.manifest.outputs)


def test_a_lone_file_knows_its_manifest_and_no_other(tiny_openvino, tiny_onnx):
    assert read_embedded_manifest(tiny_openvino.model_file) == msgspec.structs.replace(
        tiny_openvino.manifest,
        files=[],
        report=msgspec.structs.replace(tiny_openvino.manifest.report, parity=None),
        provenance=msgspec.structs.replace(tiny_openvino.manifest.provenance, created=""),
    )
    assert '"format":"onnx"' not in tiny_openvino.model_file.read_text().replace("&quot;", '"')


def test_class_names_of_any_character_survive_the_xml(tiny_onnx, tmp_path):
    names = ["<b>\"'&\n\t", "Zelle \x7f\u2028\ufffe\U0001f600", "\x01\x1f "]
    manifest = msgspec.structs.replace(tiny_onnx.manifest, class_names=names, format="openvino", files=[])
    files = openvino_files(tiny_onnx.model_file.read_bytes(), manifest)
    (tmp_path / "model.xml").write_bytes(files["model.xml"])
    assert read_embedded_manifest(tmp_path / "model.xml").class_names == names


def test_the_same_model_gives_the_same_bytes(tiny_openvino, tiny_onnx, half, tmp_path):
    """Although OpenVINO counts its nodes from the start of the process."""
    for precision, first in (("fp32", tiny_openvino), ("fp16", half)):
        again = openvino_from_onnx(tiny_onnx, tmp_path / precision, precision=precision, verify=False)
        assert again.manifest.files == first.manifest.files


def test_weights_are_all_that_lies_beside_the_file(tiny_openvino):
    size = tiny_openvino.file("model.bin").stat().st_size
    assert read_openvino_metadata(tiny_openvino.model_file).weights_bytes == size


def test_half_precision_halves_the_weights_only(tiny_openvino, tiny_onnx, half, scene_frames, tmp_path):
    sizes = [artifact.file("model.bin").stat().st_size for artifact in (half, tiny_openvino)]
    assert 0.49 < sizes[0] / sizes[1] < 0.52
    with Runtime(half, device="cpu", threads=1) as runtime:
        assert runtime.manifest.precision == "fp16"
        assert len(runtime(scene_frames[0])) > 0
    verified = openvino_from_onnx(tiny_onnx, tmp_path / "verified", precision="fp16", images=scene_frames[:1])
    assert 0 < verified.manifest.report.parity.errors["scores"] < 0.02


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_wrong_result_is_not_written(tiny_onnx, tmp_path, monkeypatch, scene_frames, precision):
    convert = openvino_files

    def spoilt(content, manifest):
        """Turn the sign of the largest weight."""
        files = convert(content, manifest)
        constants = [data.attrib for data in ElementTree.fromstring(files["model.xml"]).iter("data")]
        largest = max((found for found in constants if "size" in found), key=lambda found: int(found["size"]))
        weights = bytearray(files["model.bin"])
        place = slice(int(largest["offset"]), int(largest["offset"]) + int(largest["size"]))
        weights[place] = (-np.frombuffer(weights[place], np.float32 if precision == "fp32" else np.float16)).tobytes()
        return {**files, "model.bin": bytes(weights)}

    monkeypatch.setattr(openvino_ir, "openvino_files", spoilt)
    with pytest.raises(VerificationError, match="onnx fp32"):
        openvino_from_onnx(tiny_onnx, tmp_path / "out", precision=precision, images=scene_frames[:1])
    assert not (tmp_path / "out").exists()


def test_other_sources_are_refused(tiny_onnx, tiny_openvino, tmp_path, scene_frames):
    with pytest.raises(InputError, match="fp32 openvino"):
        openvino_from_onnx(tiny_openvino, tmp_path / "out")
    with pytest.raises(InputError, match="int8"):
        openvino_from_onnx(tiny_onnx, tmp_path / "out", precision="int8")
    halved = onnx_fp16_from_onnx(tiny_onnx, tmp_path / "half", images=scene_frames[:1])
    with pytest.raises(InputError, match="fp16 onnx"):
        openvino_from_onnx(halved, tmp_path / "out")
    with pytest.raises(ArtifactError, match="cannot read the model"):
        openvino_files(b"not onnx", tiny_openvino.manifest)


def test_lost_outputs_are_refused(tiny_onnx):
    outputs = [msgspec.structs.replace(output, name=output.name + "2") for output in tiny_onnx.manifest.outputs]
    manifest = msgspec.structs.replace(tiny_onnx.manifest, outputs=outputs)
    with pytest.raises(ExportError, match="float32 tensors"):
        openvino_files(tiny_onnx.model_file.read_bytes(), manifest)


@pytest.fixture(scope="module")
def small(tiny_onnx):
    """Three convolutions of 32 channels, as (float, Q/DQ, manifest); the last one is float in both."""
    spec = InputSpec(name="images", batch=1, height=SIDE, width=SIDE)
    outputs = [
        OutputSpec(name="boxes", role="boxes", shape=(1, 4, SIDE * SIDE)),
        OutputSpec(name="scores", role="scores", shape=(1, 3, SIDE * SIDE)),
    ]
    manifest = msgspec.structs.replace(
        tiny_onnx.manifest, format="openvino", input=spec, outputs=outputs, class_names=["a", "b", "c"], files=[]
    )
    return _small_model(quantized=False), _small_model(quantized=True), manifest


def _small_model(*, quantized: bool) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def pair(name, scale, zero, *, axis=None, q=True):
        parts = [constant(f"{name}.s", np.asarray(scale, np.float32)), constant(f"{name}.z", zero)]
        if q:
            nodes.append(helper.make_node("QuantizeLinear", [name, *parts], [f"{name}.q"]))
        options = {} if axis is None else {"axis": axis}
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", *parts], [f"{name}.dq"], **options))
        return f"{name}.dq"

    x = "images"
    for index, (wide, narrow) in enumerate(((32, 3), (128, 32), (7, 128))):
        size = 3 if index < 2 else 1
        weight = rng.normal(size=(wide, narrow, size, size)).astype(np.float32) / float(narrow * size**2) ** 0.5
        source, filters = x, f"w{index}"
        if quantized and index < 2:
            source = pair(x, 1 / 255 if index == 0 else 0.05, np.uint8(0 if index == 0 else 128))
            scales = np.abs(weight).max(axis=(1, 2, 3)) / 64  # 7 bits: more would saturate on x86 without VNNI
            constant(f"{filters}.q", np.rint(weight / scales[:, None, None, None]).astype(np.int8))
            filters = pair(filters, scales, np.zeros(wide, np.int8), axis=0, q=False)
        else:
            constant(filters, weight)
        bias = constant(f"b{index}", rng.normal(size=wide).astype(np.float32))
        pads = [size // 2] * 4
        nodes.append(helper.make_node("Conv", [source, filters, bias], [f"c{index}"], f"conv{index}", pads=pads))
        nodes.append(helper.make_node("Sigmoid", [f"c{index}"], [f"g{index}"]))
        nodes.append(helper.make_node("Mul", [f"c{index}", f"g{index}"], [f"x{index}"]))
        x = f"x{index}"
    flat = constant("flat", np.array([1, 7, SIDE * SIDE]))
    nodes.append(helper.make_node("Reshape", [x, flat], ["rows"]))
    nodes.append(helper.make_node("Split", ["rows", constant("sizes", np.array([4, 3]))], ["boxes", "scores"], axis=1))
    tensors = {"images": (1, 3, SIDE, SIDE), "boxes": (1, 4, SIDE * SIDE), "scores": (1, 3, SIDE * SIDE)}
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()]
    graph = helper.make_graph(nodes, "small", infos[:1], infos[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"yolo12edge": "{}"})
    return model.SerializeToString()


def test_int8_stays_int8_and_gives_the_numbers_of_the_onnx(small, tmp_path):
    plain, quantized, manifest = small
    files = openvino_files(quantized, manifest)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert len(files["model.bin"]) <= 0.30 * len(openvino_files(plain, manifest)["model.bin"])
    layers = ElementTree.parse(tmp_path / "model.xml").iter("layer")
    stored = [layer.find("data").get("element_type") for layer in layers if layer.get("type") == "Const"]
    assert stored.count("i8") == 2
    images = np.random.default_rng(1).random((1, 3, SIDE, SIDE), np.float32)
    direct, saved = (
        OpenVinoBackend(model, device="cpu", threads=1).infer({"images": images})
        for model in (quantized, tmp_path / "model.xml")
    )
    assert all((direct[name] == saved[name]).all() for name in ("boxes", "scores"))
    reference = OpenVinoBackend(plain, device="cpu", threads=1).infer({"images": images})
    assert 0 < np.abs(direct["boxes"] - reference["boxes"]).max() < 0.1


def test_convolutions_that_run_in_int8_are_counted(small, tmp_path):
    plain, quantized, manifest = small
    for name, content in openvino_files(quantized, manifest).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model.onnx").write_bytes(quantized)
    assert count_int8_convolutions(plain) == (0, 3)
    for model in (quantized, tmp_path / "model.xml", tmp_path / "model.onnx"):
        assert count_int8_convolutions(model) == (2, 3)


def test_the_manifest_is_embedded_as_ascii(small):
    _, quantized, manifest = small
    text = openvino_files(quantized, msgspec.structs.replace(manifest, class_names=["ä", "b", "c"]))["model.xml"]
    value = ElementTree.fromstring(text).find("rt_info/yolo12edge").get("value")
    assert value.isascii()
    assert json.loads(value)["class_names"][0] == "ä"
