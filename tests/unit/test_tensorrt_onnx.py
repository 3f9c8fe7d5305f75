"""The ONNX that TensorRT gets: every form has the numbers of the model it was made from, and TensorRT-RTX takes it."""

from __future__ import annotations

import dataclasses

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yolo12edge.assets import DEMO_CHECKPOINT
from yolo12edge.calibration.graph import group_of, load_model
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.data.scenes import render_scene
from yolo12edge.errors import ExportError, InputError, VerificationError
from yolo12edge.exporters import onnx_from_checkpoint
from yolo12edge.exporters.fp16 import LARGEST_ON_IMAGES, half_scales
from yolo12edge.exporters.graph_edit import GraphEdit
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, check_symmetric, half_overflows, tensorrt_onnx
from yolo12edge.exporters.verify import check_half_parity
from yolo12edge.manifest import Calibration, Manifest, Parity
from yolo12edge.postprocess import Postprocessor
from yolo12edge.preprocess import Preprocessor
from yolo12edge.thresholds import Thresholds

SIDE = 160
AREA_BLOCK, WHOLE_BLOCK = "model.6.m.0.0.attn", "model.8.m.0.0.attn"
EVERYTHING = Thresholds(confidence=0.001, iou=0.5)


@dataclasses.dataclass
class Source:
    """A model to make forms of, and what it answers to the test images."""

    content: bytes
    manifest: Manifest
    outputs: list[np.ndarray]


