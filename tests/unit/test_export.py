"""Exporters as a user meets them: artifacts, their names and reports, and every way to be refused."""

from __future__ import annotations

import importlib
import warnings

import cv2
import onnx
import pytest

from yolo12edge.artifact import Artifact, read_embedded_manifest
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import CheckpointError, DatasetError, InputError, VerificationError
from yolo12edge.exporters import onnx_from_checkpoint, onnx_int8_from_onnx
from yolo12edge.runtimes import Runtime

command = importlib.import_module("yolo12edge.cli.export")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp("scenes") / "data", train=4, val=3, size=96)


@pytest.fixture
def folder(tmp_path, scene_frames):
    path = tmp_path / "pictures"
    path.mkdir()
    for index, frame in enumerate(scene_frames[:3]):
        cv2.imwrite(str(path / f"{index}.png"), frame)
    return path


def test_same_checkpoint_same_bytes(tiny_checkpoint, tiny_onnx, tmp_path):
    again = onnx_from_checkpoint(tiny_checkpoint, tmp_path / "again", verify=False)
    assert again.manifest.files == tiny_onnx.manifest.files
    assert again.manifest.report.parity is None


def test_graph_is_static_standard_onnx(tiny_onnx):
    model = onnx.load(tiny_onnx.model_file)
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"If", "Loop", "Shape", "Gather", "Constant", "BatchNormalization", "Slice", "Expand"}
    assert {node.domain for node in model.graph.node} == {""}
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
    for value in [*model.graph.input, *model.graph.output]:
        assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"model.0.conv", "model.6.m.0.1.attn.proj.conv", "model.21.cv2.0.2"} <= set(names)


def test_manifest_is_embedded_without_what_varies(tiny_onnx):
    lone = read_embedded_manifest(tiny_onnx.model_file)
    assert lone.class_names == tiny_onnx.manifest.class_names
    assert lone.provenance.checkpoint_sha256 == tiny_onnx.manifest.provenance.checkpoint_sha256
    assert lone.report.parity is None
    assert lone.provenance.created == ""


@pytest.mark.parametrize("size", [100, 0, -32, (64, 65)])
def test_image_size_must_be_a_multiple_of_32(tiny_checkpoint, tmp_path, size):
    with pytest.raises(InputError, match="multiples of 32"):
        onnx_from_checkpoint(tiny_checkpoint, tmp_path / "o", image_size=size)
    assert not (tmp_path / "o").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        onnx_from_checkpoint(tmp_path / "missing.safetensors", tmp_path / "o")


def test_an_export_that_disagrees_is_not_written(tiny_checkpoint, tmp_path, scene_frames, monkeypatch):
    network = importlib.import_module("yolo12edge.exporters.onnx_network")
    plain = network._add
    monkeypatch.setattr(network, "_add", lambda w, a, b, path: plain(w, a, a if path == "model.4.m.0.add" else b, path))
    with pytest.raises(VerificationError, match="differs from torch"):
        onnx_from_checkpoint(tiny_checkpoint, tmp_path / "o", images=scene_frames[:1])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(tiny_checkpoint, tiny_onnx):
    with pytest.raises(InputError):
        onnx_from_checkpoint(tiny_checkpoint, tiny_onnx.path, verify=False)


def test_int8_of_int8_is_refused_and_calibration_is_recorded(tiny_onnx, tmp_path, folder):
    images = images_of_folder(folder)
    artifact = onnx_int8_from_onnx(tiny_onnx, tmp_path / "i", images=images, method="minmax")
    assert Artifact.load(artifact.path).manifest == artifact.manifest
    calibration = artifact.manifest.calibration
    assert sorted(calibration.images) == ["0.png", "1.png", "2.png"]
    assert (calibration.method, calibration.split) == ("minmax", "folder")
    assert "model.21.cv2.0.2" in calibration.float_nodes
    assert artifact.manifest.report.parity is None  # the float artifact's, not its own
    assert artifact.manifest.files[0].bytes < 0.45 * tiny_onnx.manifest.files[0].bytes
    with pytest.raises(InputError, match="int8 onnx"):
        onnx_int8_from_onnx(artifact, tmp_path / "j", images=images)


