"""Rounding of weights together, and the Gram matrices that it needs."""

from __future__ import annotations

import importlib
import itertools

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from yolo12edge.calibration.grams import observe_grams
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.quantizers import largest_weight, quantize_weight
from yolo12edge.calibration.rounding import adaround, round_with_feedback
from yolo12edge.preprocess import Preprocessor

ROUNDINGS = (adaround, round_with_feedback)


def problem(*, groups=1, out=8, inputs=6, size=3, seed=0):
    """A weight and the Gram matrices of inputs that vary together, as pixels do."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((out, inputs // groups, size, size)).astype(np.float32)
    k = inputs // groups * size * size
    patches = rng.standard_normal((groups, 400, k)) @ rng.standard_normal((groups, k, k)) * 0.3
    patches += rng.standard_normal((groups, 400, 1)) * 2 + 1
    return weight, (patches.swapaxes(1, 2) @ patches / 400).astype(np.float32)


def errors(weight, integers, scales, gram):
    change = (integers * scales[:, None, None, None].astype(np.float64) - weight).reshape(len(gram), -1, gram.shape[1])
    return np.einsum("gok,gkl,gol->go", change, gram.astype(np.float64), change).reshape(-1)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize(("groups", "inputs", "size"), [(1, 6, 3), (1, 40, 1), (2, 8, 3), (8, 8, 7)])
def test_error_is_less_than_half_of_that_of_the_nearest(rounding, reduced, groups, inputs, size):
    weight, gram = problem(groups=groups, inputs=inputs, size=size)
    nearest, scales = quantize_weight(weight, reduced_range=reduced)
    integers = rounding(weight, scales, gram, largest=largest_weight(reduced))
    assert integers.dtype == np.int8
    assert integers.shape == weight.shape
    assert np.abs(integers.astype(int)).max() <= largest_weight(reduced)
    before, after = (errors(weight, item, scales, gram) for item in (nearest, integers))
    assert (after <= before * (1 + 1e-6)).all()
    assert after.sum() < 0.5 * before.sum()


def test_adaround_only_rounds_up_or_down():
    weight, gram = problem()
    _, scales = quantize_weight(weight, reduced_range=True)
    integers = adaround(weight, scales, gram, largest=64)
    units = weight / scales[:, None, None, None]
    inside = np.abs(units) < 64
    assert (np.abs(integers - units)[inside] < 1.0001).all()
    assert (integers != np.clip(np.rint(units), -64, 64)).any()


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_inputs_that_do_not_vary_together_are_rounded_to_the_nearest(rounding):
    weight, _ = problem()
    nearest, scales = quantize_weight(weight, reduced_range=False)
    gram = np.diag(np.random.default_rng(0).uniform(0.5, 2, 54)).astype(np.float32)[None]
    np.testing.assert_array_equal(rounding(weight, scales, gram, largest=127), nearest)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_clipped_weights_stay_clipped(rounding):
    weight, gram = problem()
    scales = np.abs(weight).max((1, 2, 3)) / 64 / 2
    integers = rounding(weight, scales, gram, largest=64)
    units = weight / scales[:, None, None, None]
    assert (np.abs(units) > 66).any()
    assert np.abs(integers.astype(int)).max() == 64
    if rounding is adaround:
        np.testing.assert_array_equal(integers[np.abs(units) > 64], 64 * np.sign(units[np.abs(units) > 64]))
    nearest = np.clip(np.rint(units), -64, 64)
    assert errors(weight, integers, scales, gram).sum() < errors(weight, nearest, scales, gram).sum()


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_dead_inputs_do_no_harm(rounding):
    weight, gram = problem(groups=2, inputs=8)
    gram[0] = 0
    gram[1, 5] = gram[1, :, 5] = 0
    nearest, scales = quantize_weight(weight, reduced_range=False)
    integers = rounding(weight, scales, gram, largest=127)
    np.testing.assert_array_equal(integers[:4], nearest[:4])
    assert errors(weight, integers, scales, gram).sum() < errors(weight, nearest, scales, gram).sum()


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_small_problems_come_near_the_best_rounding(rounding):
    found = best = plain = 0.0
    for seed in range(10):
        weight, gram = problem(out=1, inputs=8, size=1, seed=seed)
        nearest, scales = quantize_weight(weight, reduced_range=True)
        floor = np.floor(weight / scales[:, None, None, None])
        every = np.array(list(itertools.product((0, 1), repeat=8))).reshape(-1, 1, 8, 1, 1)
        best += min(errors(weight, np.clip(floor + up, -64, 64), scales, gram)[0] for up in every)
        found += errors(weight, rounding(weight, scales, gram, largest=64), scales, gram)[0]
        plain += errors(weight, nearest, scales, gram)[0]
    assert found < best + 0.3 * (plain - best)


@pytest.fixture(scope="module")
def layers():
    """A float model of convolutions of every kind, named as this project names them."""
    rng = np.random.default_rng(0)
    shapes = {  # weight, and attributes
        "model.0.conv": ((6, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        "model.1.conv": ((8, 3, 3, 5), {"group": 2, "pads": [1, 2, 0, 1]}),
        "model.2.conv": ((8, 1, 7, 7), {"group": 8, "pads": [3, 3, 3, 3]}),
        "model.3.conv": ((4, 8, 1, 1), {}),
        "model.4.conv": ((4, 4, 3, 3), {"dilations": [2, 1], "strides": [1, 2]}),
        "model.21.cv2.0.2": ((4, 4, 1, 1), {}),
    }
    nodes, constants, source = [], [], "images"
    for name, (shape, attributes) in shapes.items():
        weight = (rng.standard_normal(shape) * 0.3).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"{name}.weight"))
        nodes.append(helper.make_node("Conv", [source, f"{name}.weight"], [name], name=name, **attributes))
        source = name
    values = [helper.make_tensor_value_info("images", 1, [1, 3, 32, 40]), onnx.ValueInfoProto(name=source)]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, list(shapes)


def unfolded(values, weight, attributes):
    """Every patch, one position after the other: (groups, positions, K)."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
    (sy, sx), (dy, dx) = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    _, each, height, width = weight.shape
    rows = []
    for y in range(0, padded.shape[1] - dy * (height - 1), sy):
        for x in range(0, padded.shape[2] - dx * (width - 1), sx):
            window = padded[:, y : y + dy * (height - 1) + 1 : dy, x : x + dx * (width - 1) + 1 : dx]
            rows.append(window.reshape(len(padded) // each, -1))
    return np.stack(rows, axis=1)


@pytest.fixture
def pictures(tmp_path, scene_frames):
    for index, frame in enumerate(scene_frames[:2]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), frame)
    return images_of_folder(tmp_path)


@pytest.mark.parametrize("in_parts", [False, True])
def test_gram_matrices_are_those_of_all_patches(layers, pictures, tiny_onnx, monkeypatch, in_parts):
    import msgspec
    import onnxruntime

    model, names = layers
    spec = msgspec.structs.replace(tiny_onnx.manifest.input, height=32, width=40)
    if in_parts:
        module = importlib.import_module("yolo12edge.calibration.grams")
        plain = module.parts_of
        monkeypatch.setattr(module, "parts_of", lambda *args: plain(*args, limit=20_000))
    seen: list[tuple[int, int]] = []
    content = model.SerializeToString()
    grams = observe_grams(
        content, names, pictures, spec, patches=10**6, threads=1, progress=lambda *at: seen.append(at)
    )
    assert list(grams) == names
    assert seen[-1] == (len(seen), len(seen))
    assert (len(seen) > 2) == in_parts
    sampled = observe_grams(content, names, pictures, spec, patches=100, threads=1)

    extended = onnx.load_from_string(content)
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names[:-1])
    session = onnxruntime.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])
    tensors = ["images", *names[:-1]]
    runs = [
        dict(zip(tensors, [image, *session.run(names[:-1], {"images": image})], strict=True))
        for image in pictures.batches(Preprocessor(spec))
    ]
    weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        rows = np.concatenate(
            [unfolded(run[node.input[0]], weights[node.input[1]], given) for run in runs], axis=1
        ).astype(np.float64)
        wanted = rows.swapaxes(1, 2) @ rows / rows.shape[1]
        np.testing.assert_allclose(grams[node.name], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
        assert np.abs(sampled[node.name] - wanted).mean() < 0.15 * np.abs(wanted).max()
        assert sampled[node.name].dtype == np.float32
