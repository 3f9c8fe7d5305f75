"""TensorRT-RTX, which needs no GPU to build, takes the ONNX forms that are made for TensorRT.

It has no plugins (a graph with one aborts the process: none is ever given to it) and no kernel for NonMaxSuppression.
"""

from __future__ import annotations

import cv2
import msgspec
import pytest

from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx
from yolo12edge.manifest import Calibration
from yolo12edge.runtimes.tensorrt_library import LogKeeper

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx, which builds without a GPU, is not installed")

# It turns scales back into float32 inside of its convolutions, and says so for each.
_EXPECTED = "scales to fp32"


@pytest.fixture(scope="module")
def sources(tiny_onnx, scene_frames, tmp_path_factory):
    """The tiny model and its INT8 form, each with its manifest."""
    folder = tmp_path_factory.mktemp("calibration")
    for index, frame in enumerate(scene_frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    model, manifest = tiny_onnx.model_file.read_bytes(), tiny_onnx.manifest
    quantizer = Quantizer(model, observe(model, images_of_folder(folder), manifest.input, threads=1))
    calibration = Calibration(
        method="mse",
        split="",
        images=[],
        images_digest="0" * 64,
        placement="tensorrt",
        float_nodes=[],
        reduced_range=False,
    )
    quantized = msgspec.structs.replace(manifest, precision="int8", calibration=calibration)
    return {"float": (model, manifest), "int8": (quantizer(Recipe("tensorrt")), quantized)}


class Log(LogKeeper):
    """Keeps every warning and error; the library has one logger for all that lives in the process."""

    def __init__(self):
        self.lines = []
        super().__init__(trt)

    def keep(self, severity, message):
        if severity in ("WARNING", "ERROR", "INTERNAL_ERROR"):
            self.lines.append(message)


def parse(content, log):
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    assert parser.parse(content), [str(parser.get_error(index)) for index in range(parser.num_errors)]
    return builder, network, parser


def build(content, form):
    log = Log()
    builder, network, parser = parse(content, log)
    config = builder.create_builder_config()
    if form.min_batch is not None:
        profile, images = builder.create_optimization_profile(), network.get_input(0)
        shapes = [(batch, *tuple(images.shape)[1:]) for batch in (form.min_batch, form.batch, form.batch)]
        profile.set_shape(images.name, *shapes)
        config.add_optimization_profile(profile)
    if form.attention == "onnx" and form.precision == "fp32":  # there is no fused kernel for float32
        for layer in map(network.get_layer, range(network.num_layers)):
            if layer.type == trt.LayerType.ATTENTION_INPUT:
                layer.__class__ = trt.IAttentionInputLayer
                layer.attention.decomposable = True
    plan = builder.build_serialized_network(network, config)
    del parser
    return plan, [line for line in log.lines if _EXPECTED not in line], network


FORMS = [
    ("float", TensorRtForm(precision="fp32")),
    ("float", TensorRtForm(precision="fp32", attention="onnx")),
    ("float", TensorRtForm(batch=8, min_batch=1, uint8=True, candidates=100)),
    ("float", TensorRtForm(attention="onnx", batch=2)),
    ("float", TensorRtForm(float_names=frozenset({"model.6.m.0.0.attn.v.conv", "model.5.conv"}))),
    ("int8", TensorRtForm(precision="fp32", batch=4, min_batch=1)),
    ("int8", TensorRtForm(uint8=True)),
    ("int8", TensorRtForm(attention="onnx", batch=2)),
]


@pytest.mark.parametrize(("source", "form"), FORMS)
def test_it_builds_without_a_warning(sources, source, form):
    content, manifest = tensorrt_onnx(*sources[source], form)
    plan, complaints, network = build(content, form)
    assert plan is not None, complaints
    assert plan.nbytes > 1_000_000
    assert complaints == []
    tensors = [network.get_input(0), *(network.get_output(index) for index in range(network.num_outputs))]
    kinds = {tensor.name: tensor.dtype for tensor in tensors}
    assert kinds == {"images": trt.uint8 if form.uint8 else trt.float32, "boxes": trt.float32, "scores": trt.float32}
    free = form.min_batch is not None
    for tensor, shape in zip(
        tensors, [manifest.input.shape(form.batch), *(o.shape for o in manifest.outputs)], strict=True
    ):
        assert tuple(tensor.shape)[1:] == shape[1:]
        assert tensor.shape[0] == (-1 if free else form.batch)


def test_it_reads_the_suppression(sources):
    content, _ = tensorrt_onnx(*sources["float"], TensorRtForm(batch=2, candidates=100, nms_iou=0.5))
    builder, network, parser = parse(content, Log())
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    assert trt.LayerType.NMS in kinds
    assert tuple(network.get_output(1).shape) == (2, 3, 100)
    del builder, parser