def test_command_writes_both_artifacts_and_says_what_int8_cost(tiny_checkpoint, scenes, tmp_path, capsys, monkeypatch):
    compare = importlib.import_module("yolo12edge.exporters.compare")
    monkeypatch.setattr(compare, "_REPEATS", 3)
    command.export(tiny_checkpoint, int8=True, data=relabel(scenes, tmp_path / "three"), out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tiny-fp32", "tiny-int8"]
    manifest = Artifact.load(tmp_path / "out" / "tiny-int8").manifest
    assert manifest.calibration.split == "train"
    assert all("train" in name for name in manifest.calibration.images)
    assert manifest.report.accuracy.images == 3
    assert manifest.report.accuracy.reference == "tiny-fp32"
    assert manifest.report.latency.samples == 3
    printed = capsys.readouterr()
    assert "AP50-95" in printed.out
    assert "points of AP50-95" in printed.err.replace("\n", " ")


def relabel(scenes, target):
    """Copy the scenes with labels of the tiny detector's three classes."""
    source = scenes.path.parent
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (target / kind / split).mkdir(parents=True)
        for image in sorted((source / "images" / split).iterdir()):
            (target / "images" / split / image.name).write_bytes(image.read_bytes())
            (target / "labels" / split / f"{image.stem}.txt").write_text("0 0.5 0.5 0.4 0.4\n1 0.3 0.3 0.2 0.2\n")
    (target / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [a, b, c]\n")
    return target / "data.yaml"


def test_data_of_other_classes_is_refused(tiny_checkpoint, scenes, tmp_path):
    with pytest.raises(DatasetError, match="the classes of"):
        command.export(tiny_checkpoint, int8=True, data=scenes.path, out=tmp_path / "out")


def test_int8_without_data_says_what_to_give(tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match="--data"):
        command.export(tiny_checkpoint, int8=True, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_folder_of_images_calibrates_without_scoring(tiny_checkpoint, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.import_module("yolo12edge.exporters.compare"), "_REPEATS", 2)
    command.export(tiny_checkpoint, int8=True, data=folder, out=tmp_path / "out")
    manifest = Artifact.load(tmp_path / "out" / "tiny-int8").manifest
    assert manifest.report.accuracy is None
    assert manifest.report.latency is not None
    assert "Accuracy was not measured" in capsys.readouterr().err.replace("\n", " ")


def test_float_only_needs_no_data(tiny_checkpoint, tmp_path, capsys):
    command.export(tiny_checkpoint, out=tmp_path, imgsz=64)
    assert Artifact.load(tmp_path / "tiny-fp32").manifest.input.height == 64
    assert "largest difference to PyTorch" in capsys.readouterr().out


def test_eight_bit_weights_on_a_processor_that_saturates_are_said(tiny_onnx, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("yolo12edge.exporters.int8_from_onnx.int8_saturates", lambda: False)
    artifact = onnx_int8_from_onnx(tiny_onnx, tmp_path / "int8", images=images_of_folder(folder))
    if not artifact.manifest.calibration.placement.endswith("-u8"):
        pytest.skip("products saturate on x86 only")
    monkeypatch.setattr("yolo12edge.runtimes.runtime.int8_saturates", lambda: True)
    with pytest.warns(RuntimeWarning, match="saturate"):
        Runtime(artifact).close()
    monkeypatch.setattr("yolo12edge.runtimes.runtime.int8_saturates", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Runtime(artifact).close()


def test_export_refuses_before_it_writes(tiny_checkpoint, scenes, folder, tmp_path):
    (tmp_path / "tiny-int8").mkdir()
    (tmp_path / "tiny-int8" / "file").touch()
    with pytest.raises(InputError, match="tiny-int8 exists"):
        command.export(tiny_checkpoint, int8=True, data=folder, out=tmp_path)
    with pytest.raises(DatasetError, match="classes"):
        command.export(tiny_checkpoint, int8=True, data=scenes.path, out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "tiny-int8"]