@pytest.fixture(scope="module")
def frames():
    return [render_scene(seed=5, split="tests", index=index, size=SIDE).image for index in range(4)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "fp32"
    return onnx_from_checkpoint(DEMO_CHECKPOINT, folder, image_size=SIDE, verify=False)


@pytest.fixture(scope="module")
def images(hub, frames):
    return Preprocessor(hub.manifest.input).batch(frames)[0]


@pytest.fixture(scope="module")
def quantizer(hub, frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    model = hub.model_file.read_bytes()
    return Quantizer(model, observe(model, images_of_folder(folder), hub.manifest.input, threads=1))


@pytest.fixture(scope="module")
def float_source(hub, images):
    content = hub.model_file.read_bytes()
    return Source(content, hub.manifest, one_by_one(content, images))


@pytest.fixture(scope="module")
def int8_source(hub, quantizer, images):
    content = quantizer(Recipe("tensorrt"))
    return Source(content, int8_manifest(hub.manifest), one_by_one(content, images))


def int8_manifest(manifest):
    calibration = Calibration(
        method="mse",
        split="train",
        images=[],
        images_digest="0" * 64,
        placement="tensorrt",
        float_nodes=[],
        reduced_range=False,
    )
    return msgspec.structs.replace(manifest, precision="int8", calibration=calibration)


def run(content, images):
    """Outputs of the graph as it stands: boxes, scores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(["boxes", "scores"], {session.get_inputs()[0].name: images})


def one_by_one(content, images):
    return [np.concatenate(parts) for parts in zip(*(run(content, image[None]) for image in images), strict=True)]


def largest_difference(found, expected):
    return [float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)]


def mean_difference(found, expected):
    return [float(np.abs(one - other).mean()) for one, other in zip(found, expected, strict=True)]


def made(source, **form):
    return tensorrt_onnx(source.content, source.manifest, TensorRtForm(**form))


def types_of(content):
    """Tensor → type, as the standard infers it."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    return {item.name: item.type.tensor_type.elem_type for item in (*graph.value_info, *graph.input, *graph.output)} | {
        item.name: item.data_type for item in graph.initializer
    }


def shapes_of(content):
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    return {
        item.name: tuple(dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim)
        for item in (*graph.value_info, *graph.input, *graph.output)
    }


@pytest.mark.parametrize("attention", ["native", "onnx"])
@pytest.mark.parametrize("batch", [{"batch": 4}, {"batch": 8, "min_batch": 1}])
def test_float32_forms_give_each_image_the_result_it_has_alone(float_source, images, attention, batch):
    content, _ = made(float_source, precision="fp32", attention=attention, **batch)
    boxes, scores = largest_difference(run(content, images), float_source.outputs)
    assert boxes < 2e-3
    assert scores < 1e-5


def test_a_dynamic_batch_takes_any_number(float_source, images):
    content, manifest = made(float_source, precision="fp32", batch=8, min_batch=1)
    for count in (1, 3, 8):
        several = np.concatenate((images, images))[:count]
        expected = [np.concatenate((part, part))[:count] for part in float_source.outputs]
        assert max(largest_difference(run(content, several), expected)) < 2e-3
    assert (manifest.input.min_batch, manifest.input.batch) == (1, 8)
    assert {output.shape[0] for output in manifest.outputs} == {8}
    shapes = shapes_of(content)
    assert [shapes[name][0] for name in ("images", "boxes", "scores")] == ["batch"] * 3


@pytest.mark.parametrize("attention", ["native", "onnx"])
def test_float16_is_as_close_as_half_precision_allows(float_source, images, attention):
    content, _ = made(float_source, attention=attention, batch=4)
    found = run(content, images)
    boxes, scores = largest_difference(found, float_source.outputs)
    check_half_parity(Parity(source="hub", images=4, errors={"boxes": boxes, "scores": scores}))
    assert boxes > 1e-3  # else it did not compute in half precision
    assert {output.dtype for output in found} == {np.dtype(np.float32)}
    types = types_of(content)
    assert types["images"] == TensorProto.FLOAT
    for name in (f"{AREA_BLOCK}.q.conv", "model.0.conv", "model.21.cv2.0.2", "model.5.conv.weight.half"):
        assert types[name] == TensorProto.FLOAT16
    for name in ("model.21.dfl.softmax", "model.21.corners", "boxes", "scores"):
        assert types[name] == TensorProto.FLOAT


@pytest.mark.parametrize("attention", ["native", "onnx"])
def test_int8_beside_float32_is_the_quantized_source(int8_source, images, attention):
    content, manifest = made(int8_source, precision="fp32", attention=attention, batch=4)
    boxes, scores = largest_difference(run(content, images), int8_source.outputs)
    assert boxes < 5e-3
    assert scores < 1e-4
    assert manifest.precision == "int8"


def test_int8_beside_float16_loses_nothing_to_speak_of(int8_source, float_source, images):
    content, _ = made(int8_source, batch=4)
    found = run(content, images)
    quantization = mean_difference(int8_source.outputs, float_source.outputs)
    # Another rounding of the same values: it moves some across the border between two integers.
    for own, other in zip(mean_difference(found, int8_source.outputs), quantization, strict=True):
        assert own < other
    for own, other in zip(mean_difference(found, float_source.outputs), quantization, strict=True):
        assert own < 1.15 * other
    types = types_of(content)
    pairs = [node for node in onnx.load_from_string(content).graph.node if node.op_type == "DequantizeLinear"]
    assert {types[node.output[0]] for node in pairs} == {TensorProto.FLOAT16}
    assert {types[node.input[0]] for node in pairs} == {TensorProto.INT8}


def test_scales_that_half_precision_lacks_move_no_weight_by_more_than_half_a_step():
    integers = np.arange(-127, 128).astype(np.int8).reshape(1, -1, 1, 1).repeat(6, 0)
    scales = np.array([0.01, 3e-5, 1.33e-6, 8.9e-8, 1e-9, 1e5], np.float32)
    weight = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0)
    graph = GraphEdit("g", [weight], {"q": integers, "s": scales, "z": np.zeros(6, np.int8)}, [], [])
    half_scales(graph)
    near = graph.constants["s"]
    assert (near > 0).all()
    assert (near[:5] == near[:5].astype(np.float16)).all()
    assert near[5] == np.float32(1e5)  # there is no such number: whoever reads it stays float32, or it is refused
    before = integers * scales.astype(np.float64)[:, None, None, None]
    after = graph.constants["q"] * near.astype(np.float64)[:, None, None, None]
    step = near[:, None, None, None]
    assert (np.abs(before - after) <= 0.501 * step).all()
    assert (graph.constants["q"][0] == integers[0]).all()


