"""The INT8 graph of each target: what is quantized, how, and whether the engines run it in integers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yolo12edge.calibration.graph import Graph, graph_digest, group_of, load_model, observable_tensors
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.placement import TARGETS, float_convolutions, place
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.errors import ExportError, InputError
from yolo12edge.exporters.int8_maker import count_integer_convolutions
from yolo12edge.preprocess import Preprocessor

HEAD_LAST = {f"model.21.cv{branch}.{index}.2" for branch in (2, 3) for index in range(3)}


@pytest.fixture(scope="module")
def model(tiny_onnx):
    return tiny_onnx.model_file.read_bytes()


@pytest.fixture(scope="module")
def graph(model):
    return Graph.of(load_model(model))


@pytest.fixture(scope="module")
def quantizer(model, tiny_onnx, scene_frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    for index, frame in enumerate(scene_frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return Quantizer(model, observe(model, images_of_folder(folder), tiny_onnx.manifest.input, threads=1))


@pytest.fixture(scope="module")
def contents(quantizer):
    """The INT8 model of each target, min-max ranges."""
    return {target: quantizer(Recipe(target, "minmax"), metadata={"k": "v"}) for target in TARGETS}


def constants_of(content):
    return {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(content).graph.initializer}


def readers_of(content):
    """Tensor → operators that read it."""
    found = {}
    for node in onnx.load_from_string(content).graph.node:
        for name in node.input:
            found.setdefault(name, set()).add(node.op_type)
    return found


def outputs_of(content, feeds):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("target", TARGETS)
def test_head_and_decode_stay_float_everywhere(graph, contents, target):
    placement = place(graph, target)
    assert set(float_convolutions(graph, placement)) >= HEAD_LAST
    assert not HEAD_LAST & set(placement.weights)
    assert not [name for name in placement.reads if name in graph.decoded]
    quantized = {
        node.input[0] for node in onnx.load_from_string(contents[target]).graph.node if "Quantize" in node.op_type
    }
    assert not quantized & graph.decoded
    assert not any("softmax" in name for name in quantized)
    assert len(placement.weights) > 100


def test_onnxruntime_quantizes_what_lies_between_convolutions(graph):
    placement = place(graph, "ort-x86")
    convolutions = {node.name for node in graph.nodes if node.op_type == "Conv"}
    stem = {name for name in convolutions if name.split(".")[1] in "012"}
    assert convolutions - set(placement.weights) == HEAD_LAST | stem
    for name in placement.weights:
        node = next(node for node in graph.nodes if node.name == name)
        assert node.input[0] in placement.reads, name
        assert node.output[0] in placement.reads, name


@pytest.mark.parametrize("target", ["ort-x86", "ort-x86-vnni"])
def test_every_quantized_convolution_runs_in_integers_in_onnxruntime(graph, contents, model, target):
    assert count_integer_convolutions(contents[target]) == len(place(graph, target).weights)
    assert count_integer_convolutions(model) == 0


@pytest.mark.parametrize("target", ["openvino", "openvino-vnni"])
def test_every_quantized_convolution_runs_in_integers_in_openvino(graph, contents, target):
    pytest.importorskip("openvino")
    from yolo12edge.exporters.openvino_ir import count_int8_convolutions

    integer, everything = count_int8_convolutions(contents[target])
    assert integer == len(place(graph, target).weights)
    assert everything - integer == len(HEAD_LAST)


@pytest.mark.parametrize("target", ["openvino", "tensorrt", "coreml"])
def test_outputs_and_biases_of_convolutions_are_not_quantized(graph, contents, target):
    constants, readers = constants_of(contents[target]), readers_of(contents[target])
    assert not any(value.dtype == np.int32 for value in constants.values())
    for node in graph.nodes:
        if node.op_type == "Conv" and graph.consumers.get(node.output[0], [node])[0].op_type in ("Sigmoid", "Mul"):
            assert "QuantizeLinear" not in readers[node.output[0]], node.name


def test_tensorrt_is_symmetric_int8_throughout(contents):
    proto = onnx.load_from_string(contents["tensorrt"])
    constants = constants_of(contents["tensorrt"])
    pairs = [node for node in proto.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 200
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8, node.name
        assert not zero.any(), node.name
    assert not any(value.dtype == np.uint8 for value in constants.values())


def test_tensorrt_concatenations_have_one_scale(graph, contents):
    constants = constants_of(contents["tensorrt"])
    found = 0
    for node in onnx.load_from_string(contents["tensorrt"]).graph.node:
        if node.op_type != "Concat" or node.output[0] in graph.decoded:
            continue
        names = [*node.input, f"{node.output[0]}.dq"]
        assert all(name.endswith(".dq") for name in names), node.name
        assert len({constants[f"{name.removesuffix('.dq')}.scale"].item() for name in names}) == 1, node.name
        found += 1
    assert found == 14


def test_tensorrt_residual_sums_read_only_the_skip_branch_quantized(contents):
    sums = [node for node in onnx.load_from_string(contents["tensorrt"]).graph.node if node.op_type == "Add"]
    residual = [node for node in sums if node.name.endswith((".attn.add", ".mlp.add")) or ".m.0.add" in node.name]
    assert len(residual) > 20
    for node in residual:
        assert [name.endswith(".dq") for name in node.input] == [True, False], node.name
    for node in sums:
        if node not in residual and not node.name.endswith(".m.1.add"):
            assert not any(name.endswith(".dq") for name in node.input), node.name


BUILD = """
import sys
import tensorrt_rtx as trt

logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
if not parser.parse(open(sys.argv[1], "rb").read()):
    sys.exit("; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
engine = builder.build_serialized_network(network, builder.create_builder_config())
print(engine.nbytes if engine is not None else 0)
"""


def test_tensorrt_variant_builds(contents, tmp_path):
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt-rtx is not installed")
    (tmp_path / "model.onnx").write_bytes(contents["tensorrt"])
    # In a process of its own: its libraries do not bear the company of other engines.
    command = [sys.executable, "-c", BUILD, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 1_000_000


@pytest.mark.parametrize("target", TARGETS)
def test_weights_keep_to_their_range(contents, target):
    weights = [value for name, value in constants_of(contents[target]).items() if name.endswith(".weight.q")]
    assert len(weights) > 100
    assert all(value.dtype == np.int8 for value in weights)
    largest = max(np.abs(value.astype(int)).max() for value in weights)
    assert largest == (64 if Recipe(target).reduced_range else 127)


@pytest.mark.parametrize("target", TARGETS)
def test_activations_have_the_sign_that_the_target_wants(contents, target):
    constants = constants_of(contents[target])
    zeros = {name: value for name, value in constants.items() if name.endswith(".zero_point") and not value.ndim}
    signed = target in ("ort-arm", "tensorrt", "coreml")
    assert len(zeros) > 80
    assert {value.dtype for value in zeros.values()} == {np.dtype(np.int8 if signed else np.uint8)}
    assert any(zeros.values()) is not signed


def test_bias_scale_is_the_product_of_input_and_weight_scale(contents):
    constants = constants_of(contents["ort-x86"])
    nodes = onnx.load_from_string(contents["ort-x86"]).graph.node
    source = next(node for node in nodes if node.name == "model.5.conv").input[0].removesuffix(".dq")
    expected = constants[f"{source}.scale"] * constants["model.5.conv.weight.scale"]
    np.testing.assert_allclose(constants["model.5.conv.bias.scale"], expected, rtol=1e-6)
    assert constants["model.5.conv.bias.q"].dtype == np.int32


def test_copies_share_their_parameters(graph, quantizer):
    placement = place(graph, "ort-x86")
    params = quantizer.params(placement, Recipe("ort-x86"))
    assert {group[1] for group in placement.same_scale} == {"model.9", "model.12"}
    for source, copy in placement.same_scale:
        assert params[copy] == params[source]
    assert set(params) == set(placement.reads)


def test_joined_concatenations_share_their_parameters(graph, quantizer):
    recipe = Recipe("openvino", join_concats=True)
    placement = quantizer.placement(recipe)
    params = quantizer.params(placement, recipe)
    assert len(placement.same_scale) >= 8
    for group in placement.same_scale:
        assert len({(float(params[name].scale), int(params[name].zero_point)) for name in group}) == 1
    assert not place(graph, "openvino").same_scale


@pytest.mark.parametrize("target", ["ort-x86", "openvino"])
def test_int8_attention_quantizes_the_softmax(quantizer, tiny_onnx, scene_frames, target):
    recipe = Recipe(target, attention="int8")
    placement = quantizer.placement(recipe)
    assert sum("softmax" in name for name in placement.reads) == 8
    assert {name for name in placement.reads if "softmax" in name} <= placement.unit
    feeds = {"images": Preprocessor(tiny_onnx.manifest.input)(scene_frames[0])[0]}
    found = outputs_of(quantizer(recipe), feeds)[1]
    expected = outputs_of(quantizer(Recipe(target)), feeds)[1]
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("target", TARGETS)
def test_a_group_returned_to_float_has_no_pair_left(quantizer, target):
    group = "model.6.m.0.0.mlp"
    before = quantizer.placement(Recipe(target))
    after = quantizer.placement(Recipe(target, float_groups=frozenset({group})))
    inside = {name for name in before.weights if group_of(name) == group}
    assert len(inside) == 2
    assert set(before.weights) - set(after.weights) == inside
    if not target.startswith("ort"):  # there, what a quantized node gives has 8 bits for everybody
        assert not inside & {reader for readers in after.reads.values() for reader in readers}


@pytest.mark.parametrize("target", TARGETS)
def test_int8_stays_close_to_float(contents, model, tiny_onnx, scene_frames, target):
    feeds = {"images": Preprocessor(tiny_onnx.manifest.input)(scene_frames[0])[0]}
    (_, expected), (_, found) = outputs_of(model, feeds), outputs_of(contents[target], feeds)
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.9


def test_same_recipe_same_bytes_and_metadata_kept(contents, quantizer):
    again = quantizer(Recipe("openvino", "minmax"), metadata={"k": "v"})
    assert again == contents["openvino"]
    proto = onnx.load_from_string(again)
    assert [(item.key, item.value) for item in proto.metadata_props] == [("k", "v")]
    assert proto.opset_import[0].version < 19


def test_digest_is_of_the_computation_alone(model):
    proto = load_model(model)
    before = graph_digest(proto)
    proto.metadata_props[0].value = "other"
    assert graph_digest(proto) == before
    weight = next(item for item in proto.graph.initializer if item.name == "model.5.conv.weight")
    weight.raw_data = bytes(len(weight.raw_data))
    assert graph_digest(proto) != before


def test_statistics_cover_every_placement(graph):
    observed = set(observable_tensors(graph))
    for target in TARGETS:
        for recipe in ({}, {"attention": "int8"}, {"join_concats": True}):
            placement = place(graph, target, **recipe)
            assert set(placement.reads) - placement.unit <= observed


def test_a_foreign_graph_is_refused(model):
    proto = load_model(model)
    for index, node in enumerate(proto.graph.node):
        node.name = f"node_{index}"
    with pytest.raises(ExportError, match="no layers named"):
        Graph.of(proto)


def test_what_is_not_onnx_is_refused():
    with pytest.raises(ExportError, match="not ONNX"):
        load_model(b"\xff\xfe no model")


def test_a_weight_that_is_not_finite_is_named(model):
    proto = load_model(model)
    weight = next(item for item in proto.graph.initializer if item.name == "model.5.conv.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(ExportError, match=r"model\.5\.conv\.weight"):
        load_model(proto.SerializeToString())


def test_a_large_bias_beside_tiny_weights_is_kept(model, quantizer):
    proto = load_model(model)
    values = {item.name: item for item in proto.graph.initializer}
    weight = numpy_helper.to_array(values["model.5.conv.weight"]).copy()
    bias = numpy_helper.to_array(values["model.5.conv.bias"]).copy()
    weight[0], bias[0] = 1e-8, 1.0
    values["model.5.conv.weight"].CopyFrom(numpy_helper.from_array(weight, "model.5.conv.weight"))
    values["model.5.conv.bias"].CopyFrom(numpy_helper.from_array(bias, "model.5.conv.bias"))
    constants = constants_of(Quantizer(proto.SerializeToString(), quantizer.statistics)(Recipe("ort-x86", "minmax")))
    kept = constants["model.5.conv.bias.q"][0] * constants["model.5.conv.bias.scale"][0]
    assert kept == pytest.approx(1.0, rel=1e-3)


def test_statistics_that_lack_a_tensor_are_refused(model, quantizer):
    tensors = dict(quantizer.statistics.tensors)
    tensors.pop("model.5.silu" if "model.5.silu" in tensors else next(iter(tensors)))
    with pytest.raises(InputError, match="lack 1 tensors"):
        Quantizer(model, replace(quantizer.statistics, tensors=tensors))


def test_a_constant_that_cannot_be_read_is_named(model):
    proto = load_model(model)
    weight = next(item for item in proto.graph.initializer if item.name == "model.5.conv.weight")
    weight.raw_data = weight.raw_data[:-3]
    with pytest.raises(ExportError, match=r"model\.5\.conv\.weight"):
        load_model(proto.SerializeToString())
