"""What is observed of a model's tensors, each figure against a plain reckoning."""

from __future__ import annotations

import importlib
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import numpy_helper

from yolo12edge.calibration.graph import Graph, graph_digest, load_model, observable_tensors
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.observe import TensorObserver, observe, parts_of
from yolo12edge.calibration.tensor_statistics import BINS
from yolo12edge.errors import ExportError, InputError
from yolo12edge.preprocess import Preprocessor


def observed(*parts):
    observer = TensorObserver()
    assert all(observer.add(part) for part in parts)
    return observer.result()


@settings(max_examples=40)
@given(
    st.integers(1, 40).flatmap(
        lambda size: st.lists(
            hnp.arrays(np.float32, size, elements=st.floats(-1e4, 1e4, width=32)), min_size=1, max_size=5
        )
    )
)
def test_histogram_grows_without_losing_a_value(parts):
    statistics = observed(*parts)
    values = np.concatenate(parts)
    assert statistics.low == values.min()
    assert statistics.high == values.max()
    assert statistics.limit >= np.abs(values).max()
    assert statistics.counts.sum() == values.size
    # What was counted before a doubling lies where the final bins would have put it, up to rounding at an edge.
    edges, slack = statistics.edges(), statistics.limit / BINS / 50
    below = np.concatenate(([0], np.cumsum(statistics.counts)))
    values.sort()
    assert (np.searchsorted(values, edges - slack, side="left")[:-1] <= below[:-1]).all()
    assert (below <= np.searchsorted(values, edges + slack, side="right")).all()


@pytest.mark.parametrize("peak", [1e-30, 0.75, 1.0, 3e38])
def test_histogram_is_as_fine_as_its_values(peak):
    statistics = observed(np.array([peak, -peak / 2], np.float32))
    assert peak <= statistics.limit * (1 + 1e-6) < 2 * peak * (1 + 1e-6)
    assert statistics.counts.sum() == 2


@pytest.mark.parametrize("shape", [(1, 64, 40, 40), (1, 16, 160, 160), (2, 4, 100, 400)])
def test_every_channel_row_and_column_is_sampled(shape):
    images = 24
    for axis in range(1, len(shape)):
        for index in {0, shape[axis] // 2, shape[axis] - 1}:
            values = np.zeros(shape, np.float32)
            np.moveaxis(values, axis, 0)[index] = 1.0
            statistics = observed(*[values] * images)
            share = statistics.counts[BINS // 2 + 1 :].sum() / statistics.counts.sum()
            assert share == pytest.approx(1 / shape[axis], rel=0.1)


def test_each_image_is_sampled_elsewhere():
    values = np.zeros((1, 16, 160, 160), np.float32)
    values.reshape(-1)[::27] = 1.0  # the very step of the sampling: from a fixed start all of these, or none
    statistics = observed(*[values] * 32)
    assert 1 / 81 < statistics.counts[BINS // 2 + 1 :].sum() / statistics.counts.sum() < 1 / 9


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4, 5)])
def test_peak_and_mean_by_channel(shape):
    parts = [np.random.default_rng(seed).normal(seed, 1 + seed, shape).astype(np.float32) for seed in range(3)]
    statistics = observed(*parts)
    rows = np.stack(parts)
    rows = np.moveaxis(rows, 2, 0).reshape(shape[1], -1) if len(shape) > 1 else rows.reshape(1, -1)
    np.testing.assert_allclose(statistics.channel_mean, rows.mean(1, dtype=np.float64), rtol=1e-5)
    np.testing.assert_array_equal(statistics.channel_peak, np.abs(rows).max(1))
    assert statistics.channel_mean.dtype == np.float64
    assert statistics.channel_peak.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_not_counted(bad):
    observer = TensorObserver()
    assert observer.add(np.ones((1, 2, 3), np.float32))
    values = np.ones((1, 2, 3), np.float32)
    values[0, 1, 2] = bad
    assert not observer.add(values)
    assert observer.result().counts.sum() == 6


@pytest.fixture(scope="module")
def model(tiny_onnx):
    return tiny_onnx.model_file.read_bytes()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, scene_frames):
    folder = tmp_path_factory.mktemp("pictures")
    for index, frame in enumerate(scene_frames[:3]):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return images_of_folder(folder)