def test_the_other_variant_and_a_picture_that_is_not_square(checkpoint_maker, scene_frames, tmp_path):
    checkpoint = checkpoint_maker(tmp_path / "c.safetensors", scene_frames, variant="turbo")
    artifact = onnx_from_checkpoint(checkpoint, tmp_path / "out", image_size=(96, 64), verify=False)
    content = artifact.model_file.read_bytes()
    batch = Preprocessor(artifact.manifest.input).batch(scene_frames[:2])[0]
    source = Source(content, artifact.manifest, one_by_one(content, batch))
    for attention in ("native", "onnx"):
        boxes, scores = largest_difference(
            run(made(source, precision="fp32", attention=attention, batch=2)[0], batch), source.outputs
        )
        assert boxes < 0.5  # random weights amplify rounding
        assert scores < 2e-3
    native = run(made(source, batch=2)[0], batch)
    joined = run(with_attention_function(made(source, attention="plugin", batch=2)[0]), batch)
    assert mean_difference(joined, native)[0] < mean_difference(native, source.outputs)[0]


def test_attention_is_the_pattern_that_fuses(float_source):
    content, _ = made(float_source, batch=2)
    graph, shapes = onnx.load_from_string(content).graph, shapes_of(content)
    tokens = (SIDE // 16) ** 2 // 4
    assert shapes[f"{AREA_BLOCK}.q"] == shapes[f"{AREA_BLOCK}.v"] == (8, 2, tokens, 32)
    assert shapes[f"{AREA_BLOCK}.k"] == (8, 2, 32, tokens)
    assert shapes[f"{WHOLE_BLOCK}.q"] == (2, 4, (SIDE // 32) ** 2, 32)
    nodes = {node.name: node for node in graph.node}
    for path in (AREA_BLOCK, WHOLE_BLOCK):
        assert list(nodes[f"{path}.logits"].input) == [f"{path}.q", f"{path}.k"]
        assert list(nodes[f"{path}.softmax"].input) == [f"{path}.logits"]
        assert list(nodes[f"{path}.mixed"].input) == [f"{path}.softmax", f"{path}.v"]
    assert sum(node.op_type == "Softmax" for node in graph.node) == 8 + 1  # and the boxes'
    assert not {"Shape", "Expand", "ConstantOfShape", "Loop", "If"} & {node.op_type for node in graph.node}


@pytest.mark.parametrize("form", [{}, {"attention": "onnx"}, {"attention": "plugin"}])
def test_a_reshape_leaves_only_the_batch_open(float_source, form):
    graph = onnx.load_from_string(made(float_source, batch=4, min_batch=1, **form)[0]).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    shapes = [constants[node.input[1]].tolist() for node in graph.node if node.op_type == "Reshape"]
    assert shapes
    for shape in shapes:
        assert shape[0] == -1
        assert all(number > 0 for number in shape[1:])


def test_the_oldest_opset_that_will_do(float_source, int8_source):
    def opset(source, **form):
        return {item.domain: item.version for item in onnx.load_from_string(made(source, **form)[0]).opset_import}

    assert (
        opset(float_source) == opset(float_source, precision="fp32") == opset(int8_source, precision="fp32") == {"": 17}
    )
    assert opset(int8_source) == {"": 19}
    assert opset(int8_source, attention="onnx") == {"": 23}
    assert opset(float_source, attention="plugin") == {"": 17, "yolo12edge": 1}


def with_attention_function(content):
    """Give the plugin's operator a body of standard ones."""
    model = onnx.load_from_string(content)

    def node(op, inputs, output, **attributes):
        return helper.make_node(op, inputs, [output], **attributes)

    def number(name, value):
        return node("Constant", [], name, value_ints=[value])

    def attribute(name):
        made = helper.make_node("Constant", [], [f"{name}.scalar"])
        made.attribute.append(onnx.AttributeProto(name="value_int", ref_attr_name=name, type=onnx.AttributeProto.INT))
        return [made, node("Reshape", [f"{name}.scalar", "one"], name)]

    body = [number("one", 1), number("three", 3), number("rest", -1), number("dim", 32)]
    body += [*attribute("heads"), *attribute("area"), node("Shape", ["qkv"], "whole")]
    body += [number(f"at{index}", index) for index in (0, 2, 3)]
    body += [node("Gather", ["whole", f"at{index}"], name) for index, name in ((0, "b"), (2, "h"), (3, "w"))]
    body += [
        node("Concat", ["b", "three", "heads", "dim", "area", "rest"], "split", axis=0),
        node("Reshape", ["qkv", "split"], "parts"),
        node("Transpose", ["parts"], "ordered", perm=[1, 0, 4, 2, 5, 3]),  # part, image, area, head, token, channel
        helper.make_node("Split", ["ordered"], ["q1", "k1", "v1"], axis=0),
        node("Transpose", ["k1"], "k2", perm=[0, 1, 2, 3, 5, 4]),
        node("MatMul", ["q1", "k2"], "logits"),
        node("Softmax", ["logits"], "weights", axis=-1),
        node("MatMul", ["weights", "v1"], "mixed"),
        node("Transpose", ["mixed"], "back", perm=[0, 1, 3, 5, 2, 4]),
        node("Concat", ["b", "rest", "h", "w"], "map", axis=0),
        node("Reshape", ["back", "map"], "out"),
    ]
    model.functions.append(
        helper.make_function(
            "yolo12edge",
            "AreaAttention",
            ["qkv"],
            ["out"],
            body,
            [helper.make_opsetid("", 17)],
            attributes=["heads", "area", "plugin_namespace", "plugin_version"],
        )
    )
    model.opset_import[0].version = 17 if model.opset_import[0].version == 17 else 19
    return model.SerializeToString()


def test_plugin_reads_q_k_and_v_of_one_convolution(float_source, images):
    content, _ = made(float_source, attention="plugin", batch=4)
    native = run(made(float_source, batch=4)[0], images)
    found = run(with_attention_function(content), images)
    assert mean_difference(found, native)[0] < 0.02
    assert max(largest_difference(found, float_source.outputs)) < 4
    graph, types = onnx.load_from_string(content).graph, types_of(content)
    plugins = [node for node in graph.node if node.op_type == "AreaAttention"]
    assert len(plugins) == 8
    told = {item.name: helper.get_attribute_value(item) for item in plugins[0].attribute}
    assert told == {"plugin_namespace": b"yolo12edge", "plugin_version": b"1", "heads": 2, "area": 4}
    assert plugins[0].domain == "yolo12edge"
    assert types[plugins[0].input[0]] == TensorProto.FLOAT16
    assert shapes_of(content)[plugins[0].input[0]] == (4, 3 * 64, SIDE // 16, SIDE // 16)


def test_plugin_of_an_int8_model(int8_source, float_source, images):
    content, _ = made(int8_source, attention="plugin", batch=4, min_batch=1)
    found = run(with_attention_function(content), images)
    quantization = mean_difference(int8_source.outputs, float_source.outputs)
    for own, other in zip(mean_difference(found, int8_source.outputs), quantization, strict=True):
        assert own < other
    joined = numpy_helper.to_array(
        next(
            item
            for item in onnx.load_from_string(content).graph.initializer
            if item.name == f"{AREA_BLOCK}.qkv.conv.weight.q"
        )
    )
    assert joined.dtype == np.int8
    assert joined.shape == (192, 64, 1, 1)


@pytest.mark.parametrize("source", ["float_source", "int8_source"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_pixels_are_the_same_picture(request, images, source, precision):
    source = request.getfixturevalue(source)
    content, manifest = made(source, precision=precision, batch=4, uint8=True)
    pixels = np.rint(images.transpose(0, 2, 3, 1)[..., ::-1] * 255).astype(np.uint8)
    plain = run(made(source, precision=precision, batch=4)[0], images)
    found = run(content, pixels)
    if source.manifest.precision == "int8" or precision == "fp16":  # the last bit of a sum may decide on an integer
        assert mean_difference(found, plain)[0] < 0.5
    else:
        assert max(largest_difference(found, plain)) < 5e-3
    spec = manifest.input
    assert (spec.dtype, spec.layout, spec.color, spec.pixels) == ("uint8", "NHWC", "BGR", True)
    assert shapes_of(content)["images"] == spec.shape(4)
    readers = [node.op_type for node in onnx.load_from_string(content).graph.node if "images" in node.input]
    assert readers == ["Cast"]  # TensorRT does nothing else with uint8


def detections(source_manifest, outputs, frames, thresholds):
    _, letterboxes = Preprocessor(msgspec.structs.replace(source_manifest.input)).batch(frames)
    return Postprocessor(source_manifest)(dict(zip(("boxes", "scores"), outputs, strict=True)), letterboxes, thresholds)


def same_detections(found, expected):
    assert sum(map(len, expected)) > 20
    for own, other in zip(found, expected, strict=True):
        assert len(own) == len(other)
        np.testing.assert_allclose(own.xyxy, other.xyxy, atol=1e-3)
        np.testing.assert_allclose(own.confidence, other.confidence, atol=1e-6)
        np.testing.assert_array_equal(own.class_id, other.class_id)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The demo model at 640 px, which has 8400 candidates, and what it answers to two scenes."""
    artifact = onnx_from_checkpoint(
        DEMO_CHECKPOINT, tmp_path_factory.mktemp("large") / "fp32", image_size=640, verify=False
    )
    pictures = [render_scene(seed=6, split="tests", index=index, size=640).image for index in range(2)]
    batch, _ = Preprocessor(artifact.manifest.input).batch(pictures)
    content = artifact.model_file.read_bytes()
    source = Source(content, artifact.manifest, [])
    return source, pictures, batch, run(made(source, precision="fp32", batch=2)[0], batch)


def test_detections_from_the_best_candidates_are_those_from_all(large):
    source, pictures, batch, all_candidates = large
    content, manifest = made(source, precision="fp32", batch=2, candidates=2048)
    found = run(content, batch)
    assert [part.shape for part in found] == [(2, 4, 2048), (2, 6, 2048)]
    assert [output.shape for output in manifest.outputs] == [(2, 4, 2048), (2, 6, 2048)]
    best = found[1].max(1)
    assert (np.diff(best, axis=1) <= 0).all()
    expected = detections(source.manifest, all_candidates, pictures, EVERYTHING)
    same_detections(detections(manifest, found, pictures, EVERYTHING), expected)


def test_suppression_in_the_graph_is_that_of_the_runtime(large):
    source, pictures, batch, all_candidates = large
    content, manifest = made(source, precision="fp32", batch=4, min_batch=1, candidates=2048, nms_iou=0.5)
    assert manifest.nms_iou == 0.5
    found = run(content, batch)
    assert [part.shape for part in found] == [(2, 4, 2048), (2, 6, 2048)]
    expected = detections(source.manifest, all_candidates, pictures, EVERYTHING)
    same_detections(detections(manifest, found, pictures, EVERYTHING), expected)
    # A threshold of 1 suppresses nothing any more: the graph has done it all.
    manifest = msgspec.structs.replace(manifest, nms_iou=None)
    same_detections(detections(manifest, found, pictures, dataclasses.replace(EVERYTHING, iou=1.0)), expected)
    alone = made(source, precision="fp32", candidates=2048)[0]
    assert (run(alone, batch[:1])[1] > 0).sum() > (found[1][:1] > 0).sum()


def test_an_image_without_a_candidate_beside_one_with(float_source, images):
    content, _ = made(float_source, precision="fp32", batch=2, candidates=300, nms_iou=0.5)
    found = run(content, np.stack((np.zeros_like(images[0]), images[0])))
    alone = run(made(float_source, precision="fp32", candidates=300, nms_iou=0.5)[0], images[:1])
    assert max(largest_difference([part[1:] for part in found], alone)) < 2e-3


def test_fewer_candidates_than_asked_for_are_all(float_source):
    assert made(float_source, candidates=2048)[1].outputs[0].shape == (1, 4, 525)


def test_more_candidates_than_tensorrt_chooses_are_refused(large):
    with pytest.raises(InputError, match="3840"):
        made(large[0], candidates=5000)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"precision": "int8"}, "precision"),
        ({"attention": "flash"}, "attention"),
        ({"attention": "plugin", "precision": "fp32"}, "float16"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 2, "min_batch": 3}, "3 to 2"),
        ({"min_batch": 0}, "0 to 1"),
        ({"candidates": 0}, "0 candidates"),
        ({"nms_iou": 0.5}, "suppress"),
        ({"candidates": 9, "nms_iou": 1.5}, "1.5"),
        ({"candidates": 9, "nms_iou": float("nan")}, "nan"),
    ],
)
def test_forms_that_cannot_be(form, said):
    with pytest.raises(InputError, match=said):
        TensorRtForm(**form)


def test_only_int8_around_zero_is_symmetric(quantizer, hub, int8_source, float_source):
    check_symmetric(load_model(float_source.content))
    check_symmetric(load_model(int8_source.content))
    for target in ("ort-x86", "openvino", "ort-arm"):  # offsets; offsets; biases of 32 bits
        content = quantizer(Recipe(target))
        with pytest.raises(ExportError, match="int8 with zero point 0"):
            check_symmetric(load_model(content))
        with pytest.raises(ExportError, match="int8 with zero point 0"):
            tensorrt_onnx(content, int8_manifest(hub.manifest), TensorRtForm())


def test_unsigned_codes_without_offset_are_refused_too(int8_source):
    model = load_model(int8_source.content)
    pair = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    zero = next(item for item in model.graph.initializer if item.name == pair.input[2])
    zero.CopyFrom(numpy_helper.from_array(np.array(0, np.uint8), zero.name))
    with pytest.raises(ExportError, match="uint8"):
        check_symmetric(model)
    del pair.input[2]
    with pytest.raises(ExportError, match="no constant zero point"):
        check_symmetric(model)


def scaled_until_it_overflows(content, factor=3e4):
    """Let the values of one attention grow and shrink again, which changes no result of the float model."""
    model = load_model(content)
    for item in model.graph.initializer:
        for name, by in (
            ("v.conv.weight", factor),
            ("v.conv.bias", factor),
            ("pe.conv.bias", factor),
            ("proj.conv.weight", 1 / factor),
        ):
            if item.name == f"{AREA_BLOCK}.{name}":
                item.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(item) * by).astype(np.float32), item.name))
    return model.SerializeToString()


@pytest.mark.parametrize("attention", ["native", "onnx"])
def test_what_half_precision_cannot_hold_stays_float32(float_source, frames, images, attention):
    content = scaled_until_it_overflows(float_source.content)
    source = Source(content, float_source.manifest, one_by_one(content, images))
    assert max(largest_difference(source.outputs, float_source.outputs)) < 0.01

    def parity(**form):
        boxes, scores = (
            float(np.nan_to_num(value, nan=np.inf, posinf=np.inf))
            for value in largest_difference(
                run(made(source, attention=attention, batch=4, **form)[0], images), source.outputs
            )
        )
        return Parity(source="hub", images=4, errors={"boxes": boxes, "scores": scores})

    with pytest.raises(VerificationError):
        check_half_parity(parity())
    kept = half_overflows(content, source.manifest.input, frames)
    assert {f"{AREA_BLOCK}.{name}" for name in ("v.conv", "v", "mixed", "pe.conv", "proj.conv")} <= kept
    assert f"{AREA_BLOCK}.q.conv" not in kept
    assert len(kept) < 20
    check_half_parity(parity(float_names=kept))
    with pytest.raises(InputError, match="native"):
        made(source, attention="plugin", float_names=kept)


def test_a_trained_model_fits_half_precision(float_source, frames):
    assert half_overflows(float_source.content, float_source.manifest.input, frames) == frozenset()
    assert LARGEST_ON_IMAGES == 65504 / 8
    with pytest.raises(InputError, match="no image"):
        half_overflows(float_source.content, float_source.manifest.input, [])


def test_weights_that_do_not_fit_half_precision_are_found(float_source, frames, images):
    content = scaled_until_it_overflows(float_source.content, 1e8)
    source = Source(content, float_source.manifest, one_by_one(content, images))
    with pytest.raises(ExportError, match=r"attn\.v\.conv\.weight"):
        made(source)
    kept = half_overflows(content, source.manifest.input, frames)
    made(source, float_names=kept)


def test_the_same_bytes_with_their_manifest_inside(int8_source):
    form = {"batch": 2, "candidates": 100, "nms_iou": 0.6, "uint8": True}
    content, manifest = made(int8_source, **form)
    assert made(int8_source, **form)[0] == content
    props = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}
    assert Manifest.from_embedded_json(props["yolo12edge"]).outputs == manifest.outputs
    assert manifest.files == []
    assert not onnx.load_from_string(content).graph.value_info


def test_int8_of_which_nothing_is_left_has_a_remedy(hub, quantizer):
    graph = quantizer.graph
    groups = frozenset(group_of(node.name) for node in graph.nodes if graph.is_body(node))
    content = quantizer(Recipe("tensorrt", float_groups=groups))
    with pytest.raises(ExportError, match=r"no Q/DQ pairs.*use the float artifact.*--max-map-drop"):
        tensorrt_onnx(content, int8_manifest(hub.manifest), TensorRtForm())


def no_input(graph):
    del graph.input[:]


def no_output(graph):
    del graph.output[:]


def no_strides(graph):
    graph.initializer.remove(next(item for item in graph.initializer if item.name.endswith(".strides")))


def no_projection(graph):
    graph.node.remove(next(node for node in graph.node if node.name.endswith(".attn.v.conv")))


def short_shape(graph):
    shape = next(item for item in graph.initializer if item.name.endswith(".attn.q.areas.shape"))
    shape.CopyFrom(numpy_helper.from_array(np.array([2, 32], np.int64), shape.name))


@pytest.mark.parametrize("damage", [no_input, no_output, no_strides, no_projection, short_shape])
def test_a_graph_of_somebody_else_is_refused(float_source, damage):
    model = onnx.load_from_string(float_source.content)
    damage(model.graph)
    form = TensorRtForm(attention="plugin", candidates=10)
    with pytest.raises(ExportError, match=r"takes nothing|not as this project writes it"):
        tensorrt_onnx(model.SerializeToString(), float_source.manifest, form)


def test_models_and_manifests_that_do_not_fit_are_refused(float_source, int8_source):
    with pytest.raises(ExportError, match="no Q/DQ"):
        tensorrt_onnx(float_source.content, int8_source.manifest, TensorRtForm())
    with pytest.raises(ExportError, match="fp32"):
        tensorrt_onnx(int8_source.content, float_source.manifest, TensorRtForm())
    batched, manifest = made(float_source, precision="fp32", batch=2)
    with pytest.raises(ExportError, match="takes"):
        tensorrt_onnx(batched, manifest, TensorRtForm())
