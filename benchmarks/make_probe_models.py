"""Make the models that ``yolo12edge doctor --measure`` times: the graphs of YOLO12n with weights that take no room.

Run from the root of a checkout with the extras ``export``, ``openvino`` and ``onnxruntime``:

    python benchmarks/make_probe_models.py

The graphs are those that ``yolo12edge export`` makes at 640 px. Weights are one short random sequence again and again,
at a scale, a power of two, that keeps activations as large as a trained network's: an engine takes as long for them,
and xz packs them to a fiftieth. Nothing is detected: the classes' biases say so.
"""

from __future__ import annotations

import lzma
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from yolo12edge.assets import DEMO_CHECKPOINT
from yolo12edge.calibration.graph import load_model
from yolo12edge.calibration.images import CalibrationImages, images_of_folder
from yolo12edge.calibration.observe import activations, observe
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.data.scenes import render_scene
from yolo12edge.exporters import onnx_from_checkpoint
from yolo12edge.imaging.images import write_image
from yolo12edge.manifest import InputSpec

SIZE = 640
PERIOD = 4093  # prime, so that no two filters begin at the same place of the sequence
GAIN = 1.15  # times 1/sqrt(fan-in): with more, or less, activations grow, or vanish, from layer to layer
NO_CLASS = -9.0  # the logit of every class
RECIPES = {
    "int8-ort-x86": Recipe("ort-x86-vnni"),
    "int8-ort-arm": Recipe("ort-arm"),
    "int8-openvino": Recipe("openvino-vnni"),
}
ASSETS = Path("yolo12edge/assets")


def main() -> None:
    """Write the assets."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported = onnx_from_checkpoint(DEMO_CHECKPOINT, folder / "fp32", image_size=SIZE, verify=False)
        model = load_model(exported.model_file.read_bytes())
        fill_float(model)
        spec = exported.manifest.input
        images = draw_pictures(folder)
        check(model, images, spec)
        write("fp32", model)
        content = model.SerializeToString()
        quantizer = Quantizer(content, observe(content, images, spec))
        for kind, recipe in RECIPES.items():
            quantized = onnx.load_from_string(quantizer(recipe))
            fill_integers(quantized)
            write(kind, quantized)


def draw_pictures(folder: Path) -> CalibrationImages:
    """Draw two pictures to calibrate on."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for index in range(2):
        write_image(pictures / f"{index}.png", render_scene(seed=0, split="probe", index=index, size=SIZE).image)
    return images_of_folder(pictures)


def fill_float(model: onnx.ModelProto) -> None:
    """Replace weights and biases of convolutions."""
    sequence = np.clip(np.random.default_rng(0).standard_normal(PERIOD), -3, 3).astype(np.float32)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        weight = tensors[node.input[1]]
        gain = GAIN / 8 if ".attn.q" in node.name else GAIN  # or its softmax would be 0 nearly everywhere
        scale = 2.0 ** round(math.log2(gain / math.sqrt(math.prod(weight.dims[1:]))))
        replace(weight, np.resize(sequence, tuple(weight.dims)) * np.float32(scale))
        if len(node.input) > 2:
            is_class = ".cv3." in node.name and node.name.endswith(".2")
            bias = tensors[node.input[2]]
            replace(bias, np.full(tuple(bias.dims), NO_CLASS if is_class else 0, np.float32))


def fill_integers(model: onnx.ModelProto) -> None:
    """Replace quantized weights, and give all channels of a tensor one scale, and biases of zero theirs."""
    sequence = np.random.default_rng(0).integers(-127, 128, PERIOD).astype(np.int8)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    scales = {node.output[0]: node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in scales:
            continue
        weight, scale = tensors[node.input[1].removesuffix(".dq") + ".q"], tensors[scales[node.input[1]]]
        replace(weight, np.resize(sequence, tuple(weight.dims)))
        # As large as the float weights: 73 is the deviation of the integers.
        size = np.full(tuple(scale.dims), GAIN / math.sqrt(math.prod(weight.dims[1:])) / 73, np.float32)
        replace(scale, size)
        # Engines compute in integers only if the bias has the product of the two scales.
        if len(node.input) > 2 and node.input[2] in scales:
            image = numpy_helper.to_array(tensors[scales[node.input[0]]])
            replace(tensors[scales[node.input[2]]], (image.astype(np.float64) * size).astype(np.float32))
            integers = tensors[node.input[2].removesuffix(".dq") + ".q"]
            replace(integers, np.zeros(tuple(integers.dims), np.int32))


def replace(tensor: onnx.TensorProto, values: Any) -> None:
    """Give a tensor other values; it keeps its name."""
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


def check(model: onnx.ModelProto, images: CalibrationImages, spec: InputSpec) -> None:
    """Refuse activations that engines would be slow with, or that no trained network has."""
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Mul", "Softmax", "MatMul", "Add")]
    for found in activations(model, names, images, spec, threads=1):
        for name, values in found.items():
            peak, tiny = float(np.abs(values).max()), np.finfo(np.float32).tiny
            denormal = int(((np.abs(values) < tiny) & (values != 0)).sum())
            if not 1e-4 < peak < 1e4 or denormal:
                raise SystemExit(f"{name}: largest {peak:g}, {denormal} denormal numbers")


def write(kind: str, model: onnx.ModelProto) -> None:
    """Pack a model into its asset."""
    del model.metadata_props[:]  # it is no artifact
    path = ASSETS / f"probe-{kind}.onnx.xz"
    path.write_bytes(lzma.compress(model.SerializeToString(deterministic=True), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