@pytest.fixture(scope="module")
def statistics(model, pictures, tiny_onnx):
    return observe(model, pictures, tiny_onnx.manifest.input, threads=1)


def test_every_tensor_that_may_be_quantized_is_observed(model, statistics, pictures, tiny_onnx):
    proto = load_model(model)
    assert list(statistics.tensors) == observable_tensors(Graph.of(proto))
    assert statistics.model_digest == graph_digest(proto)
    assert statistics.input == tiny_onnx.manifest.input
    assert statistics.images == tuple(pictures.names)
    assert statistics.images_digest == pictures.digest()
    assert statistics.split == "folder"


def test_observed_values_are_those_of_the_model(model, statistics, pictures, tiny_onnx):
    import onnxruntime

    names = ["model.0.conv", "model.6.m.0.0.attn.logits", "model.21.cv3.2.1.1.silu"]
    proto = onnx.load_from_string(model)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = list(pictures.batches(Preprocessor(tiny_onnx.manifest.input)))
    runs = [session.run([*names, "scores"], {"images": image}) for image in inputs]
    assert statistics.tensors["images"].high == max(image.max() for image in inputs)
    for place, name in enumerate(names):
        values = np.stack([run[place] for run in runs])
        item = statistics.tensors[name]
        assert item.low == pytest.approx(values.min(), rel=1e-4)
        assert item.high == pytest.approx(values.max(), rel=1e-4)
        np.testing.assert_allclose(item.channel_mean, values.mean((0, 1, 3, 4)), rtol=1e-3, atol=1e-4)
    assert statistics.images_with_objects == sum(run[-1].max() >= 0.25 for run in runs)


def test_a_large_model_is_observed_in_parts(model, statistics, pictures, tiny_onnx, monkeypatch):
    proto = load_model(model)
    names = list(statistics.tensors)
    parts = parts_of(proto, names, limit=1 << 20)
    assert len(parts) > 3
    assert [name for part in parts for name in part] == names
    assert parts_of(proto, names) == [names]
    module = importlib.import_module("yolo12edge.calibration.observe")
    monkeypatch.setattr(module, "parts_of", lambda *args: parts_of(*args, limit=1 << 20))
    seen: list[tuple[int, int]] = []
    again = observe(
        model, pictures, tiny_onnx.manifest.input, threads=1, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (len(seen), len(seen))
    assert len(seen) > 9
    assert again.images_with_objects == statistics.images_with_objects
    for name, item in statistics.tensors.items():
        assert again.tensors[name].high == pytest.approx(item.high, rel=1e-3, abs=1e-3)


def test_an_image_that_cannot_be_read_is_named(model, pictures, tiny_onnx, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(pictures.paths[0].read_bytes()[:100])
    for path in (bad, tmp_path / "missing.png"):
        images = replace(pictures, paths=(*pictures.paths[:1], path))
        with pytest.raises(InputError, match=path.name):
            observe(model, images, tiny_onnx.manifest.input, threads=1)


def test_no_image_is_refused(model, pictures, tiny_onnx):
    with pytest.raises(InputError, match="no image"):
        observe(model, replace(pictures, paths=()), tiny_onnx.manifest.input, threads=1)


def with_weight(model, name, value):
    proto = onnx.load_from_string(model)
    (item,) = (item for item in proto.graph.initializer if item.name == name)
    weight = numpy_helper.to_array(item).copy()
    weight[0] = value
    item.CopyFrom(numpy_helper.from_array(weight, name))
    return proto.SerializeToString()


def test_activations_that_are_not_finite_are_named(model, pictures, tiny_onnx):
    content = with_weight(model, "model.3.conv.weight", 1e38)
    with pytest.raises(InputError, match=r"not finite in model\.3\.conv on .*\.png"):
        observe(content, pictures, tiny_onnx.manifest.input, threads=1)


def test_a_weight_that_is_not_finite_is_named(model, pictures, tiny_onnx):
    content = with_weight(model, "model.3.conv.weight", np.nan)
    with pytest.raises(ExportError, match=r"model\.3\.conv\.weight"):
        observe(content, pictures, tiny_onnx.manifest.input, threads=1)
