"""The INT8 graph: what is quantized, how, and whether ONNX Runtime runs it in integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.placement_ort import place_for_ort
from yolo12edge.calibration.quantize import observed_tensors, quantize_for_ort, solve_params
from yolo12edge.errors import ExportError
from yolo12edge.exporters.int8_from_onnx import count_integer_convolutions
from yolo12edge.preprocess import Preprocessor


@pytest.fixture(scope="module")
def model(tiny_onnx):
    return tiny_onnx.model_file.read_bytes()


@pytest.fixture(scope="module")
def placement(model):
    return place_for_ort(onnx.load_from_string(model))


@pytest.fixture(scope="module")
def statistics(model, placement, tiny_onnx, scene_frames):
    preprocessor = Preprocessor(tiny_onnx.manifest.input)
    return observe(model, observed_tensors(placement), (preprocessor(f)[0] for f in scene_frames), threads=1)


def quantized(model, statistics, *, signed=False, reduced=True):
    return quantize_for_ort(
        model, statistics, method="minmax", signed=signed, reduced_range=reduced, metadata={"k": "v"}
    )


@pytest.fixture(scope="module")
def content(model, statistics):
    return quantized(model, statistics)


def constants_of(content):
    return {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(content).graph.initializer}


def test_head_stem_and_attention_stay_float(model, placement):
    nodes = onnx.load_from_string(model).graph.node
    convolutions = {node.name for node in nodes if node.op_type == "Conv"}
    last = {f"model.21.cv{branch}.{index}.2" for branch in (2, 3) for index in range(3)}
    assert last <= set(placement.float_nodes)
    assert not last & set(placement.nodes)
    stem = {name for name in convolutions if name.split(".")[1] in "012"}
    assert convolutions - set(placement.nodes) == last | stem
    kinds = {node.name: node.op_type for node in nodes}
    assert {kinds[name] for name in placement.nodes} == {"Conv", "Sigmoid", "Mul", "Add", "Concat", "Resize"}
    assert not [name for name in placement.nodes if name.startswith(("model.21.dfl", "model.21.xyxy"))]
    assert not {"boxes", "scores", "model.21.box", "model.21.cls"} & set(placement.tensors)


def test_a_foreign_graph_is_refused(model):
    proto = onnx.load_from_string(model)
    for index, node in enumerate(proto.graph.node):
        node.name = f"node_{index}"
    with pytest.raises(ExportError, match="no layers named"):
        place_for_ort(proto)


def test_every_quantized_convolution_runs_in_integers(content, model, placement):
    wanted = sum(
        node.op_type == "Conv" and node.name in placement.nodes for node in onnx.load_from_string(model).graph.node
    )
    assert wanted > 100
    assert count_integer_convolutions(content) == wanted
    assert count_integer_convolutions(model) == 0


@pytest.mark.parametrize(("reduced", "limit"), [(True, 64), (False, 127)])
def test_weights_keep_to_their_range(model, statistics, reduced, limit):
    weights = [
        value
        for name, value in constants_of(quantized(model, statistics, reduced=reduced)).items()
        if name.endswith(".weight.q")
    ]
    assert len(weights) > 100
    assert all(value.dtype == np.int8 for value in weights)
    assert max(np.abs(value.astype(int)).max() for value in weights) == limit


@pytest.mark.parametrize("signed", [False, True])
def test_zero_points(model, statistics, signed):
    constants = constants_of(quantized(model, statistics, signed=signed))
    activations = {name: value for name, value in constants.items() if name.endswith(".zero_point") and not value.ndim}
    assert len(activations) > 200
    assert {value.dtype for value in activations.values()} == {np.dtype(np.int8 if signed else np.uint8)}
    if signed:
        assert not any(activations.values())
    for name, value in constants.items():
        if name.endswith((".weight.zero_point", ".bias.zero_point")):
            assert not value.any()


def test_bias_scale_is_the_product_of_input_and_weight_scale(content):
    constants = constants_of(content)
    proto = onnx.load_from_string(content)
    conv = next(node for node in proto.graph.node if node.name == "model.5.conv")
    source = conv.input[0].removesuffix(".dq")
    expected = constants[f"{source}.scale"] * constants["model.5.conv.weight.scale"]
    np.testing.assert_allclose(constants["model.5.conv.bias.scale"], expected, rtol=1e-6)
    assert constants["model.5.conv.bias.q"].dtype == np.int32


def test_copies_share_their_parameters(placement, statistics):
    params = solve_params(placement, statistics, "mse", signed=False)
    assert set(placement.same_as) == {"model.9", "model.12"}
    for name, source in placement.same_as.items():
        assert params[name] == params[source]
    assert set(params) == set(placement.tensors)


def test_int8_stays_close_to_float(content, model, tiny_onnx, scene_frames):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    feeds = {"images": Preprocessor(tiny_onnx.manifest.input)(scene_frames[0])[0]}
    (_, expected), (_, found) = (
        onnxruntime.InferenceSession(item, options, providers=["CPUExecutionProvider"]).run(None, feeds)
        for item in (model, content)
    )
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.9


def test_same_input_same_bytes_and_metadata_kept(content, model, statistics):
    assert quantized(model, statistics) == content
    proto = onnx.load_from_string(content)
    assert [(item.key, item.value) for item in proto.metadata_props] == [("k", "v")]
    assert proto.opset_import[0].version < 19
